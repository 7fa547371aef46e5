// The audit log's events in words.
import { h } from './dom.js';
import { ago, dateSeconds } from './format.js';
import { table } from './table.js';

/**
 * @typedef {object} Event
 * @property {number} id
 * @property {string} time
 * @property {{kind: string, user_id: number, name: string, address: string}} actor
 * @property {string} action
 * @property {{kind: string, id: number, name: string}} target
 * @property {{field: string, from: any, to: any}[]} changes
 */

/** @type {Record<string, string>} */
const actions = {
  'key.create': 'Key created', 'key.update': 'Key changed', 'key.rotate': 'Key rotated', 'key.delete': 'Key revoked',
  'user.create': 'User created', 'user.update': 'User changed', 'user.delete': 'User removed', 'user.password': 'Password changed',
  'user.invite': 'User invited', 'user.join': 'Invitation accepted', 'user.uninvite': 'Invitation revoked', 'invitation.delete': 'Invitation revoked',
  'session.create': 'Signed in', 'session.delete': 'Signed out', 'login.fail': 'Sign-in failed', 'address.unblock': 'Address unblocked', 'store.backup': 'Backup made',
};

/** What the log can be narrowed to: the beginning of an action. */
export const actionFilters = [
  ['', 'All actions'], ['key.', 'Keys'], ['user.', 'Users'], ['session.', 'Sign-ins'], ['login.fail', 'Failed sign-ins'], ['address.', 'Blocked addresses'],
];

/** @param {string} action */
export const actionText = (action) => actions[action] || action;

/** @param {any} value */
function valueText(value) {
  if (value === null || value === undefined || value === '') return 'none';
  if (Array.isArray(value)) return value.length > 0 ? value.join(', ') : 'none';
  if (typeof value === 'object') return Object.entries(value).map(([name, one]) => `${name}: ${one}`).join(', ') || 'none';
  return String(value);
}

/** @param {Event} event */
function changesOf(event) {
  if (event.changes.length === 0) return h('span.muted', null, '–');
  const created = event.action.endsWith('.create');
  const items = event.changes.map(({ field, from, to }) => h('li', null, h('code', null, field), ' ',
    created ? valueText(to) : [h('del', null, valueText(from)), ' → ', h('ins', null, valueText(to))]));
  if (items.length <= 2) return h('ul.plain.changes', null, items);
  return h('details.changes', null, h('summary', null, `${items.length} fields`), h('ul.plain', null, items));
}

/** @param {Event} event */
function targetOf(event) {
  const { kind, id, name } = event.target;
  if (kind === 'key' && event.action !== 'key.delete') return h('a', { href: `/settings/api-keys/${id}` }, name || `#${id}`);
  if (kind === 'session') return h('span', null, 'Session ', h('code', null, name.slice(0, 8)));
  return name || (id ? `#${id}` : '–');
}

/** @param {Event} event */
const actorOf = (event) => h('span.actor', null, h('span', null, event.actor.name || (event.actor.kind === 'operator' ? 'Command line' : 'System')),
  event.actor.address ? h('small', null, event.actor.address) : null);

/**
 * @param {Event[]} events
 * @param {boolean} withTarget
 */
export const eventList = (events, withTarget) => table('Audit events', ['When', 'What', ...(withTarget ? ['Which'] : []), 'Who', 'Changes'], events.map((event) => [
  h('time', { datetime: event.time, title: dateSeconds(event.time) }, ago(event.time)),
  h('span.nowrap', null, actionText(event.action)),
  ...(withTarget ? [targetOf(event)] : []),
  actorOf(event),
  changesOf(event),
]));
