// A figure: a plot that is drawn anew when its width changes, with the table of its numbers and a CSV file.

import { el } from "/static/elements.js";

const opened = new Set(); // tables that stay open when the figures are loaded anew
const drawn = new WeakMap();
const watch = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    const width = Math.floor(contentRect.width);
    const one = drawn.get(target);
    if (!one || width < 40 || width === one.width) continue;
    one.width = width;
    target.replaceChildren(one.draw(width));
  }
});

/** A figure. `draw(width)` gives the plot; null where there is nothing to draw: then `empty` is said.

table: {head: [names], rows: [[cells]]}, cells are texts or numbers; `file`: name of the CSV. */
export function figure({ id, title, about = "", legend = [], draw, empty = "", table, file, level = "h3" }) {
  const canvas = el("div", { class: "canvas" });
  if (draw) {
    drawn.set(canvas, { draw, width: 0 });
    watch.observe(canvas);
  } else canvas.append(el("p", { class: "nothing" }, empty));
  return el("figure", { class: "plot", id, "aria-labelledby": `${id}-title` },
    el("figcaption", {}, el(level, { id: `${id}-title` }, title), about ? el("p", { class: "hint" }, about) : null),
    legend.length ? el("ul", { class: "legend", "aria-label": "图例" }, legend.map(([kind, name]) => el("li", {}, el("span", { class: `key-mark ${kind}`, "aria-hidden": "true" }), name))) : null,
    canvas,
    table.rows.length ? numbers(id, title, table, file) : null);
}

function numbers(id, title, table, file) {
  const details = el("details", { class: "numbers", open: opened.has(id), ontoggle: () => (details.open ? opened.add(id) : opened.delete(id)) },
    el("summary", {}, "数据表"),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}：数据表` }, grid(title, table)),
    el("button", { type: "button", class: "quiet small", onclick: () => save(file, table) }, "下载 CSV"));
  return details;
}

/** A plain table; the first cell of each row is its header. */
export function grid(caption, { head, rows }) {
  return el("table", { class: "grid" },
    el("caption", { class: "vh" }, caption),
    el("thead", {}, el("tr", {}, head.map((name, index) => el("th", { scope: "col", class: typeof rows[0]?.[index] === "number" ? "number" : null }, name)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, index) => (index === 0
      ? el("th", { scope: "row" }, shown(cell)) : el("td", { class: typeof cell === "number" ? "number" : null }, shown(cell))))))));
}

/** A button that saves a table as CSV. */
export const saving = (file, table) => el("button", { type: "button", class: "quiet small", onclick: () => save(file, table) }, "下载 CSV");

const shown = (cell) => (cell === null || cell === undefined ? "–" : typeof cell === "number" ? cell.toLocaleString("zh-CN", { maximumFractionDigits: 3 }) : cell);

function save(file, { head, rows }) {
  const lines = [head, ...rows].map((row) => row.map(quoted).join(","));
  const url = URL.createObjectURL(new Blob(["\ufeff", lines.join("\r\n"), "\r\n"], { type: "text/csv;charset=utf-8" })); // the mark: spreadsheets then read UTF-8
  const link = el("a", { href: url, download: `${file}.csv` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** A cell of CSV; a text that a spreadsheet would compute is kept a text. */
function quoted(cell) {
  if (cell === null || cell === undefined) return "";
  const text = typeof cell === "string" && /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : String(cell);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
