// The middle: the appeal itself – when, where, how it came, what was decided, its words, the comment.

import { left, moment, past } from "/static/clock.js";
import { el } from "/static/elements.js";
import { WordChoice, coverHere, drawWords, selectedSpan, triggerRows } from "/static/review-text.js";

const $ = (id) => document.getElementById(id);
const ACTIONS = { auto_dispatch: "自动派单", review: "人工复核", transfer: "移交" };

/** `page`: {noted(), flag(spans), unflag(flag), said(text), accept(), layer(head)}. */
export class Paper {
  constructor(page) {
    Object.assign(this, { page, sheet: null, layer: "category", choice: null });
    $("comment").addEventListener("input", () => {
      this.sheet.comment = $("comment").value;
      page.noted();
    });
    $("comment").addEventListener("keydown", (event) => this._commentKey(event));
    $("words").addEventListener("keydown", (event) => this._wordKey(event));
    $("words").addEventListener("blur", () => this._leaveWords());
  }

  show(sheet) {
    this.sheet = sheet;
    this.choice = null;
    $("paper").hidden = false;
    $("nothing").hidden = true;
    this._slip();
    this._decision();
    if (!sheet.head(this.layer)) this.layer = sheet.task.heads[0]?.head ?? "";
    this._layers();
    this.words();
    this.covers();
    this._legend();
    $("comment").value = sheet.comment;
    $("comment-box").hidden = !sheet.comment;
    $("paper").scrollTop = 0;
  }

  /** Nothing lies here: still fetching, or none waits. */
  clear(title, lines) {
    this.sheet = null;
    $("paper").hidden = true;
    $("nothing").hidden = false;
    $("nothing").replaceChildren(el("h1", { class: "empty-title" }, title), ...lines);
  }

  // --- parts ------------------------------------------------------------------------------------

  _slip() {
    const { appeal, lease } = this.sheet.task;
    const { city, district, street, community, grid } = appeal.place;
    const place = [city, district, street, community, grid].filter(Boolean).join(" ");
    $("appeal-id").textContent = appeal.id;
    $("slip").replaceChildren(...[
      el("span", {}, "受理 ", el("time", { datetime: appeal.received_at }, moment(appeal.received_at))),
      appeal.channel && el("span", {}, appeal.channel), place && el("span", {}, place),
      appeal.declared_type && el("span", {}, `登记为${appeal.declared_type}`),
    ].filter(Boolean));
    this.state();
    $("paper").classList.toggle("read-only", !lease);
  }

  /** Whether the appeal is this reviewer's, and whether somebody else is asked too. */
  state() {
    const { task, lost } = this.sheet;
    const told = [
      !task.lease && ["was-lost", "只读：正由他人处理"],
      lost && ["was-lost", "租约已到期，可能已转给他人；您提交的仍会保留"],
      task.wanted > 1 && ["was-double", task.blind ? "双人复核 · 请独立判断" : "双人复核"],
      !task.explained && ["", "依据暂缺：模型正忙"],
    ].filter(Boolean);
    $("marks").replaceChildren(...told.map(([kind, text]) => el("span", { class: `tag ${kind}` }, text)));
  }

  _decision() {
    const made = this.sheet.task.decision;
    $("decided").hidden = !made?.action;
    if (!made?.action) return;
    const due = made.respond_by ?? made.resolve_by;
    const to = made.transfer_to?.length ? ` ${made.transfer_to.join("、")}` : "";
    $("decided").dataset.action = made.action;
    $("decided").replaceChildren(
      el("p", { class: "decided-what" }, el("b", {}, `${ACTIONS[made.action] ?? made.action}${to}`),
        due ? el("span", { class: past(due) ? "late due-left" : "due-left" }, `${made.respond_by ? "答复" : "办结"}不晚于 ${moment(due)} · `,
          el("span", { "data-until": due }, left(due))) : null),
      made.reasons?.length ? el("p", { class: "hint" }, made.reasons.map((one) => one.text).join("；")) : null);
  }

  _layers() {
    const radio = (head) => {
      const input = el("input", { type: "radio", name: "layer", value: head.head, onchange: () => this.page.layer(head.head) });
      input.checked = head.head === this.layer;
      return el("label", {}, input, el("span", {}, head.name));
    };
    $("layers").replaceChildren(el("legend", { class: "vh" }, "标出哪一项判定的依据"), ...this.sheet.task.heads.map(radio));
  }

  words() {
    drawWords($("words"), this.sheet, this.layer, this.choice?.span ?? null);
  }

  /** Show what spoke for another head. */
  evidence(head) {
    this.layer = head;
    const radio = $("layers").querySelector(`[value="${CSS.escape(head)}"]`);
    if (radio) radio.checked = true;
    this.words();
  }

  next() {
    const heads = this.sheet.task.heads.map((one) => one.head);
    return heads[(heads.indexOf(this.layer) + 1) % heads.length];
  }

  _legend() {
    const rows = triggerRows(this.sheet);
    $("triggers").hidden = !rows.length;
    $("triggers-list").replaceChildren(...rows);
  }

  covers() {
    const { flags } = this.sheet.task.appeal;
    $("covers").hidden = !flags.length;
    $("covers").replaceChildren(el("span", {}, `已遮盖个人信息 ${flags.length} 处`), ...flags.map((flag, index) => el("button", {
      type: "button", class: "quiet small", disabled: flag.number ? null : true, onclick: () => this.page.unflag(flag),
    }, `撤销第 ${index + 1} 处`)));
  }

  // --- comment ----------------------------------------------------------------------------------

  comment() {
    $("comment-box").hidden = false;
    $("comment").focus();
  }

  _commentKey(event) {
    if (event.isComposing) return;
    if (event.key === "Escape") {
      event.preventDefault();
      $("comment-box").hidden = !this.sheet.comment;
      $("paper").focus({ preventScroll: true });
    } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.page.accept();
    }
  }

  // --- personal data ----------------------------------------------------------------------------

  /** Cover what the mouse selected; without a selection begin to choose words by keyboard. */
  flag() {
    const selected = selectedSpan($("words"));
    if (selected) {
      getSelection().removeAllRanges();
      this._cover(selected);
      return;
    }
    const choice = new WordChoice(this.sheet.task.appeal.text);
    if (!choice.words.length) return;
    this.choice = choice;
    $("words").focus();
    this._chosen("选词：方向键移动，Shift 加方向键扩选，Enter 遮盖，Esc 取消。");
  }

  _chosen(before = "") {
    this.words();
    $("words").classList.add("choosing");
    $("words").querySelector(".picked")?.scrollIntoView({ block: "nearest" });
    this.page.said(`${before}选中“${this.choice.text}”`);
  }

  _wordKey(event) {
    if (!this.choice) return;
    if (event.key === "Enter") this._cover(this.choice.span);
    else if (event.key === "Escape") this._leaveWords();
    else if (this.choice.move(event.key, event.shiftKey)) this._chosen();
    else if (event.key.length > 1) return;
    event.preventDefault(); // while words are chosen, letters mean nothing else
    event.stopPropagation();
  }

  _cover(span) {
    const { appeal } = this.sheet.task;
    coverHere(appeal, [span]);
    appeal.flags.push({ number: 0, start: span[0], end: span[1], reviewer: "" });
    this.page.flag([span]);
    this._leaveWords();
    this.words();
    this.covers();
    this.page.said(`已遮盖 ${span[1] - span[0]} 个字`);
  }

  _leaveWords() {
    if (!this.choice) return;
    this.choice = null;
    $("words").classList.remove("choosing");
    this.words();
    $("paper").focus({ preventScroll: true });
  }
}
