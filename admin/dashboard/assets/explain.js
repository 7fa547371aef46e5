// "Test a request": which rule decides, without spending a call.
import { fill, h, icon } from './dom.js';
import { post } from './api.js';
import { field, form } from './form.js';

const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

/** @type {Record<string, string>} */
const rules = {
  block: 'Blocked address', state: 'State', expiry: 'Expiry', origin: 'Allowed origins', address: 'Allowed IPs', scope: 'Scopes', limit: 'Hourly limit',
};

/** @type {Record<string, [Parameters<typeof icon>[0], string]>} */
const outcomes = { pass: ['check', 'passes'], fail: ['cross', 'fails'], skip: ['skip', 'not checked'] };

/** @param {() => import('./keytable.js').Key} key */
export function explainCard(key) {
  const method = h('select', null, methods.map((name) => h('option', null, name)));
  const path = h('input', { type: 'text', value: pathOf(key().scopes), spellcheck: 'false', autocapitalize: 'none' });
  const origin = h('input', { type: 'text', placeholder: 'none', spellcheck: 'false', autocapitalize: 'none' });
  const ip = h('input', { type: 'text', placeholder: '203.0.113.10', spellcheck: 'false', autocapitalize: 'none' });
  const result = h('div.result', { role: 'status' });
  const element = form(async () => {
    result.replaceChildren();
    const body = { method: method.value, path: path.value.trim() || '/', origin: origin.value.trim() || null, ip: ip.value.trim() };
    if (!body.ip) delete (/** @type {any} */ (body)).ip;
    fill(result, verdict(await post(`api-keys/${key().id}/explain/`, body)));
  },
  h('div.quad', null, field('method', 'Method', method), field('path', 'Path', path),
    field('origin', 'Origin', origin, 'Empty: no Origin header'), field('ip', 'IP address', ip)),
  h('button.secondary', { type: 'submit' }, 'Test request'), result);
  return h('section.card', { 'aria-labelledby': 'explain-title' }, h('h2', { id: 'explain-title' }, 'Test a request'),
    h('p.muted', null, 'See what would happen to a request with this key. Nothing is sent or counted.'), element);
}

/**
 * A path that the scopes permit, to begin with.
 * @param {string[]} scopes
 */
const pathOf = (scopes) => scopes.map((scope) => scope.slice(scope.indexOf(' ') + 1)).find((path) => path.startsWith('/')) || '/';

/**
 * @param {{allowed: boolean, reason: string, status: number, steps: {rule: string, outcome: 'pass' | 'fail' | 'skip', detail: string}[]}} answer
 */
function verdict(answer) {
  return [
    h(`p.verdict.${answer.allowed ? 'good' : 'bad'}`, null, icon(answer.allowed ? 'check' : 'cross'),
      h('span', null, h('strong', null, answer.allowed ? 'Allowed' : `Denied with ${answer.status}`), answer.allowed ? null : [' ', h('code', null, answer.reason)])),
    h('ol.steps', null, answer.steps.map((step) => {
      const [mark, text] = outcomes[step.outcome];
      return h(`li.${step.outcome}`, null, icon(mark), h('div', null,
        h('strong', null, rules[step.rule] || step.rule), h('span.outcome', null, ` ${text}`), step.detail ? h('p.muted', null, step.detail) : null));
    })),
  ];
}
