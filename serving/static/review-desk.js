// What lies before a reviewer: the appeal at hand, the one fetched ahead, and those just done.
// No element of the page is touched here.

import { Away, Refused, api, newToken } from "/static/review-api.js";
import { Drafts } from "/static/review-kept.js";

const AHEAD = 1; // fetched before they are needed
const BEHIND = 30; // appeals that undo can go back to
const MINUTE = 60_000;
const PAUSE = 2 * MINUTE; // longer without a key or the mouse is a pause, not reading
const DAY = 86_400; // seconds; more is not believed
const AGAIN = 15_000; // between two looks into an empty queue
const LAST = 30_000;

/** Labels before a person touched them: what they said before, what people hold in force, the suggestion. */
export function begun(head, blind) {
  if (typeof head.mine === "string") return head.mine;
  const held = blind ? null : head.in_force?.code;
  return typeof held === "string" ? held : head.code || undefined;
}

/** An appeal at hand: the task, and what the reviewer has chosen so far. */
export class Sheet {
  constructor(task, draft) {
    this.task = task;
    this.blind = task.blind; // others' labels are not shown: a second, independent opinion is wanted
    this.first = Object.fromEntries(task.heads.map((head) => [head.head, begun(head, this.blind)]));
    this.labels = { ...this.first, ...draft?.labels };
    this.comment = draft?.comment ?? "";
    this.steps = []; // [head, label before], for undo
    this.lost = false;
    this.spent = 0;
    this.resume();
  }

  get id() {
    return this.task.appeal.id;
  }

  get lease() {
    return this.task.lease;
  }

  head(name) {
    return this.task.heads.find((one) => one.head === name);
  }

  choose(head, code) {
    if (this.labels[head] === code) return false;
    this.steps.push([head, this.labels[head]]);
    this.labels[head] = code;
    return true;
  }

  /** Take the last choice back; the head it was about, or null. */
  back() {
    const step = this.steps.pop();
    if (!step) return null;
    [, this.labels[step[0]]] = step;
    return step[0];
  }

  /** Heads whose label is another than what was there at first. */
  changed() {
    return Object.keys(this.labels).filter((head) => this.labels[head] !== this.first[head]);
  }

  said() {
    return Object.fromEntries(Object.entries(this.labels).filter(([, code]) => typeof code === "string"));
  }

  resume() {
    this.since = this.seen = Date.now();
  }

  /** Something was pressed: the time since the last key counts, a longer pause does not. */
  touch() {
    const now = Date.now();
    this.spent += Math.min(now - this.seen, PAUSE);
    this.seen = now;
  }

  seconds() {
    this.touch();
    return Math.min(DAY, Math.round(this.spent / 100) / 10);
  }
}

/** `events`: show(sheet), fetched(sheet), empty(), waiting(), line(up), told(message), renewed(sheet). */
export class Desk {
  constructor(owner, outbox, events) {
    Object.assign(this, { outbox, events, drafts: new Drafts(owner) });
    this.current = null;
    this.ahead = [];
    this.past = [];
    this.queue = "";
    this.filters = {};
    this.round = 0; // what was asked for in an earlier round is given back
    this.filling = false;
    this.tries = 0;
    this.timer = 0;
    this.done = 0;
  }

  // --- queues -----------------------------------------------------------------------------------

  /** Begin with a queue; what was held of another one goes back. */
  async open(queue, filters) {
    const held = [this.current, ...this.ahead].filter((sheet) => sheet?.lease);
    Object.assign(this, { queue, filters, current: null, ahead: [] });
    this.round += 1;
    this.events.waiting();
    await Promise.all(held.map((sheet) => this._release(sheet)));
    await this.fill();
  }

