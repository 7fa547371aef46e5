// One's own account: password and sessions.
import { fill, h } from './dom.js';
import { get, post } from './api.js';
import { me } from './session.js';
import { field, form, newPassword } from './form.js';
import { table } from './table.js';
import { ago, date } from './format.js';
import { report, toast } from './toast.js';
import { signOut } from './frame.js';
import { roleText } from './users.js';

/** @typedef {{id: string, current: boolean, created_at: string, expires_at: string, last_seen_at: string | null, address: string, user_agent: string}} Session */

/** @type {import('./router.js').Page['show']} */
export async function showAccount(main, { signal }) {
  const sessions = h('section.card.wide-card', { 'aria-labelledby': 'sessions-title' });
  const load = async () => {
    /** @type {Session[]} */
    const all = await get('sessions/', { signal });
    const focused = sessions.contains(document.activeElement);
    fill(sessions, sessionList(all, () => void load().catch(report)));
    if (focused) sessions.querySelector('h2')?.focus();
  };
  fill(main, h('div.page-head', null, h('div', null, h('h1', { tabindex: '-1' }, 'Account'),
    h('p.muted', null, me().name, me().email && me().email !== me().name ? ` · ${me().email}` : '', ` · ${roleText(me().role)}`))),
  h('div.cards', null, passwordCard(() => void load().catch(report)), sessions));
  await load();
}

/** @param {() => void} changed */
function passwordCard(changed) {
  const current = h('input', { type: 'password', autocomplete: 'current-password', required: true });
  const next = newPassword();
  const element = form(async () => {
    await post('change-password/', { current_password: current.value, new_password: next.value });
    current.value = next.value = '';
    toast('Password changed. All other sessions have ended.');
    changed();
  },
  // Password managers want to know whose it is.
  h('input', { type: 'text', name: 'username', autocomplete: 'username', value: me().name, hidden: true, readonly: true }),
  field('current_password', 'Current password', current), field('new_password', 'New password', next, 'At least 12 characters. Your other sessions end.'),
  h('button', { type: 'submit' }, 'Change password'));
  return h('section.card', { 'aria-labelledby': 'password-title' }, h('h2', { id: 'password-title' }, 'Password'), element);
}

/** @param {Session[]} sessions @param {() => void} changed */
function sessionList(sessions, changed) {
  /** @param {() => Promise<any>} run @param {string} text */
  const end = async (run, text) => {
    try {
      await run();
      toast(text);
    } catch (error) {
      report(error);
    }
    changed();
  };
  return [
    h('div.card-head', null, h('h2', { id: 'sessions-title', tabindex: '-1' }, 'Sessions'),
      sessions.length > 1 ? h('button.secondary.small', {
        type: 'button', onclick: () => void end(() => post('sessions/revoke-others/'), 'All other sessions have ended'),
      }, 'Sign out all others') : null),
    table('Sessions', ['Device', 'From', 'Signed in', 'Last seen', '-Actions'], sessions.map((session) => [
      h('span.badges', null, h('span', { title: session.user_agent }, device(session.user_agent)), session.current ? h('span.badge.good', null, 'This session') : null),
      session.address || '–',
      h('time', { datetime: session.created_at, title: date(session.created_at) }, ago(session.created_at)),
      session.last_seen_at ? h('time', { datetime: session.last_seen_at, title: date(session.last_seen_at) }, ago(session.last_seen_at)) : '–',
      session.current ? h('button.secondary.small', { type: 'button', onclick: () => void signOut() }, 'Sign out')
        : h('button.secondary.small', {
          type: 'button', 'aria-label': `End the session of ${device(session.user_agent)} from ${session.address || 'an unknown address'}`,
          onclick: () => void end(() => post('sessions/revoke/', { session_id: session.id }), 'The session has ended'),
        }, 'End'),
    ])),
  ];
}

/**
 * A browser and a system, as far as what a client calls itself tells.
 * @param {string} agent
 */
function device(agent) {
  if (!agent) return 'Unknown';
  const browser = [['Edg/', 'Edge'], ['OPR/', 'Opera'], ['Firefox/', 'Firefox'], ['Chrome/', 'Chrome'], ['Safari/', 'Safari']].find(([mark]) => agent.includes(mark));
  const system = [['Android', 'Android'], ['iPhone', 'iPhone'], ['iPad', 'iPad'], ['Windows', 'Windows'], ['Mac OS', 'macOS'], ['Linux', 'Linux']].find(([mark]) => agent.includes(mark));
  if (!browser) return agent.split(/[\s/]/)[0].slice(0, 40);
  return system ? `${browser[1]} on ${system[1]}` : browser[1];
}
