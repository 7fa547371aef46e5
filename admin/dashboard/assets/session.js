// Who is signed in, and what their role permits. The server decides; this
// only hides what it would refuse.
import { get, post } from './api.js';

/**
 * @typedef {object} Me
 * @property {number} id
 * @property {string} name
 * @property {string} [email]
 * @property {'owner' | 'admin' | 'viewer' | 'member'} role
 */

/** @type {Me | null} */
let current = null;

// Whether this browser signed in before. It spares who did not a call that
// must fail; the session itself is in a cookie that no script can read.
const mark = 'signed-in';

/** @param {boolean} on */
function remember(on) {
  try {
    if (on) localStorage.setItem(mark, 'yes');
    else localStorage.removeItem(mark);
  } catch {
    // Storage is off: the server is asked each time.
  }
}

function mayBeSignedIn() {
  try {
    return localStorage.getItem(mark) !== null;
  } catch {
    return true;
  }
}

/** @returns {Promise<Me | null>} null where nobody is signed in */
export async function loadMe() {
  if (!mayBeSignedIn()) return null;
  try {
    current = await get('me/', { quiet: true });
  } catch (error) {
    if (/** @type {any} */ (error).status !== 401) throw error;
    forgetMe();
  }
  return current;
}

/**
 * Opens a session.
 * @param {string} username a user name or an e-mail address
 * @param {string} password
 */
export async function signIn(username, password) {
  current = await post('login/cookie/', { username, password }, { quiet: true });
  remember(true);
}

/** @returns {Me} */
export const me = () => current || { id: 0, name: '', role: 'member' };

export const signedIn = () => current !== null;

export function forgetMe() {
  current = null;
  remember(false);
}

/** Whether the keys of all users are shown. */
export const seesAll = () => me().role !== 'member';

/** Whether keys of others, and blocked addresses, may be changed. */
export const managesAll = () => me().role === 'owner' || me().role === 'admin';

/** Whether keys may be made at all. */
export const makesKeys = () => me().role !== 'viewer';

/** Whether users, roles and invitations may be changed. */
export const managesUsers = () => me().role === 'owner';

/**
 * Whether a key may be changed.
 * @param {{owner: string}} key
 */
export const changesKey = (key) => managesAll() || (makesKeys() && key.owner === me().name);
