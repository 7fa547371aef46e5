// What stands around every page: the brand, the navigation and the account.
import { fill, h, icon } from './dom.js';
import { post } from './api.js';
import { go } from './router.js';
import { forgetMe, me, seesAll } from './session.js';
import { report } from './toast.js';
import { button as menuButton } from './menu.js';

const app = () => /** @type {HTMLElement} */ (document.getElementById('app'));

const brand = () => h('span.brand', null, h('img', { src: new URL('icon.svg', import.meta.url).pathname, alt: '', width: 24, height: 24 }), 'TokenKit');

/**
 * A page without navigation, for who is not signed in.
 * @returns {HTMLElement} where the page goes
 */
export function bare() {
  const main = h('main', { id: 'main', tabindex: '-1' });
  fill(app(), h('div.bare', null, h('header', null, brand(), themeButton()), main));
  return main;
}

/**
 * The frame of all pages below Settings. It is kept while pages change.
 * @param {string} path
 * @returns {HTMLElement} where the page goes
 */
export function frame(path) {
  const main = h('main', { id: 'main', tabindex: '-1', 'aria-busy': 'true' });
  fill(app(), h('div.frame', null, h('header.top', null, brand(), h('div.spacer'), themeButton(), accountMenu()),
    h('nav.side', { 'aria-label': 'Settings' }, h('p.nav-title', null, 'Settings'), h('ul', null, links(path))),
    main, h('footer.foot', null, 'TokenKit Authz ', version(), ' · ', h('a', { href: '/docs' }, 'API description'))));
  return main;
}

const version = () => document.querySelector('meta[name="tokenkit-version"]')?.getAttribute('content');

/** @param {string} path */
function links(path) {
  /** @type {[string, string, Parameters<typeof icon>[0], boolean][]} */
  const all = [
    ['/settings/api-keys', 'API Keys', 'key', true],
    ['/settings/blocked', 'Blocked', 'block', seesAll()],
    ['/settings/audit', 'Audit log', 'audit', true],
    ['/settings/users', 'Users', 'users', seesAll()],
    ['/settings/account', 'Account', 'account', true],
  ];
  return all.filter(([, , , shown]) => shown).map(([address, text, mark]) => h('li', null,
    h('a', { href: address, 'aria-current': path === address ? 'page' : path.startsWith(`${address}/`) ? 'true' : null }, icon(mark), text)));
}

function accountMenu() {
  return menuButton({
    label: h('span.who', null, icon('account'), h('span', null, me().name)), name: `Account of ${me().name}`,
    items: [
      { text: 'Account', run: () => void go('/settings/account') },
      { text: 'Sign out', run: () => void signOut() },
    ],
  });
}

export async function signOut() {
  try {
    await post('logout/', undefined, { quiet: true });
  } catch (error) {
    if (/** @type {any} */ (error).status !== 401) {
      report(error);
      return;
    }
  }
  forgetMe();
  await go('/sign-in');
}

const themes = /** @type {const} */ ([['auto', 'auto', 'as the system'], ['light', 'sun', 'light'], ['dark', 'moon', 'dark']]);

function themeButton() {
  const present = () => document.documentElement.dataset.theme || 'auto';
  const button = h('button.icon-button', {
    type: 'button',
    onclick: () => {
      const next = themes[(themes.findIndex(([name]) => name === present()) + 1) % themes.length][0];
      if (next === 'auto') delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = next;
      try {
        if (next === 'auto') localStorage.removeItem('theme');
        else localStorage.setItem('theme', next);
      } catch {
        // Storage is off: it holds until the page is left.
      }
      dispatchEvent(new Event('themechange'));
      paint();
    },
  });
  const paint = () => {
    const [, mark, text] = themes.find(([name]) => name === present()) || themes[0];
    fill(button, icon(mark));
    button.setAttribute('aria-label', `Colours: ${text}. Change`);
    button.title = `Colours: ${text}`;
  };
  paint();
  return button;
}
