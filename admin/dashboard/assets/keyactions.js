// What can be done with a key, from the table and from its page.
import { h } from './dom.js';
import { patch, post } from './api.js';
import { go } from './router.js';
import { changesKey } from './session.js';
import { confirm, openDialog } from './dialog.js';
import { field, form } from './form.js';
import { report, toast } from './toast.js';
import { saveKey } from './savekey.js';
import { localInput } from './format.js';

/** @typedef {import('./keytable.js').Key} Key */

/**
 * The menu of a key.
 * @param {Key} key
 * @param {() => void} changed
 * @returns {import('./menu.js').Item[]}
 */
export function actionsOf(key, changed) {
  const items = [{ text: 'Open', run: () => void go(`/settings/api-keys/${key.id}`) }];
  if (!changesKey(key)) return items;
  return [...items, ...changesOf(key, changed)];
}

/**
 * @param {Key} key
 * @param {() => void} changed
 * @param {() => void} [gone] after it was revoked
 * @returns {import('./menu.js').Item[]}
 */
export function changesOf(key, changed, gone = changed) {
  return [
    { text: 'Rotate…', run: () => rotate(key, changed) },
    key.enabled ? { text: 'Pause', run: () => void pause(key, changed) } : { text: 'Enable', run: () => void enable(key, changed) },
    { text: 'Revoke…', danger: true, run: () => revoke(key, gone) },
  ];
}

/** @param {Key} key @param {() => void} changed */
async function pause(key, changed) {
  await set(key, false, `${key.name} is paused: its calls are denied until you enable it`, changed);
}

/** @param {Key} key @param {() => void} changed */
async function enable(key, changed) {
  await set(key, true, `${key.name} is enabled`, changed);
}

/** @param {Key} key @param {boolean} enabled @param {string} text @param {() => void} changed */
async function set(key, enabled, text, changed) {
  try {
    await patch(`api-keys/${key.id}/`, { enabled });
    toast(text);
    changed();
  } catch (error) {
    report(error);
  }
}

/** @param {Key} key @param {() => void} gone */
function revoke(key, gone) {
  confirm({
    title: 'Revoke this key?', action: 'Revoke key', name: key.name,
    text: h('span', null, 'Everything that uses ', h('code', null, key.hint), ' gets 401 Unauthorized at once. This cannot be undone. To stop it for a while, pause it instead.'),
    run: async () => {
      await post('api-keys/delete/', { key_id: key.id });
      toast(`${key.name} was revoked`);
      gone();
    },
  });
}

const graces = [['0', 'Now: it stops at once'], ['3600', '1 hour'], ['86400', '24 hours'], ['own', 'Another time…']];
const longest = 30 * 86_400;

/** @param {Key} key @param {() => void} changed */
function rotate(key, changed) {
  const own = h('input', {
    type: 'datetime-local', value: localInput(Date.now() + 7 * 86_400_000), min: localInput(Date.now()), max: localInput(Date.now() + longest * 1000),
  });
  const ownField = field('until', 'The old value works until', own, 'At most 30 days from now.');
  ownField.hidden = true;
  const choices = graces.map(([value, text]) => {
    const choice = h('input', { type: 'radio', name: 'grace', value, onchange: () => { ownField.hidden = value !== 'own'; } });
    choice.checked = value === '86400';
    return h('label', null, choice, text);
  });
  const seconds = () => {
    const chosen = /** @type {HTMLInputElement} */ (dialog.querySelector('[name=grace]:checked')).value;
    if (chosen !== 'own') return Number(chosen);
    return Math.max(0, Math.min(longest, Math.round((new Date(own.value).getTime() - Date.now()) / 1000)));
  };
  const body = form(async () => {
    const rotated = await post(`api-keys/${key.id}/rotate/`, { grace_seconds: seconds() });
    dialog.close();
    saveKey(rotated, changed);
  },
  h('p', null, 'You get a new value for ', h('strong', null, key.name), '. Its settings, usage and limit stay: old and new value share one counter.'),
  h('fieldset', { dataset: { field: 'grace_seconds' } }, h('legend', null, 'How long should the old value still work?'), choices, ownField, h('p.error')),
  key.previous_expires_at ? h('p.muted', null, `The value before, ${key.previous_hint}, ends at once.`) : null,
  h('footer', null, h('button.secondary', { type: 'button', onclick: () => dialog.close() }, 'Cancel'), h('button', { type: 'submit' }, 'Rotate key')));
  const dialog = openDialog({ title: 'Rotate key', body: [body] });
}
