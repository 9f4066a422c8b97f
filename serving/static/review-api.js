// What the review page asks of the service, and the two ways in which it may not get it.

import { proof, session } from "/static/session.js";

const LONGEST = 20_000; // milliseconds; the line is down for whoever waits longer
const BUSY = new Set([429, 500, 502, 503, 504]);

/** No answer, or one that says "later": worth asking again. `wait`: milliseconds the service asked for. */
export class Away extends Error {
  constructor(message, { wait = 0, reached = false } = {}) {
    super(message);
    Object.assign(this, { wait, reached });
  }
}

/** The service said no: asking again the same way will not help. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.message || `服务返回 ${status}`);
    Object.assign(this, { status, code: problem.code || "", problem });
  }
}

let closed = () => {};
let owner = null;

/** Say whose page this is, and who is told when their session has ended, whatever was asked. */
export function ownedBy(name, tell) {
  owner = name;
  closed = tell;
}

/** Ask; JSON back. Raises Away or Refused. */
export async function ask(method, path, body) {
  try {
    return await once(method, path, body);
  } catch (error) {
    if (error.code !== "foreign_request") throw error;
    await sameOwner(); // signed in anew in another tab: the token for changes is another one
    return once(method, path, body);
  }
}

/** What one person said must never be sent in another's name. */
async function sameOwner() {
  let known;
  try {
    known = await session();
  } catch {
    throw new Away("连不上服务");
  }
  if (known.name === owner) return;
  closed();
  throw new Refused(401, { message: "本浏览器已换人登录", code: "not_signed_in" });
}

async function once(method, path, body) {
  const headers = { ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...(method === "GET" ? {} : proof()) };
  let reply;
  try {
    reply = await fetch(`/v1/review/${path}`, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal: AbortSignal.timeout(LONGEST),
    });
  } catch {
    throw new Away("连不上服务");
  }
  if (reply.ok) return told(reply);
  throw await refusal(reply);
}

async function told(reply) {
  if (reply.status === 204) return {};
  try {
    return await reply.json();
  } catch { // cut off on its way
    throw new Away("服务的回答不完整");
  }
}

async function refusal(reply) {
  let problem = {};
  try {
    problem = (await reply.json()).error ?? {};
  } catch { /* a proxy's own page; its status says enough */ }
  if (reply.status === 401) closed();
  if (!BUSY.has(reply.status)) return new Refused(reply.status, problem);
  const wait = Number(reply.headers.get("Retry-After") || 0) * 1000;
  return new Away(problem.message || "服务繁忙", { wait, reached: true });
}

const at = encodeURIComponent;

/** Every request of the page, by name. */
export const api = {
  queues: () => ask("GET", "queues"),
  labels: () => ask("GET", "labels"),
  take: (queue, filters, holding) => ask("POST", "take", { queue, filters, holding }),
  takeAppeal: (id) => ask("POST", `appeals/${at(id)}/take`, {}),
  appeal: (id) => ask("GET", `appeals/${at(id)}`),
  extend: (lease) => ask("POST", `leases/${lease}/extend`, {}),
  release: (lease) => ask("POST", `leases/${lease}/release`, {}),
  history: (id) => ask("GET", `appeals/${at(id)}/history`),
  similar: (id, limit) => ask("GET", `appeals/${at(id)}/similar?limit=${limit}`),
  preview: (wish) => ask("POST", "bulk/preview", wish),
  bulk: (wish) => ask("POST", "bulk", wish),
  withdraw: (said, token) => ask("POST", "bulk/withdraw", { said_under: said, token }),
};

/** A job of the outbox as a request. */
export function send(job) {
  const { kind, lease, token, id } = job;
  switch (kind) {
    case "labels":
      return ask("POST", `leases/${lease}/labels`, said(job, { shown_version: job.shown_version }));
    case "adjudication":
      return ask("POST", `appeals/${at(id)}/adjudication`, said(job, { lease, shown_version: job.shown_version }));
    case "skip":
      return ask("POST", `leases/${lease}/skip`, { reason: job.reason, seconds: job.seconds });
    case "undo":
      return ask("POST", `leases/${lease}/undo`, { token });
    case "flag":
      return ask("POST", `appeals/${at(id)}/flags`, { spans: job.spans });
    case "unflag":
      return ask("DELETE", `flags/${job.number}`);
    default:
      throw new Refused(0, { message: `不认识的操作 ${kind}` });
  }
}

const said = ({ labels, token, comment, seconds }, more) => ({ labels, token, comment, seconds, ...more });

/** A fresh token: the same request sent twice is written once. Works without TLS, unlike randomUUID. */
export function newToken() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
