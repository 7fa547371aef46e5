// What a key did: a chart by outcome with the same numbers as a table.
import { fill, h } from './dom.js';
import { get, isAbort } from './api.js';
import { date, number } from './format.js';
import { table } from './table.js';
import { outcomes, stacked } from './chart.js';
import { total } from './sparkline.js';

/** @typedef {import('./sparkline.js').Point} Point */

const ranges = [['minute', 'Hour'], ['hour', 'Day'], ['day', 'Month']];

const interval = 15_000; // milliseconds

/**
 * @param {number} id
 * @param {AbortSignal} signal
 */
export function usageCard(id, signal) {
  let resolution = 'hour';
  const body = h('div');
  /** @type {{remove: () => void} | null} */
  let chart = null;
  const load = async () => {
    const asked = resolution;
    try {
      const series = await get(`api-keys/${id}/usage/`, { query: { resolution }, signal });
      if (asked !== resolution || signal.aborted) return;
      const open = Boolean(body.querySelector('details')?.open);
      chart?.remove();
      chart = await paint(body, series.points, resolution, open);
    } catch (error) {
      if (isAbort(error) || signal.aborted) return;
      chart?.remove();
      chart = null;
      fill(body, h('p.muted', null, /** @type {any} */ (error).status === 501 ? 'This server does not count what keys do.' : 'The usage cannot be read now.'));
    }
  };
  const choices = ranges.map(([value, text]) => {
    const input = h('input', { type: 'radio', name: 'range', value, onchange: () => { resolution = value; void load(); } });
    input.checked = value === resolution;
    return h('label', null, input, h('span', null, text));
  });
  const timer = setInterval(() => {
    if (!document.hidden && !body.contains(document.activeElement)) void load();
  }, interval);
  const repaint = () => void load();
  addEventListener('themechange', repaint);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', repaint, { signal });
  signal.addEventListener('abort', () => {
    clearInterval(timer);
    removeEventListener('themechange', repaint);
    chart?.remove();
  });
  void load();
  return h('section.card.wide-card', { 'aria-labelledby': 'usage-title' },
    h('div.card-head', null, h('h2', { id: 'usage-title' }, 'Usage'),
      h('fieldset.segments', null, h('legend.unseen', null, 'Time range'), choices)), body);
}

/**
 * @param {HTMLElement} body
 * @param {Point[]} points
 * @param {string} resolution
 * @param {boolean} open whether the table was open
 */
async function paint(body, points, resolution, open) {
  const sum = total(points);
  const legend = h('ul.legend', null, outcomes.map(({ name, text }) => h('li', null, h(`span.swatch.${name}`), text, ' ',
    h('strong', null, number(points.reduce((all, point) => all + point[name], 0))))));
  const rows = points.filter((point) => total([point]) > 0).reverse();
  const details = h('details', null, h('summary', null, 'Show as a table'),
    rows.length > 0 ? table('Usage by time', ['Time', ...outcomes.map(({ text }) => text)],
      rows.map((point) => [date(point.time), ...outcomes.map(({ name }) => number(point[name]))])) : h('p.muted', null, 'No calls in this time.'));
  details.open = open;
  const box = h('div.chart', { role: 'img', 'aria-label': `Chart of ${number(sum)} calls by outcome; the table below has the numbers.` });
  fill(body, sum === 0 ? h('p.muted', null, 'No calls in this time. The chart fills as the key is used.') : null, box, legend, details);
  return stacked(box, points, resolution);
}
