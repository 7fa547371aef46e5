// Who may sign in, what they may do, and who is invited.
import { fill, h, icon } from './dom.js';
import { get, post } from './api.js';
import { managesUsers, me } from './session.js';
import { confirm, openDialog } from './dialog.js';
import { field, form } from './form.js';
import { table } from './table.js';
import { ago, date } from './format.js';
import { copy, report, toast } from './toast.js';

/** @typedef {{id: number, name: string, email?: string, role: string, created_at: string}} User */
/** @typedef {{id: string, name: string, email?: string, role: string, invited_by: string, created_at: string, expires_at: string}} Invitation */

const roles = [
  ['member', 'Member', 'own keys only'], ['viewer', 'Viewer', 'sees everything, changes nothing'], ['admin', 'Admin', 'all keys, blocked addresses and the audit log'],
  ['owner', 'Owner', 'everything, users too'],
];

/** @param {string} role */
export const roleText = (role) => roles.find(([name]) => name === role)?.[1] || role;

/** @type {import('./router.js').Page['show']} */
export async function showUsers(main, { signal }) {
  const users = h('section.card.wide-card', { 'aria-labelledby': 'users-title' });
  const invitations = h('section.card.wide-card', { 'aria-labelledby': 'invitations-title' });
  const load = async () => {
    /** @type {[User[], Invitation[]]} */
    const [all, invited] = await Promise.all([get('users/', { signal }), managesUsers() ? get('invitations/', { signal }) : []]);
    if (signal.aborted) return;
    const lost = users.contains(document.activeElement) || invitations.contains(document.activeElement);
    fill(users, h('h2', { id: 'users-title' }, 'Users'), userTable(all, reload));
    fill(invitations, invitationList(invited, reload));
    invitations.hidden = !managesUsers();
    if (lost) main.querySelector('h1')?.focus();
  };
  const reload = () => void load().catch(report);
  fill(main, h('div.page-head', null, h('div', null, h('h1', { tabindex: '-1' }, 'Users'), h('p.muted', null, 'Who may sign in here, and what they may do.')),
    managesUsers() ? h('button', { type: 'button', onclick: () => invite(reload) }, icon('plus'), 'Invite user') : null),
  h('div.cards', null, users, invitations));
  await load();
}

/** @param {string} present @param {Record<string, any>} properties */
const roleSelect = (present, properties) => h('select', properties, roles.map(([value, text]) => h('option', { value, selected: value === present }, text)));

/** @param {User[]} users @param {() => void} changed */
function userTable(users, changed) {
  return table('Users', ['User', 'Role', 'Since', ...(managesUsers() ? ['-Actions'] : [])], users.map((user) => [
    h('span.actor', null, h('span', null, user.name, user.id === me().id ? h('span.badge.good', null, 'You') : null),
      user.email && user.email !== user.name ? h('small', null, user.email) : null),
    managesUsers() && user.id !== me().id ? roleSelect(user.role, {
      'aria-label': `Role of ${user.name}`, class: 'small',
      onchange: async (/** @type {any} */ event) => {
        try {
          await post('users/update/', { user_id: user.id, role: event.target.value });
          toast(`${user.name} is now ${roleText(event.target.value).toLowerCase()}`);
        } catch (error) {
          report(error);
          event.target.value = user.role;
          return;
        }
        user.role = event.target.value;
      },
    }) : roleText(user.role),
    h('time', { datetime: user.created_at, title: date(user.created_at) }, ago(user.created_at)),
    ...(managesUsers() ? [user.id === me().id ? '' : h('button.secondary.small', {
      type: 'button', 'aria-label': `Remove ${user.name}`,
      onclick: () => confirm({
        title: 'Remove this user?', action: 'Remove user', text: `${user.name} can no longer sign in. Keys must be revoked first.`,
        run: async () => {
          await post('users/delete/', { user_id: user.id });
          toast(`${user.name} was removed`);
          changed();
        },
      }),
    }, 'Remove')] : []),
  ]));
}

/** @param {Invitation[]} invitations @param {() => void} changed */
function invitationList(invitations, changed) {
  return [
    h('h2', { id: 'invitations-title' }, 'Invitations'),
    invitations.length === 0 ? h('p.muted', null, 'Nobody is invited at present.')
      : table('Invitations', ['User', 'Role', 'Invited by', 'Ends', '-Actions'], invitations.map((one) => [
        one.name, roleText(one.role), one.invited_by, h('time', { datetime: one.expires_at, title: date(one.expires_at) }, ago(one.expires_at)),
        h('button.secondary.small', {
          type: 'button', 'aria-label': `Revoke the invitation of ${one.name}`,
          onclick: async () => {
            try {
              await post('invitations/revoke/', { invitation_id: one.id });
              toast('The invitation was revoked');
            } catch (error) {
              report(error);
            }
            changed();
          },
        }, 'Revoke'),
      ])),
  ];
}

/** @param {() => void} changed */
function invite(changed) {
  const name = h('input', { type: 'text', autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false', required: true, autofocus: true });
  const email = h('input', { type: 'email', autocomplete: 'off' });
  const role = roleSelect('member', {});
  const body = form(async () => {
    const made = await post('users/invite/', { name: name.value.trim(), ...(email.value.trim() ? { email: email.value.trim() } : {}), role: role.value });
    dialog.close();
    showLink(made);
    changed();
  },
  field('name', 'User name', name, 'A name or an e-mail address to sign in with.'), field('email', 'E-mail (optional)', email),
  field('role', 'Role', role, roles.map(([, text, meaning]) => `${text}: ${meaning}`).join('; ') + '.'),
  h('footer', null, h('button.secondary', { type: 'button', onclick: () => dialog.close() }, 'Cancel'), h('button', { type: 'submit' }, 'Make link')));
  const dialog = openDialog({ title: 'Invite user', body: [body] });
}

/** @param {{name: string, link: string, expires_at: string}} invitation */
function showLink({ name, link, expires_at: ends }) {
  const address = new URL(link, location.origin).href;
  const value = h('input.secret', { type: 'text', readonly: true, value: address, 'aria-label': 'Invitation link' });
  const dialog = openDialog({
    title: 'Invitation link', locked: true, body: [
      h('p', null, 'Give this link to ', h('strong', null, name), `. It works once, until ${date(ends)}, and is not shown again.`),
      h('div.secret-row', null, value, h('button', { type: 'button', autofocus: true, onclick: () => void copy(address, 'Link', value) }, icon('copy'), 'Copy')),
      h('footer', null, h('button.secondary', { type: 'button', onclick: () => dialog.close() }, 'Done')),
    ],
  });
}
