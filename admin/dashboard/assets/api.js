// The public admin API, which any program may call too.

/**
 * A refusal (RFC 9457) or a failure to reach the server.
 */
export class Problem extends Error {
  /**
   * @param {{status: number, code: string, detail?: string, title?: string, errors?: {location: string, message: string}[]}} problem
   * @param {number} [retryAfter] seconds
   */
  constructor(problem, retryAfter = 0) {
    super(problem.detail || problem.title || 'The server refused without saying why.');
    this.status = problem.status;
    this.code = problem.code;
    this.errors = problem.errors || [];
    this.retryAfter = retryAfter;
  }
}

const root = '/api/users/auth/';

/** @type {() => void} */
let signedOut = () => {};

/**
 * Sets what is called when the server no longer knows the session.
 * @param {() => void} handler
 */
export function onSignedOut(handler) {
  signedOut = handler;
}

/**
 * @typedef {{query?: Record<string, any>, body?: any, signal?: AbortSignal, quiet?: boolean}} CallOptions
 *   quiet: a missing session is the caller's business
 */

/**
 * Makes a call and returns its answer with its headers.
 * @param {string} method
 * @param {string} path below the API's root
 * @param {CallOptions} [options]
 * @returns {Promise<{data: any, headers: Headers}>}
 */
export async function call(method, path, options = {}) {
  let response;
  try {
    response = await fetch(root + path + queryOf(options.query), {
      method,
      signal: options.signal,
      credentials: 'same-origin',
      headers: options.body === undefined ? {} : { 'Content-Type': 'application/json' },
      body: options.body === undefined ? undefined : JSON.stringify(options.body),
    });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Problem({ status: 0, code: 'unreachable', detail: 'The server cannot be reached. Check the connection and try again.' });
  }
  const text = await response.text();
  const data = text && /json/.test(response.headers.get('Content-Type') || '') ? JSON.parse(text) : null;
  if (response.ok) return { data, headers: response.headers };
  const problem = new Problem(
    { code: 'failed', detail: `The server answered with status ${response.status}.`, ...data, status: response.status },
    Number(response.headers.get('Retry-After') || 0),
  );
  if (problem.status === 401 && problem.code === 'unauthenticated' && !options.quiet) signedOut();
  throw problem;
}

/** @param {Record<string, any>} [query] */
function queryOf(query) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query || {})) {
    for (const one of [value].flat()) {
      if (one !== undefined && one !== null && one !== '') parameters.append(name, String(one));
    }
  }
  return parameters.size > 0 ? `?${parameters}` : '';
}

/**
 * Whether an error only says that its page was left.
 * @param {unknown} error
 */
export const isAbort = (error) => error instanceof DOMException && error.name === 'AbortError';

/** @param {string} path @param {CallOptions} [options] */
export const get = async (path, options) => (await call('GET', path, options)).data;
/** @param {string} path @param {any} [body] @param {CallOptions} [options] */
export const post = async (path, body, options) => (await call('POST', path, { ...options, body })).data;
/** @param {string} path @param {any} body */
export const patch = async (path, body) => (await call('PATCH', path, { body })).data;

/**
 * The id to continue a list after, from its Link header.
 * @param {Headers} headers
 * @param {string} parameter
 */
export function nextOf(headers, parameter) {
  const match = /<([^>]*)>;\s*rel="?next"?/.exec(headers.get('Link') || '');
  return match ? new URL(match[1], location.origin).searchParams.get(parameter) : null;
}
