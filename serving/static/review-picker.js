// The picker of a label: an input over a list (the combobox pattern), grouped as the tree until something
// is typed, then the best first. Works by keyboard alone; beside the list stand path and definition.

import { el, percent } from "/static/elements.js";
import { modal } from "/static/review-dialogs.js";
import { indexed, search } from "/static/review-search.js";

const MOST = 80; // results shown; who needs more types another letter
const PAGE = 8;

/** Ask for one label of a head; resolves with its code, or null when the dialog is left.

`likely`: code → probability; `groups`: inner nodes may be chosen too (for filters), as {codes}. */
export function pick({ title, head, current, likely = {}, groups = false }) {
  return new Promise((resolve) => new Picker({ title, head, current, likely, groups, resolve }).open());
}

class Picker {
  constructor(given) {
    Object.assign(this, given);
    this.entries = [...(this.groups ? inner(this.head.labels) : []), ...this.head.labels].map(indexed);
    this.shown = [];
    this.at = -1;
    this._build();
  }

  _build() {
    this.input = el("input", {
      id: "picker-input", type: "text", role: "combobox", autocomplete: "off", spellcheck: "false", autocapitalize: "none",
      "aria-expanded": "true", "aria-controls": "picker-list", "aria-autocomplete": "list", "aria-describedby": "picker-keys",
      placeholder: "汉字、拼音、首字母或编码", oninput: () => this._find(), onkeydown: (event) => this._key(event),
    });
    this.list = el("div", { id: "picker-list", role: "listbox", class: "picker-list", "aria-label": this.title, tabindex: "-1" });
    this.about = el("div", { class: "picker-about" });
    this.count = el("p", { class: "vh", role: "status" });
    this.dialog = el("dialog", { class: "sheet-dialog picker", id: "picker", "aria-labelledby": "picker-title" },
      el("div", { class: "dialog-head" }, el("h2", { id: "picker-title" }, this.title),
        el("button", { type: "button", class: "quiet small", onclick: () => this.shut() }, "取消 ", el("kbd", {}, "Esc"))),
      el("label", { class: "vh", for: "picker-input" }, `查找${this.title}`), this.input,
      el("div", { class: "picker-body" }, this.list, this.about), this.count,
      el("p", { class: "hint", id: "picker-keys" }, el("kbd", {}, "↑"), " ", el("kbd", {}, "↓"), " 移动　", el("kbd", {}, "PgUp"), " ", el("kbd", {}, "PgDn"),
        " 换一类　", el("kbd", {}, "Enter"), " 选定　", el("kbd", {}, "Esc"), " 取消"));
  }

  open() {
    this.result = null;
    this._find();
    this.shut = modal(this.dialog, () => this.resolve(this.result));
    this.input.focus();
    this._mark(Math.max(0, this.shown.findIndex((label) => label.code === this.current)));
  }

  _choose(index) {
    const label = this.shown[index];
    if (!label) return;
    this.result = label.codes ? { code: label.code, name: label.name, codes: label.codes } : label.code;
    this.shut();
  }

  // --- finding ----------------------------------------------------------------------------------

  _find() {
    const query = this.input.value.trim();
    const all = query ? search(this.entries, query, this.likely) : this.entries.map((entry) => entry.label);
    this.shown = query ? all.slice(0, MOST) : all;
    const rows = this.shown.map((label, index) => this._row(label, index, Boolean(query)));
    this.list.replaceChildren(...(query ? rows : grouped(this.shown, rows)));
    if (!rows.length) this.list.replaceChildren(el("p", { class: "hint picker-none" }, "没有找到；试试首字母、别的说法或编码"));
    this.count.textContent = query ? `找到 ${all.length} 项` : "";
    this._mark(rows.length ? 0 : -1);
  }

