// Runs before the first paint, as a plain script, so that the page never
// flashes in the other colours. What is chosen is kept in this browser only.
(() => {
  /** @type {string | null} */
  let chosen = null;
  try {
    chosen = localStorage.getItem('theme');
  } catch {
    // Storage is off: follow the system.
  }
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
})();
