// What stands between the reviewer and the service – the line, the session, what it would not take –
// told by one banner, and ways to go on.

import { el } from "/static/elements.js";
import { signInAgain } from "/static/review-dialogs.js";
import { session } from "/static/session.js";

const $ = (id) => document.getElementById(id);
const button = (name, act) => el("button", { type: "button", class: "quiet small", onclick: act }, name);

/** `page`: {said(text), open(id)}. */
export class Line {
  constructor(user, desk, outbox, page) {
    Object.assign(this, { user, desk, outbox, page, up: true, closed: false, signing: false, told: "" });
  }

  is(up) {
    this.up = up;
    this.draw();
  }

  get away() {
    return !this.up || this.outbox.state === "away";
  }

  draw() {
    const waiting = this.outbox.jobs.length;
    $("saved").textContent = waiting ? `待提交 ${waiting} 条` : "已全部保存";
    $("progress").textContent = this.desk.done ? `本次已完成 ${this.desk.done} 条` : "";
    $("service").dataset.state = this.away || this.closed ? "down" : "up";
    const parts = this.closed ? this._closed(waiting) : this.away ? this._away(waiting) : this._refused();
    const told = parts.map((part) => part.textContent ?? part).join("|");
    if (told === this.told) return; // an alert is read out once, not at every retry
    this.told = told;
    $("banner").hidden = !parts.length;
    $("banner").replaceChildren(...parts);
  }

  _closed(waiting) {
    return [el("b", {}, "登录已过期"), waiting ? `，已保留 ${waiting} 条。` : "。", button("重新登录", () => this.signIn())];
  }

  _away(waiting) {
    return [el("b", {}, "连接中断"), waiting ? `，已保留 ${waiting} 条，恢复后自动提交` : "，恢复后自动继续",
      this.outbox.kept ? "" : "（浏览器不允许保存，请不要关闭本页）", button("现在重试", () => this.retry())];
  }

  _refused() {
    const [first] = this.outbox.setAside;
    if (!first) return [];
    return [el("b", {}, `${this.outbox.setAside.length} 条未能提交`), `：${first.told}`,
      button("重新打开这一条", () => this._reopen(first)), button("知道了", () => this.outbox.forget(first.token))];
  }

  retry() {
    this.outbox.run();
    this.desk.fill();
  }

  async _reopen(job) {
    this.outbox.forget(job.token);
    if (job.labels) this.desk.drafts.put(job.id, { labels: job.labels, comment: job.comment });
    await this.page.open(job.id);
  }

  // --- the session ------------------------------------------------------------------------------

  /** It has ended: ask once unasked, later by the banner's button. */
  shut() {
    if (this.closed) return;
    this.closed = true;
    this.draw();
    this.signIn();
  }

  /** Perhaps they have signed in in another tab meanwhile. */
  async look() {
    if (!this.closed) return;
    try {
      if ((await session()).name === this.user) this._inside();
    } catch { /* the next look tells */ }
  }

  async signIn() {
    if (this.signing) return;
    this.signing = true;
    const done = await signInAgain(this.user, this.outbox.jobs.length);
    this.signing = false;
    if (done) this._inside();
  }

  _inside() {
    this.closed = false;
    this.draw();
    this.page.said("已重新登录，继续。");
    this.retry();
  }
}
