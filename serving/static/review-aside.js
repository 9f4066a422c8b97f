// Below the heads: look-alikes with their labels, and the history of the appeal; one of both at a time.

import { moment } from "/static/clock.js";
import { el, percent } from "/static/elements.js";
import { Away, Refused, api } from "/static/review-api.js";
import { plain } from "/static/review-heads.js";

const SIMILAR = 8;
const KEPT = 40; // appeals whose look-alikes are remembered
const TOLD = ["category", "appeal_type", "urgency", "unit"];
const WHAT = {
  answered: "模型作答", taken: "领取", released: "放回", expired: "租约到期", skipped: "跳过", confirmed: "确认", changed: "修改",
  bulk: "批量标注", adjudicated: "裁定", withdrawn: "撤回", flagged: "遮盖个人信息", flag_withdrawn: "撤回遮盖",
  suspected: "疑似标错", disagreement: "模型意见不一",
};
const ACTIONS = { auto_dispatch: "自动派单", review: "人工复核", transfer: "移交" };

/** `page`: {headName(head) → name}. */
export class Aside {
  constructor(node, tabs, page) {
    Object.assign(this, { node, tabs, page, id: null, tab: "similar", fetched: new Map() });
    for (const tab of tabs) tab.addEventListener("click", () => this.choose(tab.dataset.tab));
    tabs[0].parentElement.addEventListener("keydown", (event) => this._key(event));
  }

  /** Begin to fetch the look-alikes of an appeal before it is shown. */
  ahead(id) {
    if (this.fetched.has(id)) return;
    this.fetched.set(id, api.similar(id, SIMILAR).then((found) => found.similar, (error) => {
      this.fetched.delete(id);
      if (error instanceof Away || error instanceof Refused) return null;
      throw error;
    }));
    if (this.fetched.size > KEPT) this.fetched.delete(this.fetched.keys().next().value);
  }

  show(id) {
    this.id = id;
    this.draw();
  }

  clear() {
    this.id = null;
    this.node.replaceChildren();
  }

  choose(tab) {
    this.tab = tab;
    for (const one of this.tabs) {
      one.setAttribute("aria-selected", String(one.dataset.tab === tab));
      one.tabIndex = one.dataset.tab === tab ? 0 : -1;
    }
    this.node.setAttribute("aria-labelledby", `tab-${tab}`);
    this.draw();
  }

  _key(event) {
    if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    event.preventDefault();
    this.choose(this.tab === "similar" ? "history" : "similar");
    this.tabs.find((one) => one.dataset.tab === this.tab).focus();
  }

  async draw() {
    const { id, tab } = this;
    if (!id) return;
    this.node.scrollTop = 0;
    this.node.replaceChildren(el("p", { class: "hint" }, "正在查找…"));
    const drawn = tab === "similar" ? await this._similar(id) : await this._history(id);
    if (this.id === id && this.tab === tab) this.node.replaceChildren(...drawn);
  }

  async _similar(id) {
    this.ahead(id);
    const found = await this.fetched.get(id);
    if (!found) return [el("p", { class: "hint" }, "暂时查不到相似诉求。")];
    if (!found.length) return [el("p", { class: "hint" }, "没有相似的诉求。")];
    return [el("ul", { class: "similar" }, found.map((one) => el("li", {}, lookAlike(one))))];
  }

  async _history(id) {
    try {
      const { events, blind } = await api.history(id);
      const note = blind ? el("p", { class: "hint" }, "双人复核：您提交之前，不显示他人的标注。") : null;
      return [note, el("ol", { class: "history" }, [...events].reverse().map((one) => this._event(one)))].filter(Boolean);
    } catch (error) {
      if (!(error instanceof Away) && !(error instanceof Refused)) throw error;
      return [el("p", { class: "hint" }, error.message)];
    }
  }

  _event(one) {
    const change = one.what === "answered" ? ACTIONS[one.after] ?? one.after
      : one.before_name && one.before_name !== one.after_name ? [one.before_name, one.after_name ? [" → ", el("b", {}, one.after_name)] : null]
        : el("b", {}, one.after_name);
    return el("li", {},
      el("p", {}, el("span", { class: "event-what" }, WHAT[one.what] ?? one.what),
        one.head ? el("span", {}, ` ${this.page.headName(one.head)}：`, change) : one.what === "answered" ? el("span", {}, "：", change) : null),
      one.why ? el("p", {}, `“${one.why}”`) : null,
      el("p", { class: "hint" }, [one.who && plain(one.who), moment(one.at), one.seconds ? `用时 ${Math.round(one.seconds)} 秒` : "",
        one.model_version && `模型 ${one.model_version}`].filter(Boolean).join(" · ")));
  }
}

/** One look-alike: how alike, its words, its labels and who gave them. */
export function lookAlike(one) {
  return [
    el("p", { class: "alike-head" },
      el("span", { class: one.duplicate ? "tag was-held" : "tag" }, one.duplicate ? "几乎相同" : "相似", ` ${percent(one.similarity)}`),
      el("span", { class: "hint" }, moment(one.received_at)),
      one.same_evidence?.length ? el("span", { class: "hint" }, `同据：${one.same_evidence.slice(0, 4).join("、")}`) : null),
    el("p", { class: "alike-text" }, one.text),
    el("p", { class: "alike-labels" }, labelsOf(one)),
  ];
}

function labelsOf(one) {
  const shown = TOLD.filter((head) => one.labels[head]).map((head) => one.labels[head]);
  const byPerson = shown.some((label) => label.by === "person");
  return [el("span", { class: byPerson ? "by person" : "by" }, byPerson ? "人工" : "模型"),
    shown.filter((label) => !byPerson || label.by === "person").map((label) => el("span", {}, label.name))];
}
