// Who did what, and when.
import { fill, h } from './dom.js';
import { call, nextOf } from './api.js';
import { keepQuery } from './router.js';
import { seesAll } from './session.js';
import { empty, pager } from './table.js';
import { actionFilters, eventList } from './events.js';
import { count } from './format.js';
import { report } from './toast.js';

const pageLength = 50;

/** @type {import('./router.js').Page['show']} */
export async function showAudit(main, { query, signal }) {
  const filter = { action: query.get('action') || '', actor: query.get('actor') || '' };
  /** @type {string[]} */
  let path = [];
  const list = h('div.list');
  const action = h('select', { name: 'action', 'aria-label': 'Action' }, actionFilters.map(([value, text]) => h('option', { value, selected: value === filter.action }, text)));
  const actor = seesAll() ? h('input', { type: 'search', name: 'actor', 'aria-label': 'User', placeholder: 'User name', value: filter.actor, spellcheck: 'false', autocapitalize: 'none' }) : null;
  const link = seesAll() ? h('a.secondary.small', { role: 'button', download: 'audit.jsonl', href: '#' }, 'Export') : null;

  const load = async () => {
    const parameters = new URLSearchParams(Object.entries(filter).filter(([, value]) => value !== ''));
    if (link) link.href = `/api/users/auth/audit/export/${parameters.size > 0 ? `?${parameters}` : ''}`;
    list.setAttribute('aria-busy', 'true');
    try {
      const { data, headers } = await call('GET', 'audit/', { signal, query: { ...filter, limit: pageLength, before: path.at(-1) } });
      const next = nextOf(headers, 'before');
      fill(list, data.length > 0 ? eventList(data, true) : empty('Nothing here', filter.action || filter.actor ? 'No event matches these filters.' : 'What users do is listed here.'),
        data.length > 0 ? pager({
          text: count(data.length, 'event'),
          previous: path.length > 0 ? () => { path.pop(); void reload(); } : null,
          next: next ? () => { path.push(next); void reload(); } : null,
        }) : null);
    } finally {
      list.removeAttribute('aria-busy');
    }
  };
  const reload = () => load().catch(report);
  const restart = () => {
    path = [];
    keepQuery(filter);
    void reload();
  };
  action.addEventListener('change', () => {
    filter.action = action.value;
    restart();
  });
  let typing = 0;
  actor?.addEventListener('input', () => {
    clearTimeout(typing);
    typing = window.setTimeout(() => {
      filter.actor = actor.value.trim();
      restart();
    }, 300);
  });
  fill(main,
    h('div.page-head', null, h('div', null, h('h1', { tabindex: '-1' }, 'Audit log'),
      h('p.muted', null, seesAll() ? 'Every sign-in, failed sign-in and change, newest first.' : 'What you did, newest first.')), link),
    h('div.toolbar', null, actor, action), list);
  await load();
}
