// A button that opens a list of actions (the ARIA menu button pattern).
import { h, unique } from './dom.js';

/** @typedef {{text: string, run: () => void, danger?: boolean}} Item */

/**
 * @param {{label: Node, name: string, items: Item[]}} options
 *   name: what screen readers say of the button
 * @returns {HTMLElement}
 */
export function button({ label, name, items }) {
  const id = unique('menu');
  const open = h('button.menu-button', { type: 'button', 'aria-haspopup': 'menu', 'aria-expanded': 'false', 'aria-controls': id, 'aria-label': name }, label);
  const list = h('ul.menu', { id, role: 'menu', 'aria-label': name, popover: 'auto' });
  for (const item of items) {
    list.append(h('li', { role: 'none' }, h('button', {
      type: 'button', role: 'menuitem', tabindex: '-1', class: item.danger ? 'danger-text' : null,
      onclick: () => {
        list.hidePopover();
        open.focus();
        item.run();
      },
    }, item.text)));
  }
  /** @type {() => HTMLElement[]} */
  const entries = () => [...list.querySelectorAll('[role=menuitem]')];
  const place = () => {
    const box = open.getBoundingClientRect();
    const height = list.offsetHeight;
    const below = box.bottom + height + 8 < innerHeight || box.top < height;
    list.style.top = `${below ? box.bottom + 4 : box.top - height - 4}px`;
    list.style.left = `${Math.max(8, Math.min(box.right - list.offsetWidth, innerWidth - list.offsetWidth - 8))}px`;
  };
  open.addEventListener('click', () => {
    if (list.matches(':popover-open')) {
      list.hidePopover();
      return;
    }
    list.showPopover();
    place();
    addEventListener('scroll', () => list.isConnected && list.matches(':popover-open') && list.hidePopover(), { passive: true, capture: true, once: true });
    entries()[0]?.focus();
  });
  list.addEventListener('toggle', (/** @type {any} */ event) => open.setAttribute('aria-expanded', String(event.newState === 'open')));
  list.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => {
    const all = entries();
    const at = all.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const to = { ArrowDown: (at + 1) % all.length, ArrowUp: (at + all.length - 1) % all.length, Home: 0, End: all.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      all[to].focus();
    } else if (event.key === 'Tab') {
      list.hidePopover();
    } else if (event.key === 'Escape') {
      event.preventDefault();
      list.hidePopover();
      open.focus();
    }
  });
  return h('div.menu-box', null, open, list);
}
