// How numbers and times are written.

const whole = new Intl.NumberFormat('en');
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const dateTime = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'short' });
const dateTimeSeconds = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'medium' });
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });

/** @param {number} n */
export const number = (n) => whole.format(n);

/** @param {number} n */
export const short = (n) => (n < 10_000 ? whole.format(n) : compact.format(n));

/** @param {string | number | Date} time */
export const date = (time) => dateTime.format(new Date(time));

/** @param {string | number | Date} time */
export const dateSeconds = (time) => dateTimeSeconds.format(new Date(time));

/** @type {[Intl.RelativeTimeFormatUnit, number][]} */
const units = [['year', 31_536_000], ['month', 2_592_000], ['day', 86_400], ['hour', 3600], ['minute', 60]];

/**
 * "3 minutes ago" or "in 2 days".
 * @param {string | number | Date} time
 */
export function ago(time) {
  const seconds = (new Date(time).getTime() - Date.now()) / 1000;
  for (const [unit, length] of units) {
    if (Math.abs(seconds) >= length) return relative.format(Math.trunc(seconds / length), unit);
  }
  return seconds > 0 ? 'in less than a minute' : 'just now';
}

/**
 * How long until time, as "4 min 10 s"; "now" where it has passed.
 * @param {string | number | Date} time
 */
export function until(time) {
  const seconds = Math.ceil((new Date(time).getTime() - Date.now()) / 1000);
  if (seconds <= 0) return 'now';
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} days`;
}

/**
 * The value of a datetime-local field that stands for a time.
 * @param {string | number | Date} time
 */
export function localInput(time) {
  const when = new Date(time);
  return new Date(when.getTime() - when.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/**
 * One or many: "1 key", "3 keys".
 * @param {number} n
 * @param {string} noun
 */
export const count = (n, noun) => `${number(n)} ${noun}${n === 1 ? '' : 's'}`;
