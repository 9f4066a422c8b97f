// Small builders for page elements: text goes in as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element with properties and children; strings become text, null and false are left out. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A decorative icon drawn from path data on a 24 × 24 grid. */
export function icon(...paths) {
  const node = document.createElementNS(SVG, "svg");
  node.setAttribute("viewBox", "0 0 24 24");
  node.setAttribute("class", "icon");
  node.setAttribute("aria-hidden", "true");
  for (const d of paths) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    node.append(path);
  }
  return node;
}

/** A share as people read it: never 100 % or 0 % unless it is exactly that. */
export function percent(share) {
  if (share >= 0.995 && share < 1) return ">99%";
  if (share > 0 && share < 0.005) return "<1%";
  return `${Math.round(share * 100)}%`;
}

/** A bar for a share; the number beside it says the same, so it is hidden from screen readers. */
export function bar(share) {
  const fill = el("i");
  fill.style.setProperty("--share", Math.max(0, Math.min(1, share)));
  return el("span", { class: "bar", "aria-hidden": "true" }, fill);
}