  /** This very appeal, before all others. */
  async openAppeal(id) {
    let task;
    try {
      ({ task } = await api.takeAppeal(id));
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 409) throw error;
      ({ task } = await api.appeal(id)); // another holds it: to be read only
    }
    if (this.current) this.ahead.unshift(this.current);
    this._show(this._sheet(task));
    this.fill();
  }

  /** Fetch nothing more: another tab goes on from here. */
  halt() {
    this.queue = "";
    clearTimeout(this.timer);
  }

  /** Give everything back (at sign-out). */
  async leave() {
    this.halt();
    this.round += 1;
    await Promise.all([this.current, ...this.ahead].filter((sheet) => sheet?.lease).map((sheet) => this._release(sheet)));
  }

  async _release(sheet) {
    try {
      await api.release(sheet.lease.number);
    } catch (error) {
      if (!(error instanceof Away) && !(error instanceof Refused)) throw error;
      // it expires by itself
    }
  }

  /** Fetch what is needed next; asks again while the line is down. */
  async fill() {
    clearTimeout(this.timer);
    if (this.filling || !this.queue || (this.current && this.ahead.length >= AHEAD)) return;
    this.filling = true;
    const round = this.round;
    let again = 0;
    try {
      again = await this._fetch(round);
    } catch (error) {
      again = this._failed(error);
    } finally {
      this.filling = false;
    }
    if (round !== this.round) this.fill();
    else if (again > 0) this.timer = setTimeout(() => this.fill(), again);
    else if (again === 0 && (!this.current || this.ahead.length < AHEAD)) this.fill();
  }

  /** Milliseconds until it is worth asking again; 0: go on at once. */
  async _fetch(round) {
    const { task } = await api.take(this.queue, this.filters, this.holding());
    this.tries = 0;
    this.events.line(true);
    if (!task) {
      if (!this.current && round === this.round) this.events.empty();
      return AGAIN;
    }
    const sheet = this._sheet(task);
    if (round !== this.round || this._has(task)) {
      if (round !== this.round) await this._release(sheet);
      return round !== this.round ? 0 : AGAIN;
    }
    if (this.current) this.ahead.push(sheet);
    else this._show(sheet);
    this.events.fetched(sheet);
    return 0;
  }

  _has(task) {
    const { id } = task.appeal;
    const sending = this.outbox.jobs.some((job) => job.lease && job.id === id); // done here, not known there yet
    return sending || [this.current, ...this.ahead].some((sheet) => sheet?.id === id);
  }

  _failed(error) {
    if (error instanceof Away) {
      this.events.line(false);
      this.tries += 1;
      return Math.max(error.wait, Math.min(LAST, 500 * 2 ** this.tries));
    }
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) return -1; // until somebody has signed in
    this.events.told(error.message);
    return LAST;
  }

  holding() {
    const here = [this.current, ...this.ahead].map((sheet) => sheet?.lease?.number);
    return [...new Set([...here, ...this.outbox.leases()])].filter(Boolean);
  }

  _sheet(task) {
    return new Sheet(task, this.drafts.get(task.appeal.id));
  }

  _show(sheet) {
    this.current = sheet;
    sheet?.resume();
    if (sheet) this.events.show(sheet);
  }

  // --- saying -----------------------------------------------------------------------------------

  choose(head, code) {
    const changed = this.current.choose(head, code);
    if (changed) this.noted();
    return changed;
  }

  /** Keep what was chosen and written, in case the page goes away. */
  noted() {
    const { id, comment } = this.current;
    const labels = Object.fromEntries(this.current.changed().map((head) => [head, this.current.labels[head]]));
    if (Object.keys(labels).length || comment) this.drafts.put(id, { labels, comment });
    else this.drafts.drop(id);
  }

  /** Say what stands there, and have the next one; nothing is awaited. */
  accept(adjudicates) {
    const sheet = this.current;
    this._finish({
      kind: adjudicates ? "adjudication" : "labels", labels: sheet.said(), comment: sheet.comment,
      shown_version: sheet.task.shown_version,
    });
    this.done += 1;
  }

  skip(reason) {
    this._finish({ kind: "skip", reason });
  }

  _finish(what) {
    const sheet = this.current;
    const job = { ...what, token: newToken(), id: sheet.id, lease: sheet.lease.number, seconds: sheet.seconds() };
    this.drafts.drop(sheet.id);
    this.past.push({ sheet, job });
    if (this.past.length > BEHIND) this.past.shift();
    this.outbox.add(job);
    this.current = null;
    this._next();
  }

  _next() {
    const sheet = this.ahead.shift() ?? null;
    if (sheet) this._show(sheet);
    else this.events.waiting();
    this.fill();
  }

  /** Back to the appeal before, as it was left; null when there is none. */
  undo() {
    const last = this.past.pop();
    if (!last) return null;
    if (this.current) this.ahead.unshift(this.current);
    if (!this.outbox.drop(last.job.token)) {
      this.outbox.add({ kind: "undo", token: newToken(), id: last.sheet.id, lease: last.job.lease });
    }
    if (last.job.kind !== "skip") this.done -= 1;
    this._show(last.sheet);
    this.noted();
    return last;
  }

  /** A job reached the service. */
  sent(job, reply) {
    if (job.kind === "undo" && reply.task?.lease) this._renumber(job.lease, reply.task.lease);
    if (!this.current) this.fill();
  }

  _renumber(old, lease) {
    this.outbox.renumber(old, lease.number);
    for (const sheet of [this.current, ...this.ahead, ...this.past.map((one) => one.sheet)]) {
      if (sheet?.lease?.number === old) sheet.task.lease = lease;
    }
    for (const { job } of this.past) if (job.lease === old) job.lease = lease.number;
  }

  // --- leases -----------------------------------------------------------------------------------

  /** Keep the leases at hand while somebody works here. */
  async extend(minutes) {
    const close = Date.now() + minutes * MINUTE * 0.6;
    for (const sheet of [this.current, ...this.ahead]) {
      if (!sheet?.lease || sheet.lost || Date.parse(sheet.lease.expires_at) > close) continue;
      try {
        sheet.lease.expires_at = (await api.extend(sheet.lease.number)).expires_at;
      } catch (error) {
        await this._notExtended(sheet, error);
      }
    }
  }

  async _notExtended(sheet, error) {
    if (error instanceof Away) return;
    if (!(error instanceof Refused)) throw error;
    if (error.status !== 409) return;
    if (sheet === this.current) await this._retake(sheet);
    else this.ahead = this.ahead.filter((one) => one !== sheet);
    this.fill();
  }

  async _retake(sheet) {
    try {
      const { task } = await api.takeAppeal(sheet.id);
      this._renumber(sheet.lease.number, task.lease);
    } catch (error) {
      if (error instanceof Away) return;
      if (!(error instanceof Refused)) throw error;
      sheet.lost = true; // what is said here is taken all the same
    }
    if (sheet === this.current) this.events.renewed(sheet);
  }
}
