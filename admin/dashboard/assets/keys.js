// The list of API keys.
import { fill, h, icon } from './dom.js';
import { call, get, isAbort, nextOf } from './api.js';
import { keepQuery } from './router.js';
import { makesKeys, seesAll } from './session.js';
import { empty, pager } from './table.js';
import { keyTable, showUsage } from './keytable.js';
import { createKey } from './createkey.js';
import { count } from './format.js';
import { report } from './toast.js';

/** @typedef {import('./keytable.js').Key} Key */

const pageLength = 25;

const states = [
  ['', 'All states'], ['active', 'Active'], ['paused', 'Paused'], ['expired', 'Expired'], ['expiring', 'Expiring soon'], ['never_used', 'Never used'],
  ['unused_30d', 'Unused for 30 days'],
];

/** @type {import('./router.js').Page['show']} */
export async function showKeys(main, { query, signal }) {
  const filter = { search: query.get('search') || '', state: query.get('state') || '', owner: query.get('owner') || (seesAll() ? '*' : '') };
  /** @type {string[]} where each page before this one began */
  let path = [];
  const list = h('div.list', { 'aria-live': 'off' });
  const search = h('input', { type: 'search', 'aria-label': 'Search keys', placeholder: 'Search by name, hint, notes or metadata', value: filter.search, name: 'search' });
  const state = h('select', { 'aria-label': 'State', name: 'state' }, states.map(([value, text]) => h('option', { value, selected: value === filter.state }, text)));
  const owner = seesAll() ? h('select', { 'aria-label': 'Owner', name: 'owner' },
    h('option', { value: '*', selected: filter.owner === '*' }, 'Keys of all users'),
    h('option', { value: 'me', selected: filter.owner === 'me' }, 'My keys')) : null;
  const generate = () => makesKeys() && h('button.generate', { type: 'button', onclick: () => createKey(() => void reload()) }, icon('plus'), 'Generate Key');

  let loading = new AbortController();
  signal.addEventListener('abort', () => loading.abort());
  const load = async () => {
    loading.abort();
    loading = new AbortController();
    const run = loading.signal;
    list.setAttribute('aria-busy', 'true');
    const { data, headers } = await call('GET', 'api-keys/', {
      signal: run, query: { search: filter.search, state: filter.state, owner: filter.owner === 'me' ? '' : filter.owner, limit: pageLength, after: path.at(-1) },
    });
    if (run.aborted) return;
    list.removeAttribute('aria-busy');
    render(data, Number(headers.get('X-Total-Count') || data.length), nextOf(headers, 'after'));
    void showUsage(list, data, (ids) => get('usage/', { query: { key_id: ids }, signal: run })).catch(report);
  };
  const reload = () => load().catch((error) => {
    if (!isAbort(error)) list.removeAttribute('aria-busy');
    report(error);
  });
  const restart = () => {
    path = [];
    keepQuery({ search: filter.search, state: filter.state, owner: filter.owner === 'me' ? 'me' : '' });
    void reload();
  };
  /** @param {Key[]} keys @param {number} total @param {string | null} next */
  const render = (keys, total, next) => {
    if (keys.length > 0) {
      const begin = path.length * pageLength + 1;
      fill(list, keyTable(keys, filter.owner === '*', () => void reload()), pager({
        text: total > keys.length ? `${begin}–${begin + keys.length - 1} of ${count(total, 'key')}` : count(total, 'key'),
        previous: path.length > 0 ? () => { path.pop(); void reload(); } : null,
        next: next ? () => { path.push(next); void reload(); } : null,
      }));
    } else if (filter.search || filter.state) {
      fill(list, empty('No key matches', 'Try other words or another state.', h('button.secondary', {
        type: 'button',
        onclick: () => {
          filter.search = search.value = '';
          filter.state = state.value = '';
          search.focus();
          restart();
        },
      }, 'Clear filters')));
    } else if (makesKeys()) {
      fill(list, empty('No API keys yet', 'A key lets your app, script or server call the API. It takes a few seconds to make one.', generate()));
    } else {
      fill(list, empty('No API keys yet', 'Keys that users make are listed here.'));
    }
  };

  let typing = 0;
  search.addEventListener('input', () => {
    clearTimeout(typing);
    typing = window.setTimeout(() => {
      filter.search = search.value.trim();
      restart();
    }, 200);
  });
  state.addEventListener('change', () => {
    filter.state = state.value;
    restart();
  });
  owner?.addEventListener('change', () => {
    filter.owner = owner.value;
    restart();
  });
  fill(main,
    h('div.page-head', null, h('div', null, h('h1', { tabindex: '-1' }, 'API Keys'),
      h('p.muted', null, 'Almost every call to the API needs an ', h('code', null, 'api-key'), ' header. Make and manage the keys here.')), generate()),
    h('div.toolbar', null, search, state, owner), list);
  await load();
}
