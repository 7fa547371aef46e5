// Tables that become cards where the screen is narrow. The roles are written
// out, since a table that is not displayed as one loses them.
import { h } from './dom.js';

/** @typedef {import('./dom.js').Child} Child */

/**
 * @param {string} caption what the table lists, for screen readers
 * @param {string[]} columns their headings; those that begin with "-" are not shown
 * @param {Child[][]} rows a cell for each column
 * @returns {HTMLElement}
 */
export function table(caption, columns, rows) {
  const heads = columns.map((text) => h('th', { scope: 'col', role: 'columnheader' },
    text.startsWith('-') ? h('span.unseen', null, text.slice(1)) : text));
  return h('div.table-box', { tabindex: '0', role: 'region', 'aria-label': `${caption} table` }, h('table', { role: 'table', 'aria-label': caption },
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, heads)),
    h('tbody', { role: 'rowgroup' }, rows.map((cells) => h('tr', { role: 'row' }, cells.map((cell, i) => h(i === 0 ? 'th' : 'td', {
      scope: i === 0 ? 'row' : null, role: i === 0 ? 'rowheader' : 'cell',
      dataset: columns[i].startsWith('-') ? {} : { label: columns[i] },
    }, cell)))))));
}

/**
 * What stands in place of a list that is empty, with one thing to do.
 * @param {string} title
 * @param {string} text
 * @param {Child} [action]
 */
export const empty = (title, text, action) => h('div.empty', null, h('h2', null, title), h('p.muted', null, text), action);

/**
 * The buttons below a list of which there is more.
 * @param {{previous: (() => void) | null, next: (() => void) | null, text: string}} options
 */
export const pager = ({ previous, next, text }) => h('nav.pager', { 'aria-label': 'Pages' },
  h('span.muted', null, text),
  previous || next ? h('span', null,
    h('button.secondary.small', { type: 'button', disabled: !previous, onclick: previous }, 'Previous'),
    h('button.secondary.small', { type: 'button', disabled: !next, onclick: next }, 'Next')) : null);
