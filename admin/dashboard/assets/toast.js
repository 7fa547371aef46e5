// Short messages that pass, read out by screen readers.
import { h, icon } from './dom.js';
import { isAbort, Problem } from './api.js';

/**
 * Shows a message for some seconds.
 * @param {string} text
 * @param {'ok' | 'bad'} [kind]
 */
export function toast(text, kind = 'ok') {
  // All but an open dialog is inert: neither read out nor to be clicked.
  const box = [...document.querySelectorAll('dialog[open] > .toasts')].at(-1) || document.getElementById('toasts');
  const item = h(`div.toast.${kind}`, null, icon(kind === 'ok' ? 'check' : 'warn'), h('span', null, text));
  item.append(h('button.icon-button', { type: 'button', 'aria-label': 'Dismiss', onclick: () => item.remove() }, icon('cross')));
  box?.append(item);
  setTimeout(() => item.remove(), kind === 'ok' ? 5000 : 10_000);
}

/**
 * Says what went wrong, unless the page was only left.
 * @param {unknown} error
 */
export function report(error) {
  if (isAbort(error)) return;
  if (error instanceof Problem) {
    if (error.code === 'unauthenticated') return; // the sign-in page says so
    const fields = error.errors.map((field) => `${field.location}: ${field.message}`).join('; ');
    toast(fields || error.message, 'bad');
    return;
  }
  console.error(error);
  toast('Something went wrong on this page. Reload it and try again.', 'bad');
}

/**
 * Copies a text and says so.
 * @param {string} text
 * @param {string} what
 * @param {HTMLInputElement | null} [field] what to select where copying is not permitted
 */
export async function copy(text, what, field = null) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied`);
    return true;
  } catch {
    // Without https, or refused: leave it selected for Ctrl+C.
    field?.focus();
    field?.select();
    toast(field ? `${what} is selected: press Ctrl+C or ⌘C to copy` : 'This browser does not permit copying here', 'bad');
    return false;
  }
}
