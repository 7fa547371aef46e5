// Addresses that are refused for their failures.
import { fill, h } from './dom.js';
import { get, post, Problem } from './api.js';
import { managesAll } from './session.js';
import { empty, table } from './table.js';
import { ago, date, number, until } from './format.js';
import { report, toast } from './toast.js';

const interval = 10_000; // milliseconds

/** @type {import('./router.js').Page['show']} */
export async function showBlocked(main, { signal }) {
  const list = h('div.list');
  const load = async () => {
    const blocks = await get('blocked/', { signal });
    if (signal.aborted) return;
    const focused = list.contains(document.activeElement);
    fill(list, blocks.length > 0 ? blockTable(blocks, () => void load().catch(report))
      : empty('No address is blocked', 'Ten failed attempts from one address in five minutes block it for the rest of these five minutes.',
        h('button.secondary', { type: 'button', onclick: () => void load().catch(report) }, 'Check again')));
    if (focused) (list.querySelector('button') || main.querySelector('h1'))?.focus();
  };
  fill(main, h('div.page-head', null, h('div', null, h('h1', { tabindex: '-1' }, 'Blocked addresses'),
    h('p.muted', null, 'These get 403 Forbidden for every request, even with a good key.'))), list);
  try {
    await load();
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 501) throw error;
    fill(list, empty('Not available', 'This server does not block addresses.'));
    return;
  }
  const timer = setInterval(() => {
    if (!document.hidden && !list.contains(document.activeElement)) void load().catch(() => {});
  }, interval);
  signal.addEventListener('abort', () => clearInterval(timer));
}

/**
 * @param {{address: string, failures: number, reason: string, since: string | null, until: string}[]} blocks
 * @param {() => void} changed
 */
function blockTable(blocks, changed) {
  const columns = ['Address', 'Reason', 'Failures', 'Since', 'Time left', ...(managesAll() ? ['-Actions'] : [])];
  return table('Blocked addresses', columns, blocks.map((block) => [
    h('code', null, block.address),
    reason(block.reason),
    number(block.failures),
    block.since ? h('time', { datetime: block.since, title: date(block.since) }, ago(block.since)) : '–',
    h('time', { datetime: block.until, title: date(block.until) }, until(block.until)),
    ...(managesAll() ? [h('button.secondary.small', {
      type: 'button', 'aria-label': `Unblock ${block.address}`,
      onclick: async () => {
        try {
          await post('blocked/remove/', { address: block.address });
          toast(`${block.address} is unblocked`);
        } catch (error) {
          report(error);
        }
        changed();
      },
    }, 'Unblock')] : []),
  ]));
}

/** @param {string} code */
const reason = (code) => (code ? ({
  unknown_key: 'Unknown key', invalid_key: 'Unknown key', malformed_key: 'Malformed key', origin_not_allowed: 'Wrong origin', ip_not_allowed: 'Wrong IP',
  rate_limited: 'Rate limited', rate_limit_exceeded: 'Rate limited',
}[code] || code) : 'Too many failures');
