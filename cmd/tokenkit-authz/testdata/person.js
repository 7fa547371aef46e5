// What a person sees and can reach on a page. Loaded into every page by the
// tests that drive one.
globalThis.person = (() => {
  const clean = (text) => (text || '').replace(/\s+/g, ' ').trim();

  // Only the uppermost dialog can be used while one is open.
  const scope = () => [...document.querySelectorAll('dialog[open]')].at(-1) || document.body;

  const visible = (element) => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length > 0;

  const nameOf = (element) => clean(element.getAttribute('aria-label')
    || (element.getAttribute('aria-labelledby') && document.getElementById(element.getAttribute('aria-labelledby'))?.innerText)
    || element.innerText || element.textContent);

  const clickable = 'button, a[href], summary, [role=button], [role=menuitem], [role=tab], label:has(input[type=radio]), label:has(input[type=checkbox])';

  const labelOf = (field) => clean(field.getAttribute('aria-label') || [...(field.labels || [])].map((label) => label.innerText).join(' '));

  const field = (label) => [...scope().querySelectorAll('input, select, textarea')].find((one) => labelOf(one) === label && !one.closest('[hidden]'));

  const tests = {
    settled: () => document.readyState === 'complete' && document.querySelector('main') && !document.querySelector('main[aria-busy]') && { value: true },
    target: (name) => {
      const found = [...scope().querySelectorAll(clickable), ...document.querySelectorAll('#toasts button')].filter((one) => nameOf(one) === name && visible(one) && !one.disabled);
      if (found.length === 0) return null;
      const element = found[0];
      element.scrollIntoView({ block: 'nearest', behavior: 'instant' });
      const box = element.getBoundingClientRect();
      const at = [box.x + box.width / 2, box.y + box.height / 2];
      const top = document.elementFromPoint(...at);
      return top && (element === top || element.contains(top)) && { value: at };
    },
    focusField: (label) => {
      const one = field(label);
      if (!one || !visible(one)) return null;
      one.focus();
      one.select?.();
      return document.activeElement === one && { value: true };
    },
    choose: (label, option) => {
      const one = field(label);
      const entry = one && [...one.options].find((o) => clean(o.textContent) === option);
      if (!entry) return null;
      one.value = entry.value;
      one.dispatchEvent(new Event('change', { bubbles: true }));
      return { value: true };
    },
    see: (text) => (clean(scope().innerText).includes(text) || clean(document.getElementById('toasts')?.innerText).includes(text)) && { value: true },
    miss: (text) => !clean(scope().innerText).includes(text) && { value: true },
    row: (texts) => {
      const row = [...scope().querySelectorAll('tbody tr')].find((one) => texts.every((text) => clean(one.innerText).includes(text)));
      return row && { value: clean(row.innerText) };
    },
    value: (label) => {
      const one = field(label);
      return one && { value: one.value };
    },
    focused: () => ({ value: nameOf(document.activeElement) || labelOf(document.activeElement) }),
    disabled: (name) => {
      const one = [...scope().querySelectorAll('button')].find((button) => nameOf(button) === name);
      return one && { value: one.disabled };
    },
    link: (name) => {
      const one = [...scope().querySelectorAll('a[href]')].find((link) => nameOf(link) === name);
      return one && { value: one.href };
    },
    background: () => ({ value: getComputedStyle(document.body).backgroundColor + getComputedStyle(document.documentElement).backgroundColor }),
    excess: () => ({ value: Math.max(0, document.documentElement.scrollWidth - innerWidth) }),
    title: () => ({ value: document.title }),
    // Whether a text is anywhere in the page or in what it stores.
    holds: (text) => ({
      value: document.documentElement.outerHTML.includes(text) || [...document.querySelectorAll('input, textarea')].some((one) => one.value.includes(text))
        || JSON.stringify({ ...localStorage, ...sessionStorage }).includes(text),
    }),
    path: (expected) => location.pathname === expected && { value: true },
  };

  return {
    run: async (patience, name, args) => {
      const end = performance.now() + patience;
      for (;;) {
        const found = tests[name](...args);
        if (found) return JSON.stringify({ Value: found.value });
        if (performance.now() > end) return JSON.stringify({ Error: `not so after ${patience} ms; the page shows: ${clean(scope().innerText).slice(0, 1500)}` });
        await new Promise((resolve) => { setTimeout(resolve, 20); });
      }
    },
  };
})();