  _row(label, index, flat) {
    const above = label.path.slice(0, -1);
    return el("div", { role: "option", id: `picker-${index}`, class: "picker-row", "aria-selected": "false",
      onclick: () => this._choose(index), onmousemove: () => this._mark(index, false) },
    flat && above.length ? el("span", { class: "path" }, `${above.join(" › ")} › `) : null,
    el("span", { class: "picker-name" }, label.codes ? `${label.name}（全部 ${label.codes.length} 项）` : label.name),
    this.likely[label.code] ? el("span", { class: "number" }, percent(this.likely[label.code])) : null,
    label.code === this.current ? el("span", { class: "tag" }, "现在") : null,
    label.code !== label.name && !label.codes ? el("span", { class: "code" }, label.code) : null);
  }

  // --- moving -----------------------------------------------------------------------------------

  _mark(index, scroll = true) {
    this.list.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
    this.at = index;
    const row = index < 0 ? null : this.list.querySelector(`#picker-${index}`);
    row?.setAttribute("aria-selected", "true");
    if (row) this.input.setAttribute("aria-activedescendant", row.id);
    else this.input.removeAttribute("aria-activedescendant");
    if (scroll) row?.scrollIntoView({ block: "nearest" });
    this._tell(this.shown[index]);
  }

  _tell(label) {
    if (!label) {
      this.about.replaceChildren();
      return;
    }
    this.about.replaceChildren(
      el("p", { class: "path" }, label.path.slice(0, -1).join(" › ") || "第一级"),
      el("p", { class: "picker-title" }, label.name),
      el("p", {}, label.definition || el("span", { class: "hint" }, "标签体系没有写定义。")),
      label.keywords?.length ? el("p", { class: "hint" }, `常见说法：${label.keywords.slice(0, 12).join("、")}`) : null);
  }

  _key(event) {
    if (event.isComposing || event.keyCode === 229) return; // the input method's own keys
    const last = this.shown.length - 1;
    const moves = {
      ArrowDown: () => (this.at >= last ? 0 : this.at + 1), ArrowUp: () => (this.at <= 0 ? last : this.at - 1),
      PageDown: () => this._group(1), PageUp: () => this._group(-1),
    };
    if (event.key === "Enter") {
      event.preventDefault();
      this._choose(this.at);
    } else if (moves[event.key] && last >= 0) {
      event.preventDefault();
      this._mark(moves[event.key]());
    }
  }

  /** The first row of the next or the previous group; in a list without groups some rows on. */
  _group(step) {
    const rows = [...this.list.querySelectorAll("[role=option]")];
    const groups = [...this.list.querySelectorAll("[role=group]")];
    if (groups.length < 2) return Math.min(rows.length - 1, Math.max(0, this.at + step * PAGE));
    const here = groups.indexOf(rows[this.at]?.closest("[role=group]"));
    const next = groups[(here + step + groups.length) % groups.length];
    return rows.indexOf(next.querySelector("[role=option]"));
  }
}

function grouped(labels, rows) {
  const groups = new Map();
  labels.forEach((label, index) => {
    const name = label.path.length > 1 || label.codes ? label.path[0] : "";
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(rows[index]);
  });
  if (groups.size === 1 && groups.has("")) return rows;
  return [...groups].map(([name, some], index) => el("div", { role: "group", "aria-labelledby": `picker-group-${index}` },
    el("p", { class: "picker-group", id: `picker-group-${index}`, role: "presentation" }, name || "其他"), some));
}

/** Inner nodes of the tree as labels of their own, each with the codes below it. */
function inner(labels) {
  const nodes = new Map();
  for (const label of labels) {
    for (let depth = 1; depth < label.path.length; depth += 1) {
      const path = label.path.slice(0, depth);
      const key = path.join("›");
      if (!nodes.has(key)) nodes.set(key, { code: `group:${key}`, name: path.at(-1), path, codes: [], pinyin: "", keywords: [], definition: "" });
      nodes.get(key).codes.push(label.code);
    }
  }
  return [...nodes.values()];
}
