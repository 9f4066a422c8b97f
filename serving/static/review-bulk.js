// One label for many look-alikes: choose them, see what would change, confirm; and take it back.

import { el } from "/static/elements.js";
import { Away, Refused, api, newToken } from "/static/review-api.js";
import { lookAlike } from "/static/review-aside.js";
import { dialog } from "/static/review-dialogs.js";
import { pathOf } from "/static/review-heads.js";
import { pick } from "/static/review-picker.js";

const MOST = 50; // look-alikes offered at once

/** Open for the sheet at hand. `page`: {known(head), lead, told(text), renewed()}. */
export async function openBulk(sheet, head, page) {
  const bulk = new Bulk(sheet, head, page);
  await bulk.load();
}

class Bulk {
  constructor(sheet, head, page) {
    Object.assign(this, { sheet, head, page, found: [], chosen: new Set(), final: false, shown: null, token: newToken(), said: "" });
    this.code = sheet.labels[head] ?? "";
    this.body = el("div", { class: "bulk" });
    this.problem = el("div", { class: "problem", role: "alert", hidden: true });
    this.status = el("p", { class: "vh", role: "status" });
    Object.assign(this, dialog("bulk", "批量标注相似诉求", [this.problem, this.body, this.status]));
    this.node.addEventListener("keydown", (event) => this._key(event));
  }

  async load() {
    this.body.replaceChildren(el("p", { class: "hint" }, "正在查找相似诉求…"));
    await this._try(async () => {
      this.found = (await api.similar(this.sheet.id, MOST)).similar;
      for (const one of this.found) if (one.duplicate) this.chosen.add(one.id);
      this._choosing();
    }, () => this.load());
  }

  // --- choosing ---------------------------------------------------------------------------------

  _choosing() {
    this.shown = null;
    if (!this.found.length) {
      this.body.replaceChildren(el("p", {}, "没有找到相似的诉求。"));
      return;
    }
    this.counted = el("span", {});
    this.next = el("button", { type: "button", class: "primary", onclick: () => this._preview() }, "预览变化 ", el("kbd", {}, "Enter"));
    this.body.replaceChildren(this._wish(),
      el("ul", { class: "bulk-list", "aria-label": "相似的诉求" }, this.found.map((one) => this._row(one))),
      el("div", { class: "dialog-actions" }, el("p", { class: "hint" }, this.counted, "　", el("kbd", {}, "空格"), " 选　", el("kbd", {}, "↑"), " ", el("kbd", {}, "↓"), " 移动"),
        this._button("全选", () => this._all(() => true)), this._button("只选几乎相同", () => this._all((one) => one.duplicate)), this._button("全不选", () => this._all(() => false)), this.next));
    this._count();
    this.body.querySelector(".bulk-list input").focus();
  }

  _button(name, act) {
    return el("button", { type: "button", class: "quiet small", onclick: act }, name);
  }

  /** Which head gets which label; a lead may decide for all. */
  _wish() {
    const known = this.page.known(this.head);
    const heads = this.sheet.task.heads.map((one) => {
      const option = el("option", { value: one.head }, one.name);
      option.selected = one.head === this.head;
      return option;
    });
    const box = el("input", { type: "checkbox", id: "bulk-final", onchange: () => { this.final = box.checked; } });
    box.checked = this.final;
    return el("div", { class: "bulk-wish" },
      el("label", {}, "分类头", el("select", { id: "bulk-head", onchange: (event) => this._changeHead(event.target.value) }, heads)),
      el("p", {}, "统一标为 ", el("b", { id: "bulk-code" }, pathOf(this.sheet.head(this.head), this.code, known).join(" › "))),
      el("button", { type: "button", class: "quiet small", id: "bulk-pick", onclick: () => this._pick() }, "换一个… ", el("kbd", {}, "/")),
      this.page.lead ? el("label", { class: "switch" }, box, "作为裁定") : null);
  }

  _changeHead(head) {
    this.head = head;
    this.code = this.sheet.labels[head] ?? "";
    this._choosing();
    this.body.querySelector("#bulk-head").focus();
  }

  async _pick() {
    const head = this.page.known(this.head);
    const code = head && await pick({ title: head.name, head, current: this.code });
    if (typeof code !== "string") return;
    this.code = code;
    this._choosing();
  }

  _row(one) {
    const box = el("input", { type: "checkbox", value: one.id, "aria-labelledby": `alike-${one.id}`, onchange: () => this._toggle(one.id, box.checked) });
    box.checked = this.chosen.has(one.id);
    return el("li", {}, el("label", {}, box, el("div", { id: `alike-${one.id}`, class: "alike" }, lookAlike(one))));
  }

  _toggle(id, on) {
    if (on) this.chosen.add(id);
    else this.chosen.delete(id);
    this._count();
  }

  _all(fits) {
    this.chosen = new Set(this.found.filter(fits).map((one) => one.id));
    for (const box of this.body.querySelectorAll(".bulk-list input")) box.checked = this.chosen.has(box.value);
    this._count();
  }

  _count() {
    this.counted.textContent = `已选 ${this.chosen.size} / ${this.found.length} 条`;
    this.next.setAttribute("aria-disabled", String(!this.chosen.size));
  }

