// What a reviewer did, on its way to the service: in order, each with a token, kept over reloads,
// sent again while the line is down. Nobody waits for it.

import { Away, Refused, api, send } from "/static/review-api.js";
import { keep, recall } from "/static/review-kept.js";

const FIRST = 1000; // milliseconds to the first retry; doubled each time
const LAST = 30_000;
const BROKEN = 8; // times the service may fail on one job before it is set aside

/** `sent(job, reply)` after each; `changed(outbox)` whenever state or length changed. */
export class Outbox {
  constructor(owner, { sent, changed }) {
    Object.assign(this, { sent, changed, name: `${owner}.outbox`, aside: `${owner}.aside` });
    this.jobs = recall(this.name, []);
    this.setAside = recall(this.aside, []);
    this.state = "idle"; // idle, sending, away (the line), closed (the session)
    this.kept = true;
    this.running = false;
    this.tries = 0;
    this.timer = 0;
    addEventListener("online", () => this.run());
  }

  /** Leases that a job still speaks of: the service must not hand them out as new. */
  leases() {
    return this.jobs.map((job) => job.lease).filter(Boolean);
  }

  add(job) {
    this.jobs.push(job);
    this._keep();
    this._tell(this.state);
    this.run();
  }

  /** Take back a job that was never sent; false when it may have been. */
  drop(token) {
    const index = this.jobs.findIndex((job) => job.token === token && !job.tried);
    if (index < 0) return false;
    this.jobs.splice(index, 1);
    this._keep();
    this._tell(this.state);
    return true;
  }

  /** After an undo the appeal has another lease. */
  renumber(old, lease) {
    for (const job of this.jobs) if (job.lease === old) job.lease = lease;
    this._keep();
  }

  /** Forget what could not be sent, once a person has seen it. */
  forget(token) {
    this.setAside = this.setAside.filter((job) => job.token !== token);
    this._keep();
    this._tell(this.state);
  }

  /** Another tab goes on from here: what is kept is its own now. */
  halt() {
    clearTimeout(this.timer);
    this.halted = true;
    this.jobs = [];
  }

  /** Send all there is; at once again where a retry was waiting. */
  async run() {
    clearTimeout(this.timer);
    if (this.running || this.halted) return;
    this.running = true;
    try {
      while (this.jobs.length && await this._one(this.jobs[0]));
    } finally {
      this.running = false;
    }
    if (!this.jobs.length) this._tell("idle");
  }

  async _one(job) {
    job.tried = (job.tried ?? 0) + 1;
    this._keep();
    if (this.state === "idle") this._tell("sending");
    try {
      this._done(job, await send(job));
      return true;
    } catch (error) {
      return this._failed(job, error);
    }
  }

  _done(job, reply) {
    this.jobs = this.jobs.filter((one) => one !== job);
    this.tries = 0;
    this._keep();
    this._tell(this.jobs.length ? "sending" : "idle");
    this.sent(job, reply);
  }

  async _failed(job, error) {
    if (error instanceof Away) return this._later(job, error);
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) {
      this._tell("closed");
      return false;
    }
    if (error.status === 409 && job.kind === "labels" && !job.retaken && await this._retake(job)) return true;
    this._putAside(job, error);
    return true;
  }

  /** Take the appeal of a lease that is lost anew, so that the label is not. */
  async _retake(job) {
    try {
      const { task } = await api.takeAppeal(job.id);
      job.retaken = true;
      this.renumber(job.lease, task.lease.number);
      return true;
    } catch (error) {
      return error instanceof Away || error.status === 401; // the next try meets it again
    }
  }

  _later(job, error) {
    if (error.reached && job.tried >= BROKEN) {
      this._putAside(job, error);
      return true;
    }
    const wait = Math.max(error.wait, Math.min(LAST, FIRST * 2 ** this.tries));
    this.tries += 1;
    this.timer = setTimeout(() => this.run(), wait);
    this._tell("away");
    return false;
  }

  _putAside(job, error) {
    this.jobs = this.jobs.filter((one) => one !== job);
    this.setAside.push({ ...job, told: error.message });
    this.tries = 0;
    this._keep();
    this._tell(this.jobs.length ? "sending" : "idle");
  }

  _keep() {
    if (this.halted) return;
    this.kept = keep(this.name, this.jobs) && keep(this.aside, this.setAside);
  }

  _tell(state) {
    this.state = state;
    this.changed(this);
  }
}
