// Form fields with labels, hints and the errors that the server names.
import { h, unique } from './dom.js';
import { Problem } from './api.js';
import { report } from './toast.js';

/**
 * A labelled field. The server's errors for it are shown below it.
 * @param {string} name of the field in the API
 * @param {string} label
 * @param {any} control
 * @param {string} [hint]
 */
export function field(name, label, control, hint) {
  const id = unique(name);
  control.id = id;
  if (!control.hasAttribute('name')) control.setAttribute('name', name);
  const described = hint ? [`${id}-hint`, `${id}-error`] : [`${id}-error`];
  control.setAttribute('aria-describedby', described.join(' '));
  return h('div.field', { dataset: { field: name } },
    h('label', { for: id }, label), control,
    hint ? h('small', { id: `${id}-hint` }, hint) : null,
    h('p.error', { id: `${id}-error` }));
}

/**
 * A labelled switch.
 * @param {string} name
 * @param {string} label
 * @param {boolean} on
 * @param {string} [hint]
 */
export function toggle(name, label, on, hint) {
  const id = unique(name);
  const control = h('input', { type: 'checkbox', role: 'switch', id, name, 'aria-describedby': hint ? `${id}-hint` : null });
  control.checked = on;
  return h('div.field.toggle', { dataset: { field: name } },
    h('label', { for: id }, control, label), hint ? h('small', { id: `${id}-hint` }, hint) : null, h('p.error'));
}

/**
 * The lines of a text, trimmed, without empty ones.
 * @param {string} text
 */
export const lines = (text) => text.split(/[\n,]/).map((line) => line.trim()).filter((line) => line !== '');

/** @param {HTMLElement} form */
export function clearErrors(form) {
  for (const message of form.querySelectorAll('p.error')) message.replaceChildren();
  for (const control of form.querySelectorAll('[aria-invalid]')) control.removeAttribute('aria-invalid');
}

/**
 * Shows a refusal at the fields it names, and the rest at the top of the form.
 * @param {HTMLElement} form
 * @param {unknown} error
 */
export function showErrors(form, error) {
  const top = form.querySelector('p.form-error');
  if (!(error instanceof Problem) || !top) {
    report(error);
    return;
  }
  /** @type {HTMLElement | null} */
  let first = null;
  const rest = [];
  for (const { location, message } of error.errors) {
    const [, name, index] = /^(?:body|query)\.?([a-z_]*)(?:\[(\d+)\])?/.exec(location) || [];
    const box = name ? form.querySelector(`[data-field="${name}"]`) : null;
    if (!box) {
      rest.push(`${location.replace(/^body\./, '')}: ${message}`);
      continue;
    }
    box.closest('details')?.setAttribute('open', '');
    const control = /** @type {HTMLElement | null} */ (box.querySelector('input, textarea, select'));
    control?.setAttribute('aria-invalid', 'true');
    first ||= control;
    const text = index === undefined ? message : `Entry ${Number(index) + 1}: ${message}`;
    box.querySelector('p.error')?.append(h('span', null, sentence(text)));
  }
  if (error.errors.length === 0) rest.push(error.message);
  if (error.retryAfter > 0 && error.status === 429) rest.push(`Try again in ${error.retryAfter} seconds.`);
  top.replaceChildren(rest.map(sentence).join(' '));
  first?.focus();
}

/** @param {string} text */
function sentence(text) {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}

/**
 * A form that calls submit once at a time and shows what the server refuses.
 * @param {(form: HTMLFormElement) => Promise<void>} submit
 * @param {...(Node | null)} children the last holds the submit button
 * @returns {HTMLFormElement}
 */
export function form(submit, ...children) {
  const element = h('form', {
    novalidate: true,
    onsubmit: async (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      const button = element.querySelector('[type=submit]');
      if (button.getAttribute('aria-busy') === 'true') return;
      button.setAttribute('aria-busy', 'true');
      clearErrors(element);
      try {
        await submit(element);
      } catch (error) {
        showErrors(element, error);
      } finally {
        button.removeAttribute('aria-busy');
      }
    },
  }, h('p.error.form-error', { role: 'alert' }), children);
  return element;
}

/** An input for a password that is being chosen. */
export const newPassword = () => h('input', { type: 'password', autocomplete: 'new-password', required: true, minlength: 12 });
