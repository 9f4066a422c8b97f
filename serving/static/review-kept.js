// What the page keeps in this browser: codes, numbers and comments, never a resident's words.

const PREFIX = "jiesu.review.";

/** What was kept under a name; `otherwise` when there is nothing that can be read. */
export function recall(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** Keep a value; false when the browser has no room or no leave for it. */
export function keep(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

const DRAFTS = 60; // older ones go

/** Labels chosen and comments begun, by appeal, until they are sent. */
export class Drafts {
  constructor(owner) {
    this.name = `${owner}.drafts`;
    this.all = new Map(recall(this.name, []));
  }

  get(id) {
    return this.all.get(id);
  }

  put(id, draft) {
    this.all.delete(id); // the newest stands last
    this.all.set(id, draft);
    while (this.all.size > DRAFTS) this.all.delete(this.all.keys().next().value);
    keep(this.name, [...this.all]);
  }

  drop(id) {
    if (this.all.delete(id)) keep(this.name, [...this.all]);
  }
}
