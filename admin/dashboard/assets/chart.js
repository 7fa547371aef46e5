// A stacked bar chart with uPlot, which is loaded only where a chart is shown.

/** @typedef {import('./sparkline.js').Point} Point */

/** The outcomes of a call, from the bottom of a bar to its top. */
export const outcomes = /** @type {const} */ ([
  { name: 'allowed', text: 'Allowed' },
  { name: 'limited', text: 'Rate limited' },
  { name: 'origin', text: 'Wrong origin' },
  { name: 'address', text: 'Wrong IP' },
  { name: 'scope', text: 'Out of scope' },
  { name: 'state', text: 'Paused or expired' },
]);

/** @type {Promise<any> | null} */
let library = null;

/** @returns {Promise<any>} */
function load() {
  if (!library) {
    const sheet = document.createElement('link');
    sheet.rel = 'stylesheet';
    sheet.href = new URL('uplot/uPlot.min.css', import.meta.url).href;
    document.head.append(sheet);
    library = import('./uplot/uPlot.iife.min.js').then((module) => module.default);
  }
  return library;
}

/**
 * Draws the chart into box and keeps it as wide as that.
 * @param {HTMLElement} box
 * @param {Point[]} points
 * @param {string} resolution
 */
export async function stacked(box, points, resolution) {
  const uPlot = await load();
  const style = getComputedStyle(document.documentElement);
  /** @param {string} name */
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const times = points.map((point) => new Date(point.time).getTime() / 1000);
  // Each series is drawn from zero to the sum of those below it, the highest
  // first, so that the lower ones cover it.
  const order = [...outcomes].reverse();
  const sums = order.map(({ name }) => points.map((point) => {
    let sum = 0;
    for (const outcome of outcomes) {
      sum += point[outcome.name];
      if (outcome.name === name) break;
    }
    return sum;
  }));
  const bars = uPlot.paths.bars({ size: [0.8, 40], align: 1 });
  const axis = { stroke: colour('muted'), grid: { stroke: colour('line'), width: 1 }, ticks: { stroke: colour('line'), width: 1 }, font: '12px system-ui, sans-serif' };
  const step = { minute: 60, hour: 3600, day: 86_400 }[resolution] || 3600;
  const chart = new uPlot({
    width: Math.max(200, box.clientWidth), height: 220, legend: { show: false }, cursor: { show: false }, select: { show: false },
    scales: {
      x: { time: true, range: () => [times[0] ?? 0, (times.at(-1) ?? 0) + step] },
      y: { range: (/** @type {any} */ _u, /** @type {number} */ _min, /** @type {number} */ max) => [0, Math.max(4, max * 1.05)] },
    },
    axes: [{ ...axis, space: 70 }, { ...axis, size: 54, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 1e7, 1e8, 1e9] }],
    series: [{}, ...order.map(({ name, text }) => ({
      label: text, fill: colour(`outcome-${name}`), stroke: colour(`outcome-${name}`), width: 0, paths: bars, points: { show: false },
    }))],
  }, [times, ...sums], box);
  const observer = new ResizeObserver(() => {
    if (box.clientWidth > 0) chart.setSize({ width: box.clientWidth, height: 220 });
  });
  observer.observe(box);
  return {
    remove: () => {
      observer.disconnect();
      chart.destroy();
    },
  };
}
