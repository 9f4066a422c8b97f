// The left side: queues with what waits in them, and filters by category, place and time.

import { el } from "/static/elements.js";
import { pick } from "/static/review-picker.js";

const EMPTY = { categories: [], district: "", street: "", community: "", since: null, until: null };
const PLACES = [["district", "区（县）"], ["street", "街道（乡镇）"], ["community", "社区"]];

/** `page`: {switched(queue, filters), labels() → the category head for the picker, or undefined}. */
export class Queues {
  constructor(list, form, page) {
    Object.assign(this, { list, form, page, known: [], queue: "", filters: { ...EMPTY }, branch: null });
    form.append(...this._fields());
    form.addEventListener("submit", (event) => { event.preventDefault(); this._apply(); });
  }

  /** Draw the queues with their counts; the focus stays where it is. */
  show(known) {
    const at = this.list.contains(document.activeElement) ? document.activeElement.dataset.queue : null;
    this.known = known;
    this.list.replaceChildren(...known.map((one, index) => el("li", {}, this._button(one, index))));
    if (at) this.list.querySelector(`[data-queue="${CSS.escape(at)}"]`)?.focus();
  }

  _button(one, index) {
    const count = `${one.waiting}${one.more ? "+" : ""}`;
    return el("button", { type: "button", class: "queue", "data-queue": one.queue, "aria-current": one.queue === this.queue ? "true" : null,
      title: one.about, onclick: () => this.go(one.queue) },
    el("kbd", { "aria-hidden": "true" }, String(index + 1)), el("span", { class: "queue-name" }, one.name),
    el("span", { class: "queue-count" }, count, el("span", { class: "vh" }, ` 条等待${one.held ? `，${one.held} 条正在处理` : ""}`)));
  }

  focus() {
    const button = this.list.querySelector("[aria-current]") ?? this.list.querySelector("button");
    button?.focus();
  }

  /** The n-th queue, counted from 1. */
  digit(number) {
    const one = this.known[number - 1];
    if (one) this.go(one.queue);
    return Boolean(one);
  }

  go(queue) {
    if (queue === this.queue) return;
    this.queue = queue;
    this.show(this.known);
    this.page.switched(queue, this.asked());
  }

  /** The filters in the words of the API. */
  asked() {
    const { since, until } = this.filters;
    const days = { since: since && `${since}T00:00:00`, until: until && `${after(until)}T00:00:00` };
    return { ...this.filters, ...days };
  }

  // --- filters ----------------------------------------------------------------------------------

  _fields() {
    this.chosen = el("button", { type: "button", class: "quiet small pick-category", id: "filter-category", "aria-describedby": "filter-category-label",
      onclick: () => this._pick() }, "全部");
    const place = ([name, label]) => el("label", {}, label, el("input", { name, maxlength: "64", autocomplete: "off" }));
    return [
      el("p", { id: "filter-category-label" }, "事项分类"), this.chosen, PLACES.map(place).flat(),
      el("label", {}, "受理日期，从", el("input", { name: "since", type: "date", min: "2000-01-01", max: "2099-12-31" })),
      el("label", {}, "到", el("input", { name: "until", type: "date", min: "2000-01-01", max: "2099-12-31" })),
      el("div", { class: "filter-actions" }, el("button", { type: "submit", class: "quiet small" }, "应用"),
        el("button", { type: "button", class: "quiet small", onclick: () => this._clear() }, "清除")),
    ].flat();
  }

  async _pick() {
    const head = this.page.labels();
    if (!head) return;
    const found = await pick({ title: "按事项分类筛选", head, groups: true });
    if (found === null) return;
    const label = head.labels.find((one) => one.code === found);
    this.branch = { name: label?.name ?? found.name, codes: label ? [label.code] : found.codes };
    this.chosen.textContent = this.branch.name;
  }

  _apply() {
    const given = new FormData(this.form);
    const text = (name) => String(given.get(name) ?? "").trim();
    this.filters = { categories: this.branch?.codes ?? [], district: text("district"), street: text("street"), community: text("community"),
      since: text("since") || null, until: text("until") || null };
    this._mark();
    this.page.switched(this.queue, this.asked());
  }

  _clear() {
    this.form.reset();
    this.branch = null;
    this.chosen.textContent = "全部";
    this._apply();
  }

  /** Say in the fold's heading that something is filtered: else an empty queue is a riddle. */
  _mark() {
    const { categories, ...rest } = this.filters;
    const count = (categories.length ? 1 : 0) + Object.values(rest).filter(Boolean).length;
    this.form.closest("details").querySelector("summary").textContent = count ? `筛选（${count} 项）` : "筛选";
    this.form.closest("details").classList.toggle("filtering", count > 0);
  }
}

/** The day after: `until` itself is meant to be in. */
function after(day) {
  const moment = new Date(`${day}T12:00:00Z`);
  moment.setUTCDate(moment.getUTCDate() + 1);
  return moment.toISOString().slice(0, 10);
}
