// Tabs (the ARIA tabs pattern): arrow keys move between them.
import { h, unique } from './dom.js';

/**
 * @param {string} label
 * @param {{name: string, body: HTMLElement}[]} panels
 */
export function tabs(label, panels) {
  const ids = panels.map(() => unique('tab'));
  /** @param {number} chosen */
  const choose = (chosen) => {
    buttons.forEach((button, i) => {
      button.setAttribute('aria-selected', String(i === chosen));
      button.tabIndex = i === chosen ? 0 : -1;
      bodies[i].hidden = i !== chosen;
    });
  };
  /** @type {HTMLElement[]} */
  const buttons = panels.map(({ name }, i) => h('button.tab', {
    type: 'button', role: 'tab', id: ids[i], 'aria-controls': `${ids[i]}-panel`, onclick: () => choose(i),
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: panels.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = (to + panels.length) % panels.length;
      choose(next);
      buttons[next].focus();
    },
  }, name));
  /** @type {HTMLElement[]} */
  const bodies = panels.map(({ body }, i) => h('div', { role: 'tabpanel', id: `${ids[i]}-panel`, 'aria-labelledby': ids[i] }, body));
  choose(0);
  return h('div.tabs', null, h('div.tab-list', { role: 'tablist', 'aria-label': label }, buttons), bodies);
}
