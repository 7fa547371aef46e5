// The table of keys: what each is, does, and what can be done with it.
import { fill, h, icon } from './dom.js';
import { button as menuButton } from './menu.js';
import { table } from './table.js';
import { ago, date, number, short } from './format.js';
import { actionsOf } from './keyactions.js';
import { sparkline, total } from './sparkline.js';

/**
 * @typedef {object} Key
 * @property {number} id
 * @property {string} name
 * @property {string} hint
 * @property {string} owner
 * @property {string} created_at
 * @property {string | null} last_used_at
 * @property {string | null} updated_at
 * @property {string | null} expires_at
 * @property {string[]} allowed_origins
 * @property {string[]} allowed_ips
 * @property {boolean} strict
 * @property {number | null} rate_limit_per_hour
 * @property {string[]} scopes
 * @property {string} notes
 * @property {Record<string, string>} metadata
 * @property {boolean} enabled
 * @property {'active' | 'paused' | 'expired'} state
 * @property {string} previous_hint
 * @property {string | null} previous_expires_at
 * @property {{code: string, message: string}[]} warnings
 *
 * @typedef {{limit: number | null, used: number | null, remaining: number | null, resets_at: string | null}} Limit
 */

const soon = 7 * 86_400_000;

/**
 * The badges that say what state a key is in.
 * @param {Key} key
 */
export function badges(key) {
  const marks = [];
  if (key.state === 'paused') marks.push(h('span.badge.idle', null, 'Paused'));
  else if (key.state === 'expired') marks.push(h('span.badge.bad', null, 'Expired'));
  else marks.push(h('span.badge.good', null, 'Active'));
  if (key.state !== 'expired' && key.expires_at && new Date(key.expires_at).getTime() - Date.now() < soon) {
    marks.push(h('span.badge.warn', { title: date(key.expires_at) }, `Expires ${ago(key.expires_at)}`));
  }
  if (key.previous_expires_at && new Date(key.previous_expires_at).getTime() > Date.now()) {
    marks.push(h('span.badge.info', { title: `The old value ${key.previous_hint} works until ${date(key.previous_expires_at)}` }, 'Rotating'));
  }
  return h('span.badges', null, marks);
}

/** @typedef {{code: string, message: string}} Warning */

/** @type {Record<string, [string, string]>} what the server warns of, in the words of this page */
const warningTexts = {
  open_key: ['Open key', 'It works from any origin and any address. Add allowed origins or IPs to restrict it.'],
  origin_skips_addresses: ['IPs can be skipped', 'A request with an Origin header, which any program can send, is not checked against the allowed IPs. '
    + 'Turn on “Check both lists on every request”, or list allowed origins as well.'],
};

/** @param {Warning} warning */
const warningText = (warning) => warningTexts[warning.code] || ['Warning', warning.message];

/**
 * What a key leaves open, in full.
 * @param {Warning[]} warnings
 */
export const warningList = (warnings) => warnings.map((warning) => {
  const [title, text] = warningText(warning);
  return h('div.notice.warn', null, icon('warn'), h('p', null, h('strong', null, `${title}. `), text));
});

/** @param {Warning} warning */
const warningBadge = (warning) => {
  const [title, text] = warningText(warning);
  return h('span.badge.warn', { title: text }, icon('warn'), title);
};

/**
 * @param {Key[]} keys
 * @param {boolean} withOwner
 * @param {() => void} changed
 */
export function keyTable(keys, withOwner, changed) {
  const columns = ['Name', ...(withOwner ? ['Owner'] : []), 'State', 'Last 24 hours', 'Last used', 'Hourly limit', '-Actions'];
  return table('API keys', columns, keys.map((key) => [
    h('span.key-name', null, h('a', { href: `/settings/api-keys/${key.id}` }, key.name),
      h('code.hint', null, key.hint)),
    ...(withOwner ? [h('span.owner', null, key.owner)] : []),
    h('span.badges', null, badges(key), key.warnings.map(warningBadge)),
    h('span', { dataset: { spark: key.id } }, h('span.muted', null, '…')),
    key.last_used_at ? h('time', { datetime: key.last_used_at, title: date(key.last_used_at) }, ago(key.last_used_at)) : h('span.muted', null, 'Never'),
    h('span', { dataset: { limit: key.id } }, key.rate_limit_per_hour ? `${number(key.rate_limit_per_hour)} per hour` : h('span.muted', null, 'No limit')),
    menuButton({
      label: icon('more'), name: `Actions for ${key.name}`, items: actionsOf(key, changed),
    }),
  ]));
}

/**
 * Fills in what the keys did and how much of their limits is left.
 * @param {HTMLElement} list
 * @param {Key[]} keys
 * @param {(ids: number[]) => Promise<{key_id: number, points: import('./sparkline.js').Point[], limit: Limit}[]>} load
 */
export async function showUsage(list, keys, load) {
  if (keys.length === 0) return;
  const usage = await load(keys.map((key) => key.id)).catch((error) => {
    if (error.status !== 501) throw error;
    return []; // this server counts nothing
  });
  for (const key of keys) {
    const spark = list.querySelector(`[data-spark="${key.id}"]`);
    const of = usage.find((one) => one.key_id === key.id);
    if (!spark) continue;
    if (!of) {
      fill(spark, h('span.muted', null, '–'));
      continue;
    }
    const calls = total(of.points);
    fill(spark, sparkline(of.points), h('span.calls', null, short(calls)));
    const bar = list.querySelector(`[data-limit="${key.id}"]`);
    if (bar && of.limit?.limit) fill(bar, limitBar(of.limit));
  }
}

/**
 * How much of a limit is used.
 * @param {Limit} limit
 */
export function limitBar(limit) {
  const most = limit.limit || 1;
  const used = limit.used || 0;
  const level = used >= most ? 'full' : used >= most * 0.8 ? 'high' : 'low';
  return h('span.limit', null,
    h('progress', { class: level, value: used, max: most, 'aria-label': `${number(used)} of ${number(most)} calls used in the last hour` }),
    h('span.limit-text', null, `${short(used)} of ${short(most)}`));
}
