// The page that an invitation's link opens. The token stands behind the # of
// the address, which browsers never send to a server.
import { fill, h } from './dom.js';
import { post, Problem } from './api.js';
import { go } from './router.js';
import { signIn } from './session.js';
import { field, form, newPassword } from './form.js';
import { toast } from './toast.js';

/** @type {import('./router.js').Page['show']} */
export async function showInvitation(main) {
  const token = decodeURIComponent(location.hash.slice(1));
  // Out of the address, the history and what is copied from there.
  history.replaceState(null, '', location.pathname);
  if (!token) {
    fill(main, h('div.card.narrow', null, h('h1', { tabindex: '-1' }, 'Accept invitation'),
      h('p', null, 'This link is incomplete. Open the whole link that you were given, or ask for a new one.'),
      h('a', { href: '/sign-in', role: 'button' }, 'Go to sign in')));
    return;
  }
  const password = newPassword();
  const again = h('input', { type: 'password', name: 'again', autocomplete: 'new-password', required: true });
  fill(main, h('div.card.narrow', null, h('h1', { tabindex: '-1' }, 'Accept invitation'),
    h('p.muted', null, 'Choose a password for your new account.'),
    form(async (element) => {
      if (password.value !== again.value) {
        const box = element.querySelector('[data-field="again"] p.error');
        if (box) fill(box, 'The two passwords differ.');
        again.focus();
        return;
      }
      const { name } = await post('accept-invitation/', { token, password: password.value }, { quiet: true }).catch((error) => {
        if (error.status !== 404 && !error.errors?.some((/** @type {any} */ one) => one.location === 'body.token')) throw error;
        throw new Problem({ status: 404, code: 'not_found', detail: 'This invitation was accepted or revoked, or has ended. Ask for a new one.' });
      });
      await signIn(name, password.value);
      toast(`Welcome, ${name}`);
      await go('/settings/api-keys', true);
    },
    field('password', 'New password', password, 'At least 12 characters.'),
    field('again', 'New password again', again),
    h('button', { type: 'submit' }, 'Create account'))));
}
