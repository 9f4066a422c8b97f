// The heads of an appeal, one under the other: the answer that will be said, how sure the model is,
// alternatives with digits, what people said before.

import { bar, el, percent } from "/static/elements.js";

const FEW = 9; // labels that all get a digit, always the same one
const STATES = { agreed: "一致", sure: "已标注", adjudicated: "已裁定", disputed: "有分歧", partial: "部分", untellable: "无法判断" };

/** The choices that digits stand for: all labels of a small head in the scheme's order, else the likely ones. */
export function choices(head, known) {
  const shares = likely(head);
  if (known && !known.tree && known.labels.length <= FEW) {
    return known.labels.map((label) => ({ code: label.code, name: label.name, path: label.path, probability: shares[label.code] }));
  }
  const first = head.code ? [{ code: head.code, name: head.label, path: head.path, probability: head.probability }] : [];
  const seen = new Set(first.map((one) => one.code));
  const held = head.in_force?.code && !seen.has(head.in_force.code) && !head.alternatives.some((one) => one.code === head.in_force.code)
    ? [{ code: head.in_force.code, name: head.in_force.name, path: [head.in_force.name] }] : [];
  return [...first, ...head.alternatives, ...held].slice(0, FEW);
}

/** code → probability, as far as the answer tells. */
export function likely(head) {
  return Object.fromEntries([[head.code, head.probability], ...head.alternatives.map((one) => [one.code, one.probability])].filter(([code]) => code));
}

/** The head at hand as people read it: names from the first level down. */
export function pathOf(head, code, known) {
  if (code === "") return ["无法判断"];
  const found = choices(head, known).find((one) => one.code === code) ?? known?.labels.find((one) => one.code === code);
  return found ? (found.path?.length ? found.path : [found.name]) : [code];
}

/** All heads; `page`: {letters, known, focused, choose(head, code), pick(head), focus(head)}. */
export class Heads {
  constructor(node, page) {
    Object.assign(this, { node, page, sheet: null });
  }

  show(sheet) {
    this.sheet = sheet;
    this.node.replaceChildren(...sheet.task.heads.map((head) => this._group(head)));
    for (const head of sheet.task.heads) this.renew(head.head);
  }

  clear() {
    this.sheet = null;
    this.node.replaceChildren();
  }

  _group(head) {
    return el("section", { class: "head", id: `head-${head.head}`, "data-head": head.head, tabindex: "-1", role: "group",
      "aria-labelledby": `head-${head.head}-name head-${head.head}-now`, onfocusin: () => this.page.focused(head.head) });
  }

  /** Draw one head anew; the group stays, and with it the focus. */
  renew(name) {
    const group = this.node.querySelector(`[data-head="${CSS.escape(name)}"]`);
    const head = this.sheet.head(name);
    const known = this.page.known(name);
    const code = this.sheet.labels[name];
    const changed = code !== this.sheet.first[name];
    group.classList.toggle("changed", changed);
    group.replaceChildren(this._answer(head, known, code, changed), this._options(head, known, code), ...this._notes(head, known, code, changed));
  }

  _answer(head, known, code, changed) {
    const path = code === undefined ? ["未判定"] : pathOf(head, code, known);
    const letter = this.page.letters[head.head];
    const share = code === head.code ? head.probability : likely(head)[code];
    return el("div", { class: "answer" },
      letter ? el("kbd", { "aria-hidden": "true" }, letter) : null,
      el("h3", { id: `head-${head.head}-name` }, head.name),
      el("p", { class: "now", id: `head-${head.head}-now` },
        path.length > 1 ? el("span", { class: "path" }, `${path.slice(0, -1).join(" › ")} › `) : null,
        el("b", {}, path.at(-1)), el("span", { class: "vh" }, share === undefined ? "" : `，${percent(share)}`)),
      share === undefined ? null : el("span", { class: "share", "aria-hidden": "true" }, bar(share), el("span", { class: "number" }, percent(share))),
      this._state(head, code, changed));
  }

  _state(head, code, changed) {
    if (changed) return el("span", { class: "tag was-changed" }, "已改");
    if (typeof head.mine === "string") return el("span", { class: "tag was-mine" }, "我标过");
    if (!this.sheet.blind && head.in_force?.code === code && code !== undefined) return el("span", { class: "tag was-held" }, STATES[head.in_force.state] ?? "已标注");
    return el("span", { class: "tag" }, "建议");
  }

  _options(head, known, code) {
    const listed = choices(head, known);
    const small = known && !known.tree && known.labels.length <= FEW;
    const row = (one, index) => el("button", { type: "button", class: "option", "data-code": one.code, "aria-pressed": String(one.code === code),
      onclick: (event) => this._clicked(event, head.head, one.code) },
    el("kbd", {}, String(index + 1)), el("span", {}, one.name),
    !small && one.probability !== undefined ? el("span", { class: "number" }, percent(one.probability)) : null);
    return el("div", { class: small ? "options-row few" : "options-row" }, listed.map(row),
      el("button", { type: "button", class: "option", "aria-pressed": String(code === ""), onclick: (event) => this._clicked(event, head.head, "") },
        el("kbd", {}, "0"), el("span", {}, "无法判断")),
      small ? null : el("button", { type: "button", class: "option more-labels", onclick: () => this.page.pick(head.head) }, el("kbd", {}, "/"), el("span", {}, "查找…")));
  }

  _clicked(event, head, code) {
    this.page.choose(head, code);
    // Whoever goes on with Enter wants to confirm, not to press the same button once more.
    if (event.detail > 0) document.getElementById(`head-${head}`).focus({ preventScroll: true });
    else document.querySelector(`#head-${CSS.escape(head)} [aria-pressed=true]`)?.focus({ preventScroll: true });
  }

  _notes(head, known, code, changed) {
    const name = (one) => pathOf(head, one, known).at(-1);
    const notes = [];
    if (changed && this.sheet.first[head.head] !== undefined) notes.push(["原为", name(this.sheet.first[head.head])]);
    const held = this.sheet.blind ? null : head.in_force;
    if (held && (held.code !== code || held.state === "disputed")) {
      notes.push([`${STATES[held.state] ?? "已标注"}${held.by?.length ? `（${held.by.map(plain).join("、")}）` : ""}`, held.name ?? ""]);
    }
    if (!changed && head.code && head.code !== code) notes.push(["模型建议", `${head.label} ${percent(head.probability)}`]);
    for (const other of this.sheet.task.others ?? []) {
      const said = other.heads[head.head];
      if (said && said.code !== head.code) notes.push([`另一模型 ${other.model_version}`, `${said.name} ${percent(said.probability)}`]);
    }
    return notes.length ? [el("p", { class: "notes" }, notes.map(([what, said]) => el("span", {}, `${what}：`, el("b", {}, said))))] : [];
  }
}

/** A person's name without the kind before it. */
export const plain = (who) => who.replace(/^user:/, "");
