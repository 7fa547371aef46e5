// All of one key.
import { fill, h, icon } from './dom.js';
import { get, patch } from './api.js';
import { go } from './router.js';
import { changesKey } from './session.js';
import { openDialog } from './dialog.js';
import { form } from './form.js';
import { keyFields } from './keyform.js';
import { badges, warningList } from './keytable.js';
import { changesOf } from './keyactions.js';
import { button as menuButton } from './menu.js';
import { usageCard } from './usagecard.js';
import { limitCard } from './livelimit.js';
import { explainCard } from './explain.js';
import { eventList } from './events.js';
import { ago, date } from './format.js';
import { report, toast } from './toast.js';

/** @typedef {import('./keytable.js').Key} Key */

const interval = 10_000; // milliseconds

/** @type {import('./router.js').Page['show']} */
export async function showKey(main, { parts, signal }) {
  const path = `api-keys/${parts[0]}/`;
  const top = h('div');
  const settings = h('section.card', { 'aria-labelledby': 'settings-title' });
  const trail = h('section.card.wide-card', { 'aria-labelledby': 'trail-title' }, h('h2', { id: 'trail-title' }, 'History'));
  /** @type {Key} */
  let key = await get(path, { signal });
  if (signal.aborted) return;

  const refresh = async () => {
    try {
      key = await get(path, { signal });
      paint();
    } catch (error) {
      report(error);
    }
  };
  const paint = () => {
    document.title = `${key.name} · TokenKit`;
    const focused = top.contains(document.activeElement);
    fill(top, head(key, () => void refresh()));
    if (focused) top.querySelector('h1')?.focus();
    fill(settings, settingsOf(key, () => void refresh()));
    void limit.refresh();
    void showTrail(trail, key, signal).catch(report);
  };
  // Others change keys too, and the time of last use is told some seconds late.
  const timer = setInterval(async () => {
    const busy = [top, settings, trail].some((part) => part.contains(document.activeElement)) || document.querySelector('dialog[open]');
    if (document.hidden || busy) return;
    const next = await get(path, { signal }).catch(() => null);
    if (!next || signal.aborted || JSON.stringify(next) === JSON.stringify(key)) return;
    key = next;
    paint();
  }, interval);
  signal.addEventListener('abort', () => clearInterval(timer));
  const limit = limitCard(() => key, signal);
  fill(main, h('a.back', { href: '/settings/api-keys' }, icon('back'), 'API Keys'), top,
    h('div.cards', null, usageCard(key.id, signal), h('div.column', null, limit.element, settings), explainCard(() => key), trail));
  paint();
}

/** @param {Key} key @param {() => void} changed */
function head(key, changed) {
  return [
    h('div.page-head', null,
      h('div', null, h('h1', { tabindex: '-1' }, key.name),
        h('p.facts', null, badges(key), h('code', null, key.hint), h('span.muted', null, `of ${key.owner}`),
          h('span.muted', { title: date(key.created_at) }, `created ${ago(key.created_at)}`),
          h('span.muted', null, key.last_used_at ? `last used ${ago(key.last_used_at)}` : 'never used'))),
      changesKey(key) ? h('div.head-actions', null,
        h('button.secondary', { type: 'button', onclick: () => edit(key, changed) }, 'Edit'),
        menuButton({
          label: h('span', null, 'Actions'), name: `Actions for ${key.name}`,
          items: changesOf(key, changed, () => void go('/settings/api-keys')),
        })) : null),
    key.state === 'paused' ? h('div.notice', null, icon('block'), h('p', null, 'This key is paused: all its calls get 403 Forbidden.')) : null,
    key.state === 'expired' ? h('div.notice.warn', null, icon('warn'), h('p', null, 'This key has expired: all its calls get 401 Unauthorized. Edit it to set another date.')) : null,
    key.previous_expires_at ? h('div.notice', null, icon('key'), h('p', null,
      `The old value ${key.previous_hint} still works until ${date(key.previous_expires_at)} (${ago(key.previous_expires_at)}).`)) : null,
    ...warningList(key.warnings),
  ];
}

/** @param {Key} key @param {() => void} changed */
function edit(key, changed) {
  const fields = keyFields(key);
  const before = fields.read();
  const body = form(async () => {
    const read = fields.read();
    const change = Object.fromEntries(Object.entries(read).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name])));
    if (Object.keys(change).length > 0) {
      await patch(`api-keys/${key.id}/`, change);
      toast('Changes saved');
    }
    dialog.close();
    changed();
  },
  h('div.scroll', null, ...fields.main, ...fields.more),
  h('footer', null, h('button.secondary', { type: 'button', onclick: () => dialog.close() }, 'Cancel'), h('button', { type: 'submit' }, 'Save changes')));
  const dialog = openDialog({ title: `Edit ${key.name}`, body: [body], wide: true });
}

/** @param {Key} key @param {() => void} changed */
function settingsOf(key, changed) {
  /** @param {string} name @param {string[]} values @param {string} none */
  const list = (name, values, none) => [h('dt', null, name), h('dd', null,
    values.length > 0 ? h('ul.plain', null, values.map((value) => h('li', null, h('code', null, value)))) : h('span.muted', null, none))];
  const metadata = Object.entries(key.metadata);
  return [
    h('div.card-head', null, h('h2', { id: 'settings-title' }, 'Settings'),
      changesKey(key) ? h('button.secondary.small', { type: 'button', 'aria-label': 'Edit settings', onclick: () => edit(key, changed) }, 'Edit') : null),
    h('dl', null,
      list('Allowed origins', key.allowed_origins, 'Any origin'),
      list('Allowed IPs', key.allowed_ips, 'Any address'),
      h('dt', null, 'Check'), h('dd', null, key.strict ? 'Both lists on every request' : 'Origin if the request has one, otherwise IP'),
      list('Scopes', key.scopes, 'Everything'),
      h('dt', null, 'Expires'), h('dd', null, key.expires_at ? `${date(key.expires_at)} (${ago(key.expires_at)})` : h('span.muted', null, 'Never')),
      metadata.length > 0 ? list('Metadata', metadata.map(([name, value]) => `${name}: ${value}`), '') : null,
      key.notes ? [h('dt', null, 'Notes'), h('dd.notes', null, key.notes)] : null),
  ];
}

/** @param {HTMLElement} section @param {Key} key @param {AbortSignal} signal */
async function showTrail(section, key, signal) {
  const events = await get('audit/', { query: { target: 'key', target_id: key.id, limit: 20 }, signal });
  fill(section, h('h2', { id: 'trail-title' }, 'History'),
    events.length > 0 ? eventList(events, false) : h('p.muted', null, 'Nothing was recorded for this key.'));
}
