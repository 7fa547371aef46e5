// The one time that a key's value is shown.
import { h, icon } from './dom.js';
import { openDialog } from './dialog.js';
import { copy } from './toast.js';
import { tabs } from './tabs.js';
import { warningList } from './keytable.js';
import { date } from './format.js';

const apiURL = () => document.querySelector('meta[name="tokenkit-api"]')?.getAttribute('content') || 'https://api.example.com';

/**
 * Calls that use a key, ready to run.
 * @param {string} value
 */
const snippets = (value) => ({
  curl: `curl '${apiURL()}/api/tokens/?common=true' \\\n  -H 'api-key: ${value}'`,
  JavaScript: `const response = await fetch('${apiURL()}/api/tokens/?common=true', {\n  headers: { 'api-key': '${value}' },\n});\nconsole.log(await response.json());`,
});

/**
 * @param {import('./keytable.js').Key & {key: string}} created
 * @param {() => void} done
 */
export function saveKey(created, done) {
  const value = h('input.secret', { type: 'text', readonly: true, value: created.key, 'aria-label': 'Your new key', spellcheck: 'false', onfocus: () => value.select() });
  const copied = h('button', {
    type: 'button',
    onclick: async () => {
      if (await copy(created.key, 'Key', value)) copied.replaceChildren(icon('check'), 'Copied');
    },
  }, icon('copy'), 'Copy');
  const examples = Object.entries(snippets(created.key)).map(([name, text]) => ({
    name,
    body: h('div.snippet', null, h('pre', { tabindex: '0', 'aria-label': `${name} example` }, h('code', null, text)),
      h('button.secondary.small', { type: 'button', 'aria-label': `Copy the ${name} example`, onclick: () => void copy(text, 'Example') }, icon('copy'), 'Copy')),
  }));
  const dialog = openDialog({
    title: 'Save your key', wide: true, locked: true, body: [
      h('div.scroll', null,
        h('p', null, h('strong', null, created.name), ' is ready. This is the only time its value is shown: only a hash of it is kept.'),
        h('div.secret-row', null, value, copied),
        created.previous_expires_at ? h('p.muted', null, `The old value ${created.previous_hint} works until ${date(created.previous_expires_at)}.`) : null,
        ...warningList(created.warnings),
        h('h3', null, 'Try it'), tabs('Examples', examples)),
      h('footer', null, h('button', { type: 'button', class: 'secondary', onclick: () => dialog.close() }, 'I have saved it')),
    ],
  });
  dialog.addEventListener('close', () => {
    value.value = '';
    done();
  });
  copied.focus();
}
