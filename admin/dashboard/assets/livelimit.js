// How much of a key's limit is left, kept up to date while it is looked at.
import { fill, h } from './dom.js';
import { get, isAbort } from './api.js';
import { limitBar } from './keytable.js';
import { dateSeconds, number, until } from './format.js';

const interval = 3000; // milliseconds

/**
 * @param {() => import('./keytable.js').Key} key
 * @param {AbortSignal} signal
 * @returns {{element: HTMLElement, refresh: () => Promise<void>}}
 */
export function limitCard(key, signal) {
  const body = h('div');
  const element = h('section.card', { 'aria-labelledby': 'limit-title' }, h('div.card-head', null, h('h2', { id: 'limit-title' }, 'Hourly limit'), h('span.live', null, 'Live')), body);
  const refresh = async () => {
    try {
      show(body, await get(`api-keys/${key().id}/limit/`, { signal }));
    } catch (error) {
      if (isAbort(error) || signal.aborted) return;
      fill(body, h('p.muted', null, /** @type {any} */ (error).status === 501 ? 'This server does not report limits.' : 'The limit cannot be read now.'));
    }
  };
  const timer = setInterval(() => {
    if (!document.hidden) void refresh();
  }, interval);
  signal.addEventListener('abort', () => clearInterval(timer));
  return { element, refresh };
}

/**
 * @param {HTMLElement} body
 * @param {import('./keytable.js').Limit} limit
 */
function show(body, limit) {
  if (!limit.limit) {
    fill(body, h('p.big', null, 'No limit'), h('p.muted', null, 'This key may call as often as it likes.'));
    return;
  }
  const full = limit.remaining === 0;
  fill(body,
    h('p.big', null, number(limit.remaining ?? limit.limit), h('span.unit', null, full ? ' calls left' : ` of ${number(limit.limit)} calls left`)),
    limitBar(limit),
    h('dl.compact', null,
      h('dt', null, 'Used in the last 60 minutes'), h('dd', null, number(limit.used || 0)),
      h('dt', null, full ? 'Next call possible' : 'First calls return'),
      h('dd', { title: limit.resets_at ? dateSeconds(limit.resets_at) : null }, limit.resets_at && limit.used ? `in ${until(limit.resets_at)}`.replace('in now', 'now') : 'All are available')));
}