  // --- seeing and doing -------------------------------------------------------------------------

  get wish() {
    return { ids: this.found.map((one) => one.id).filter((id) => this.chosen.has(id)), head: this.head, code: this.code, final: this.final };
  }

  async _preview() {
    if (!this.chosen.size) return;
    await this._try(async () => {
      this.shown = await api.preview(this.wish);
      this.token = newToken();
      this._previewed();
    }, () => this._preview());
  }

  _previewed() {
    const { changes, changing } = this.shown;
    const confirmed = changes.filter((one) => !one.stays && one.before === one.after).length;
    const sum = `改变 ${changing - confirmed} 条，确认模型建议 ${confirmed} 条，不变 ${changes.length - changing} 条`;
    const why = { same: "已经是", adjudicated: "组长已裁定" };
    const row = (one) => el("tr", { class: one.stays ? "stays" : null },
      el("td", {}, el("span", { class: "alike-text" }, one.text)),
      el("td", {}, one.before_name || "（无）", el("span", { class: "hint" }, one.by === "person" ? " 人工" : one.by === "model" ? " 模型" : "")),
      el("td", {}, one.stays ? el("span", { class: "tag" }, `不变：${why[one.stays]}`)
        : [el("b", { class: one.before === one.after ? "same" : null }, one.after === null ? "将有分歧" : one.after_name || "无法判断"), el("span", { class: "hint" }, " 人工")]));
    const doing = el("button", { type: "button", class: "primary", id: "bulk-do", onclick: () => this._do() }, `标注这 ${changing} 条 `, el("kbd", {}, "Enter"));
    doing.setAttribute("aria-disabled", String(!changing));
    this.body.replaceChildren(
      el("p", { class: "bulk-sum" }, `${this.page.known(this.head)?.name ?? ""}：`, el("b", {}, sum), "。"),
      el("div", { class: "bulk-table", tabindex: "0", role: "group", "aria-label": "会改变什么" }, el("table", {},
        el("thead", {}, el("tr", {}, ["诉求", "现在", "之后"].map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, changes.map(row)))),
      el("div", { class: "dialog-actions" }, this._button("返回修改", () => this._choosing()), doing));
    this.status.textContent = sum;
    doing.focus();
  }

  async _do() {
    if (!this.shown.changing) return;
    const { fingerprint } = this.shown;
    await this._try(async () => {
      const { done } = await api.bulk({ ...this.wish, fingerprint, token: this.token, comment: "" });
      this.said = this.token;
      this._done(done);
    }, () => this._do());
  }

  _done(done) {
    const back = el("button", { type: "button", class: "quiet", id: "bulk-back", onclick: () => this._withdraw() }, "撤回这次批量标注");
    const close = el("button", { type: "button", class: "primary", onclick: () => this.shut() }, "完成 ", el("kbd", {}, "Enter"));
    this.body.replaceChildren(el("p", { class: "bulk-sum" }, el("b", {}, `已标注 ${done.rows} 条`), done.unchanged ? `，${done.unchanged} 条本来就是。` : "。"),
      el("div", { class: "dialog-actions" }, back, close));
    close.focus();
    this.page.told(`批量标注了 ${done.rows} 条`);
    this.page.renewed();
  }

  async _withdraw() {
    this.back = this.back ?? newToken();
    await this._try(async () => {
      const { done } = await api.withdraw(this.said, this.back);
      this.body.replaceChildren(el("p", { class: "bulk-sum" }, el("b", {}, `已撤回 ${done.rows} 条`), "。"));
      this.page.told(`撤回了批量标注的 ${done.rows} 条`);
      this.page.renewed();
      this.node.querySelector("button").focus();
    }, () => this._withdraw());
  }

  /** Do it; what goes wrong is told here, with a button to try again under the same token. */
  async _try(work, again) {
    this.problem.hidden = true;
    try {
      await work();
    } catch (error) {
      if (!(error instanceof Away) && !(error instanceof Refused)) throw error;
      const stale = error.code === "review_conflict";
      this.problem.replaceChildren(el("b", {}, stale ? "预览之后标注有了变化" : error.message), el("span", {}, stale ? "请重新预览。" : error.problem?.hint ?? ""),
        el("button", { type: "button", class: "quiet small", onclick: () => (stale ? this._preview() : again()) }, stale ? "重新预览" : "再试一次"));
      this.problem.hidden = false;
    }
  }

  _key(event) {
    if (document.querySelector("#picker") || event.isComposing) return;
    const boxes = [...this.body.querySelectorAll(".bulk-list input")];
    const at = boxes.indexOf(document.activeElement);
    if (event.key === "/" && this.body.querySelector("#bulk-pick")) this._stop(event, () => this._pick());
    else if (at < 0) return;
    else if (event.key === "ArrowDown") this._stop(event, () => boxes[Math.min(at + 1, boxes.length - 1)].focus());
    else if (event.key === "ArrowUp") this._stop(event, () => boxes[Math.max(at - 1, 0)].focus());
    else if (event.key === "Enter") this._stop(event, () => this._preview());
  }

  _stop(event, act) {
    event.preventDefault();
    act();
  }
}
