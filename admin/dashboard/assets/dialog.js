// Modal dialogs on the native element, which traps and returns focus.
import { h, icon, unique } from './dom.js';
import { report } from './toast.js';

/**
 * Opens a dialog and returns it. It closes by Escape, its cross or close().
 * @param {{title: string, body: (Node | null)[], wide?: boolean, locked?: boolean}} options
 *   locked: neither Escape nor a cross closes it, for what is shown only once
 * @returns {HTMLDialogElement}
 */
export function openDialog({ title, body, wide = false, locked = false }) {
  const id = unique('dialog');
  const dialog = h('dialog', { 'aria-labelledby': id, class: wide ? 'wide' : null });
  const close = h('button.icon-button', { type: 'button', 'aria-label': 'Close', onclick: () => dialog.close() }, icon('cross'));
  dialog.append(h('article', null,
    h('header', null, h('h2', { id }, title), locked ? null : close),
    ...body.filter((part) => part !== null)),
  h('div.toasts', { role: 'status' }));
  const opener = /** @type {HTMLElement | null} */ (document.activeElement);
  dialog.addEventListener('close', () => {
    document.getElementById('toasts')?.append(...dialog.querySelectorAll('.toast'));
    dialog.remove();
    if (opener?.isConnected) opener.focus();
    else document.querySelector('h1')?.focus();
  });
  if (locked) dialog.addEventListener('cancel', (/** @type {Event} */ event) => event.preventDefault());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Closes all dialogs, as when another page is shown. */
export function closeDialogs() {
  for (const dialog of document.querySelectorAll('dialog')) dialog.close();
}

/**
 * Asks before something that cannot be undone, and does it.
 * @param {{title: string, text: Node | string, action: string, name?: string, run: () => Promise<void>}} options
 *   name: what must be typed first
 */
export function confirm({ title, text, action, name, run }) {
  const go = h('button.danger', { type: 'submit', disabled: name !== undefined }, action);
  const typed = name === undefined ? null : h('input', {
    type: 'text', autocomplete: 'off', spellcheck: 'false', name: 'confirm',
    oninput: () => { go.disabled = typed.value.trim() !== name; },
  });
  const form = h('form', {
    onsubmit: async (/** @type {Event} */ event) => {
      event.preventDefault();
      go.setAttribute('aria-busy', 'true');
      go.disabled = true;
      try {
        await run();
        dialog.close();
      } catch (error) {
        report(error);
        go.removeAttribute('aria-busy');
        go.disabled = false;
      }
    },
  },
  h('p', null, text),
  typed && h('label', null, h('span', null, 'Type ', h('strong.typed', null, name), ' to confirm'), typed),
  h('footer', null,
    h('button.secondary', { type: 'button', onclick: () => dialog.close() }, 'Cancel'), go));
  const dialog = openDialog({ title, body: [form] });
  (typed || form.querySelector('button')).focus();
}
