// A small chart of one day, for a table's cell.
import { svg } from './dom.js';
import { number } from './format.js';

/** @typedef {{time: string, allowed: number, limited: number, origin: number, address: number, scope: number, state: number}} Point */

/** @param {Point} point */
export const denied = (point) => point.limited + point.origin + point.address + point.scope + point.state;

/** @param {Point[]} points */
export const total = (points) => points.reduce((sum, point) => sum + point.allowed + denied(point), 0);

const width = 96;
const height = 24;

/**
 * A bar for each point: allowed below, denied above.
 * @param {Point[]} points
 */
export function sparkline(points) {
  const most = Math.max(1, ...points.map((point) => point.allowed + denied(point)));
  const step = width / Math.max(1, points.length);
  const bars = points.flatMap((point, i) => {
    const low = (point.allowed / most) * (height - 1);
    const high = (denied(point) / most) * (height - 1);
    /** @param {number} y @param {number} size @param {string} kind */
    const bar = (y, size, kind) => svg('rect', { x: (i * step).toFixed(2), y: y.toFixed(2), width: (step - 1).toFixed(2), height: size.toFixed(2), class: kind });
    return [
      ...(low > 0 ? [bar(height - low, Math.max(low, 1), 'allowed')] : []),
      ...(high > 0 ? [bar(height - low - high, Math.max(high, 1), 'denied')] : []),
    ];
  });
  const allowed = points.reduce((sum, point) => sum + point.allowed, 0);
  const text = `${number(allowed)} calls allowed and ${number(total(points) - allowed)} denied in the last 24 hours`;
  return svg('svg', { viewBox: `0 0 ${width} ${height}`, width, height, class: 'spark', role: 'img', 'aria-label': text },
    svg('line', { x1: 0, x2: width, y1: height - 0.5, y2: height - 0.5, class: 'base' }), ...bars);
}
