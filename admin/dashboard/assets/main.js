// Starts the page: finds who is signed in and shows what the address names.
import { h, fill } from './dom.js';
import { isAbort, onSignedOut, Problem } from './api.js';
import { go, startRouter } from './router.js';
import { forgetMe, loadMe, seesAll, signedIn } from './session.js';
import { closeDialogs } from './dialog.js';
import { bare, frame } from './frame.js';
import { toast } from './toast.js';
import { showSignIn } from './signin.js';
import { showInvitation } from './invitation.js';
import { showKeys } from './keys.js';
import { showKey } from './keypage.js';
import { showBlocked } from './blocked.js';
import { showAudit } from './audit.js';
import { showUsers } from './users.js';
import { showAccount } from './account.js';

/** @type {[RegExp, import('./router.js').Page][]} */
const pages = [
  [/^\/sign-in$/, { title: 'Sign in', show: showSignIn, open: true }],
  [/^\/accept-invitation$/, { title: 'Accept invitation', show: showInvitation, open: true }],
  [/^\/settings\/api-keys$/, { title: 'API Keys', show: showKeys }],
  [/^\/settings\/api-keys\/(\d+)$/, { title: 'API key', show: showKey }],
  [/^\/settings\/blocked$/, { title: 'Blocked addresses', show: showBlocked, allowed: seesAll }],
  [/^\/settings\/audit$/, { title: 'Audit log', show: showAudit }],
  [/^\/settings\/users$/, { title: 'Users', show: showUsers, allowed: seesAll }],
  [/^\/settings\/account$/, { title: 'Account', show: showAccount }],
];

let leave = new AbortController();
let first = true;

/** @param {string} path */
async function show(path) {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  closeDialogs();
  const match = pages.find(([pattern]) => pattern.test(path));
  if (!match) {
    await go('/settings/api-keys', true);
    return;
  }
  const [pattern, page] = match;
  if (!page.open && !signedIn()) {
    const back = path + location.search;
    await go(back === '/settings/api-keys' ? '/sign-in' : `/sign-in?next=${encodeURIComponent(back)}`, true);
    return;
  }
  document.title = `${page.title} · TokenKit`;
  const main = page.open ? bare() : frame(path);
  const parts = (pattern.exec(path) || []).slice(1);
  try {
    if (page.allowed && !page.allowed()) {
      fill(main, h('h1', { tabindex: '-1' }, page.title), h('p', null, 'Your role does not include this page.'));
    } else {
      await page.show(main, { parts, query: new URLSearchParams(location.search), signal });
    }
  } catch (error) {
    if (isAbort(error) || signal.aborted) return;
    showFailure(main, page.title, error);
  }
  main.removeAttribute('aria-busy');
  const begin = /** @type {HTMLElement | null} */ (main.querySelector('[autofocus]') || main.querySelector('h1'));
  if (!first) begin?.focus({ preventScroll: true });
  first = false;
  scrollTo(0, 0);
}

/**
 * @param {HTMLElement} main
 * @param {string} title
 * @param {unknown} error
 */
function showFailure(main, title, error) {
  const missing = error instanceof Problem && error.status === 404;
  if (!(error instanceof Problem)) console.error(error);
  fill(main, h('h1', { tabindex: '-1' }, missing ? 'Not found' : title),
    h('div.empty', null,
      h('p', null, missing ? 'It does not exist, was revoked, or belongs to somebody else.' : error instanceof Problem ? error.message : 'Something went wrong on this page.'),
      missing ? h('a', { href: '/settings/api-keys', role: 'button' }, 'Back to API Keys')
        : h('button', { type: 'button', onclick: () => void show(location.pathname) }, 'Try again')));
}

onSignedOut(() => {
  if (!signedIn()) return;
  forgetMe();
  toast('Your session has ended. Sign in again.', 'bad');
  void go(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`, true);
});

async function start() {
  try {
    await loadMe();
  } catch (error) {
    const main = bare();
    fill(main, h('h1', null, 'TokenKit'), h('p', null, /** @type {Error} */ (error).message),
      h('button', { type: 'button', onclick: () => location.reload() }, 'Try again'));
    return;
  }
  startRouter(show);
  if (location.pathname === '/' || location.pathname === '/settings') await go('/settings/api-keys', true);
  else if (location.pathname === '/sign-in' && signedIn()) await go('/settings/api-keys', true);
  else await show(location.pathname);
}

void start();
