// The fields of a key, for making one and for changing it.
import { h, icon } from './dom.js';
import { field, lines, toggle } from './form.js';
import { localInput } from './format.js';

/** @typedef {import('./keytable.js').Key} Key */

const lifetimes = [['', 'Never'], ['7', 'In 7 days'], ['30', 'In 30 days'], ['90', 'In 90 days'], ['365', 'In a year'], ['own', 'On a date…']];

/**
 * @param {Key | null} key what to begin with
 * @returns {{main: HTMLElement[], more: HTMLElement[], read: () => any, name: HTMLInputElement}}
 */
export function keyFields(key) {
  const name = h('input', { type: 'text', maxlength: 100, autocomplete: 'off', spellcheck: 'false', required: true, placeholder: 'my-app-prod', value: key?.name || '' });
  const origins = area(key?.allowed_origins, 'https://app.example.io\nhttps://*.example.io');
  const ips = area(key?.allowed_ips, '203.0.113.10\n198.51.100.0/24');
  const limit = h('input', { type: 'number', inputmode: 'numeric', min: 1, max: 1_000_000_000, step: 1, placeholder: key ? 'No limit' : '5000', value: key?.rate_limit_per_hour ?? '' });
  const strict = toggle('strict', 'Check both lists on every request', key?.strict || false,
    'Otherwise a request with an Origin header is checked by its origin only, and any other by its IP only.');
  const expiry = expiryField(key?.expires_at || null);
  const scopes = area(key?.scopes, 'GET,HEAD /api/tokens/\nreports:read');
  const notes = h('textarea.prose', { rows: 2, maxlength: 1000 });
  notes.value = key?.notes || '';
  const metadata = metadataField(key?.metadata || {});
  return {
    name,
    main: [
      field('name', 'Name', name),
      h('div.pair', null,
        field('allowed_origins', 'Allowed origins', origins, 'For use in a browser. One per line; empty: any.'),
        field('allowed_ips', 'Allowed IPs', ips, 'For servers and scripts. Addresses or CIDR, one per line; empty: any.')),
      field('rate_limit_per_hour', 'Calls per hour', limit, key ? 'Empty: no limit.' : 'Empty: the server’s default.'),
    ],
    more: [
      strict, expiry.element,
      field('scopes', 'Scopes', scopes, 'What the key may call, one per line: a path prefix, methods and a prefix, or a name. Empty: everything.'),
      field('notes', 'Notes', notes, 'For you and your team only.'),
      metadata.element,
    ],
    read: () => ({
      name: name.value.trim(),
      allowed_origins: lines(origins.value),
      allowed_ips: lines(ips.value),
      rate_limit_per_hour: limit.value.trim() === '' ? null : Number(limit.value),
      strict: strict.querySelector('input').checked,
      expires_at: expiry.read(),
      scopes: scopeLines(scopes.value),
      notes: notes.value.trim(),
      metadata: metadata.read(),
    }),
  };
}

/** A comma stands between methods there. @param {string} text */
const scopeLines = (text) => text.split('\n').map((line) => line.trim()).filter((line) => line !== '');

/**
 * @param {string[] | undefined} values
 * @param {string} example
 */
function area(values, example) {
  const element = h('textarea', { rows: Math.min(6, Math.max(2, values?.length || 0)), spellcheck: 'false', autocapitalize: 'none', placeholder: example });
  element.value = (values || []).join('\n');
  return element;
}

/** @param {string | null} present */
function expiryField(present) {
  const own = h('input', { type: 'datetime-local', name: 'expires_on', 'aria-label': 'Expires on', value: present ? localInput(present) : '', hidden: !present });
  const before = own.value;
  const select = h('select', {
    onchange: () => {
      own.hidden = select.value !== 'own';
      if (!own.hidden && !own.value) own.value = localInput(Date.now() + 30 * 86_400_000);
    },
  }, lifetimes.map(([value, text]) => h('option', { value, selected: present ? value === 'own' : value === '' }, text)));
  const element = field('expires_at', 'Expires', select);
  select.after(own);
  const read = () => {
    if (select.value === '') return null;
    if (select.value !== 'own') return new Date(Date.now() + Number(select.value) * 86_400_000).toISOString();
    if (present && own.value === before) return present; // to the second, which the field does not show
    return own.value ? new Date(own.value).toISOString() : null;
  };
  return { element, read };
}

/** @param {Record<string, string>} values */
function metadataField(values) {
  const rows = h('div.metadata-rows');
  /** @param {string} name @param {string} value */
  const add = (name, value) => {
    const row = h('div.metadata-row', null,
      h('input', { type: 'text', 'aria-label': 'Metadata name', placeholder: 'plan', maxlength: 40, spellcheck: 'false', autocapitalize: 'none', value: name }),
      h('input', { type: 'text', 'aria-label': 'Metadata value', placeholder: 'pro', maxlength: 200, value }),
      h('button.icon-button', {
        type: 'button', 'aria-label': 'Remove entry',
        onclick: () => {
          row.remove();
          more.focus();
        },
      }, icon('cross')));
    rows.append(row);
    return row;
  };
  const more = h('button.secondary.small', { type: 'button', onclick: () => add('', '').querySelector('input').focus() }, 'Add entry');
  for (const [name, value] of Object.entries(values)) add(name, value);
  const element = h('fieldset.field', { dataset: { field: 'metadata' } }, h('legend', null, 'Metadata'),
    h('small', null, 'Told to your services with every allowed call. Names: lower-case letters, digits and underscores.'), rows, h('p.error'), more);
  const read = () => Object.fromEntries([...rows.children].map((row) => {
    const [name, value] = row.querySelectorAll('input');
    return [name.value.trim(), value.value.trim()];
  }).filter(([name, value]) => name !== '' || value !== ''));
  return { element, read };
}
