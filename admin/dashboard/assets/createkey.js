// The dialog that makes a key.
import { h } from './dom.js';
import { post } from './api.js';
import { openDialog } from './dialog.js';
import { form } from './form.js';
import { keyFields } from './keyform.js';
import { saveKey } from './savekey.js';

/** @param {() => void} changed after the new key was shown */
export function createKey(changed) {
  const fields = keyFields(null);
  fields.name.setAttribute('autofocus', '');
  fields.name.value = '';
  const body = form(async () => {
    const read = fields.read();
    if (read.rate_limit_per_hour === null) delete read.rate_limit_per_hour; // the server's default
    const created = await post('create-api-key/', read);
    dialog.close();
    saveKey(created, changed);
  },
  h('div.scroll', null, ...fields.main, h('details', null, h('summary', null, 'More options'), h('div', null, ...fields.more))),
  h('footer', null, h('button.secondary', { type: 'button', onclick: () => dialog.close() }, 'Cancel'), h('button', { type: 'submit' }, 'Create key')));
  const dialog = openDialog({ title: 'Generate Key', body: [body], wide: true });
}
