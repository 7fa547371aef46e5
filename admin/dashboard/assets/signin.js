// The sign-in page.
import { fill, h } from './dom.js';
import { go } from './router.js';
import { signIn } from './session.js';
import { field, form } from './form.js';

/** @type {import('./router.js').Page['show']} */
export async function showSignIn(main, { query }) {
  const name = h('input', { type: 'text', name: 'username', autocomplete: 'username', autocapitalize: 'none', spellcheck: 'false', required: true, autofocus: true });
  const password = h('input', { type: 'password', name: 'password', autocomplete: 'current-password', required: true });
  fill(main, h('div.card.narrow', null,
    h('h1', { tabindex: '-1' }, 'Sign in'),
    h('p.muted', null, 'to manage your API keys'),
    form(async () => {
      await signIn(name.value.trim(), password.value);
      await go(safe(query.get('next')), true);
    },
    field('username', 'User name or e-mail', name),
    field('password', 'Password', password),
    h('button', { type: 'submit' }, 'Sign in'))));
  if (document.activeElement === document.body) name.focus();
}

/**
 * Only an address of a page of our own, never of another site.
 * @param {string | null} next
 */
function safe(next) {
  return next && /^\/settings\/[a-z0-9/-]*(\?[^#]*)?$/.test(next) ? next : '/settings/api-keys';
}
