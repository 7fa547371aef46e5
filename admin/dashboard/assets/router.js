// Addresses and the pages that belong to them.

/**
 * @typedef {object} Page
 * @property {string} title
 * @property {(main: HTMLElement, context: Context) => Promise<void>} show
 * @property {boolean} [open] needs no session
 * @property {() => boolean} [allowed] whether the role may see it
 *
 * @typedef {object} Context
 * @property {string[]} parts what the address names
 * @property {URLSearchParams} query
 * @property {AbortSignal} signal aborted when the page is left
 */

/** @type {(path: string) => Promise<void>} */
let show = async () => {};

/** @param {(path: string) => Promise<void>} handler */
export function startRouter(handler) {
  show = handler;
  addEventListener('popstate', () => void show(location.pathname));
  document.addEventListener('click', (event) => {
    const target = /** @type {Element} */ (event.target);
    const link = /** @type {HTMLAnchorElement | null} */ (target.closest('a[href]'));
    if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    if (link.origin !== location.origin || link.target || link.hasAttribute('download')) return;
    if (!link.pathname.startsWith('/settings') && link.pathname !== '/sign-in') return;
    if (link.pathname === location.pathname && link.hash) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}

/**
 * Shows another page.
 * @param {string} address
 * @param {boolean} [replace] instead of the present one in the history
 */
export function go(address, replace = false) {
  history[replace ? 'replaceState' : 'pushState'](null, '', address);
  return show(location.pathname);
}

/**
 * Keeps what a list shows in the address, so that a reload or a link shows it
 * again.
 * @param {Record<string, string>} values
 */
export function keepQuery(values) {
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== ''));
  history.replaceState(null, '', location.pathname + (query.size > 0 ? `?${query}` : ''));
}
