// The review page: queues on the left, the appeal in the middle, what is said of it on the right.
// What was done is sent in the background; the next appeal is there before it is asked for.

import { left, past } from "/static/clock.js";
import { el } from "/static/elements.js";
import { Aside } from "/static/review-aside.js";
import { Away, Refused, api, newToken, ownedBy } from "/static/review-api.js";
import { openBulk } from "/static/review-bulk.js";
import { Desk } from "/static/review-desk.js";
import { askReason, onlyTab, showHelp, stopped } from "/static/review-dialogs.js";
import { Heads, choices, likely, pathOf } from "/static/review-heads.js";
import { keep, recall } from "/static/review-kept.js";
import { actOf, letters } from "/static/review-keys.js";
import { Line } from "/static/review-line.js";
import { Outbox } from "/static/review-outbox.js";
import { Paper } from "/static/review-paper.js";
import { pick } from "/static/review-picker.js";
import { Queues } from "/static/review-queues.js";
import { session, who } from "/static/session.js";

const $ = (id) => document.getElementById(id);
const TICK = 30_000;
const MINUTE = 60_000;
const TYPES = ["标准", "大", "较大", "特大", "最大"];
const THEMES = { auto: "跟随系统", light: "浅色", dark: "深色" };

const page = {
  user: "", me: { name: "", lead: false }, labels: new Map(), reasons: [], minutes: 15, letters: {}, byLetter: {}, focused: null,
  active: Date.now(), choosingQueue: false, halted: false,
};
let desk, outbox, line, paper, heads, aside, queues;

// --- what is told ---------------------------------------------------------------------------------

function said(text) {
  $("said").textContent = text;
}

async function open(id) {
  try {
    await desk.openAppeal(id);
  } catch (error) {
    if (!(error instanceof Away) && !(error instanceof Refused)) throw error;
    said(`打不开诉求 ${id}：${error.message}`);
  }
}

// --- the appeal at hand ---------------------------------------------------------------------------

function show(sheet) {
  page.focused = null;
  heads.show(sheet);
  paper.show(sheet);
  aside.show(sheet.id);
  enable(Boolean(sheet.lease));
  line.draw();
  if (document.querySelector("dialog[open]")) return;
  $("paper").focus({ preventScroll: true });
  if (document.scrollingElement.scrollHeight > innerHeight) $("paper").scrollIntoView({ block: "start" }); // one column
}

function enable(on) {
  for (const node of $("actions").querySelectorAll("[data-act]")) node.setAttribute("aria-disabled", String(!on && node.dataset.act !== "undo"));
  const final = adjudicates();
  $("accept-name").textContent = final ? "裁定" : "全部确认";
}

const adjudicates = () => page.me.lead && desk.current?.lease?.queue === "disputed";

function waiting() {
  heads.clear();
  aside.clear();
  enable(false);
  paper.clear("正在取下一条…", []);
}

function empty() {
  const others = queues.known.filter((one) => one.waiting && one.queue !== desk.queue);
  paper.clear("这个队列没有等待的诉求", [
    el("p", { class: "hint" }, "有新的会自动出现。"),
    others.length ? el("ul", { class: "chips" }, others.map((one) => el("li", {}, el("button", { type: "button", class: "chip", onclick: () => queues.go(one.queue) }, `${one.name} ${one.waiting}`)))) : null,
  ].filter(Boolean));
  said("这个队列没有等待的诉求。");
}

/** What the next appeal is, for those who listen. */
function announced(sheet) {
  const { appeal, urgency } = sheet.task;
  const place = [appeal.place.district, appeal.place.street].filter(Boolean).join("");
  return `${[urgency.level, place, appeal.id].filter(Boolean).join("，")}`;
}

function accept() {
  const sheet = desk.current;
  if (!sheet?.lease) return said(sheet ? "这条只读，不能提交。" : "还没有诉求可确认。");
  const labels = sheet.said();
  if (!Object.keys(labels).length) return said("没有可提交的判定，请先选一项。");
  const changed = sheet.changed().length;
  desk.accept(adjudicates());
  told(changed ? `已确认 ${Object.keys(labels).length - changed} 项、修改 ${changed} 项` : "已确认");
}

function told(what) {
  said(desk.current ? `${what}，下一条：${announced(desk.current)}` : `${what}。`);
}

async function skip() {
  const sheet = desk.current;
  if (!sheet?.lease) return;
  const reason = await askReason(page.reasons);
  if (reason === null || desk.current !== sheet) return;
  desk.skip(reason);
  told("已跳过");
  $("paper").focus({ preventScroll: true });
}

function undo() {
  const head = desk.current?.back();
  if (head) {
    desk.noted();
    heads.renew(head);
    return said(`已撤销改动：${spoken(head)}`);
  }
  const last = desk.undo();
  said(last ? `已退回上一条${last.job.kind === "skip" ? "（跳过的）" : ""}：${announced(desk.current)}` : "没有可撤销的了。");
}

// --- heads ----------------------------------------------------------------------------------------

function spoken(head) {
  const sheet = desk.current;
  const one = sheet.head(head);
  const code = sheet.labels[head];
  return `${one.name}，${code === undefined ? "未判定" : pathOf(one, code, page.labels.get(head)).join("，")}`;
}

function focusHead(head) {
  if (!desk.current?.head(head)) return;
  if (page.focused === head) return pickLabel(head);
  document.getElementById(`head-${head}`).focus();
}

function focused(head) {
  if (page.focused === head) return;
  document.querySelector(".head.on")?.classList.remove("on");
  page.focused = head;
  document.getElementById(`head-${head}`).classList.add("on");
  document.getElementById(`head-${head}`).scrollIntoView({ block: "nearest" });
  paper.evidence(head);
  const listed = choices(desk.current.head(head), page.labels.get(head)).map((one, index) => `${index + 1} ${one.name}`);
  said(`${spoken(head)}。${listed.join("，")}`);
}

function step(key) {
  const names = desk.current?.task.heads.map((one) => one.head) ?? [];
  const at = names.indexOf(page.focused);
  const next = key === "arrowdown" ? Math.min(at + 1, names.length - 1) : Math.max(at - 1, 0);
  if (names[next] && names[next] !== page.focused) focusHead(names[next]);
}

function choose(head, code) {
  if (!desk.choose(head, code)) return said(`${spoken(head)}，没有变化`);
  heads.renew(head);
  said(`已改：${spoken(head)}`);
}

function digit(key) {
  if (page.choosingQueue) return queues.digit(Number(key));
  if (!desk.current) return false;
  if (!page.focused) return said("先按字母选中分类头，再按数字。");
  const one = choices(desk.current.head(page.focused), page.labels.get(page.focused))[Number(key) - 1];
  if (one) choose(page.focused, one.code);
  return true;
}

async function pickLabel(head) {
  const known = page.labels.get(head);
  const sheet = desk.current;
  if (!sheet) return;
  if (!known) return said("标签还没有取到，请稍后再试。");
  const code = await pick({ title: known.name, head: known, current: sheet.labels[head], likely: likely(sheet.head(head)) });
  if (typeof code === "string" && desk.current === sheet) {
    document.getElementById(`head-${head}`).focus();
    choose(head, code);
  }
}

// --- keys -----------------------------------------------------------------------------------------

const ACTS = {
  accept, skip, undo,
  head: ({ head }) => focusHead(head),
  digit: ({ key }) => digit(key),
  untellable: () => (page.focused && desk.current ? choose(page.focused, "") : said("先按字母选中分类头。")),
  pick: () => pickLabel(page.focused ?? desk.current?.task.heads[0]?.head),
  step: ({ key }) => step(key),
  comment: () => desk.current && paper.comment(),
  flag: () => desk.current && paper.flag(),
  evidence: () => desk.current && layer(paper.next()),
  bulk: () => desk.current && openBulk(desk.current, page.focused ?? desk.current.task.heads[0].head, { known: (head) => page.labels.get(head), lead: page.me.lead, told: said, renewed: counts }),
  history: () => aside.choose(aside.tab === "history" ? "similar" : "history"),
  queues: () => { page.choosingQueue = true; queues.focus(); },
  size: ({ key }) => size(key === "+" ? 1 : -1),
  help: () => showHelp(Object.entries(page.letters).map(([head, letter]) => ({ letter, name: page.labels.get(head)?.name ?? desk.current?.head(head)?.name ?? head }))),
  escape: () => { page.focused = null; document.querySelector(".head.on")?.classList.remove("on"); $("paper").focus({ preventScroll: true }); },
};

function onKey(event) {
  active();
  const asked = actOf(event, page.byLetter);
  if (!asked) return;
  event.preventDefault();
  if (asked.act !== "queues" && asked.act !== "digit") page.choosingQueue = false;
  if (event.repeat && asked.act !== "step" && asked.act !== "size") return; // a key held down must not answer ten appeals
  ACTS[asked.act](asked);
}

function active() {
  page.active = Date.now();
  desk?.current?.touch();
}

function layer(head) {
  paper.evidence(head);
  said(`依据：${desk.current.head(head).name}`);
}

// --- look -----------------------------------------------------------------------------------------

function size(step) {
  const look = globalThis.jiesuLook.size(step);
  said(`字号：${TYPES[look.size]}`);
}

function theme() {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(globalThis.jiesuLook.now().theme) + 1) % names.length];
  globalThis.jiesuLook.theme(next);
  showTheme();
  said(`配色：${THEMES[next]}`);
}

function showTheme() {
  $("theme-name").textContent = THEMES[globalThis.jiesuLook.now().theme];
}

// --- beginning and going on -----------------------------------------------------------------------

async function counts() {
  try {
    queues.show((await api.queues()).queues);
  } catch (error) {
    if (!(error instanceof Away) && !(error instanceof Refused)) throw error;
  }
}

function tick() {
  for (const node of document.querySelectorAll("[data-until]")) {
    node.textContent = left(node.dataset.until);
    node.parentElement.classList.toggle("late", past(node.dataset.until));
  }
  // Only while somebody works here: a page left open must not keep leases, nor its session, for ever.
  if (document.hidden || page.halted || line.closed || Date.now() - page.active > page.minutes * MINUTE) return;
  desk.extend(page.minutes);
  counts();
}

/** The tab is looked at again. */
function back() {
  desk.current?.resume();
  line.look();
  tick();
}

/** Another tab goes on: this one neither sends nor keeps anything from now on. */
function halt() {
  page.halted = true;
  desk.halt();
  outbox.halt();
  desk.current = null;
  stopped();
}

function build() {
  outbox = new Outbox(page.me.name, { changed: () => line?.draw(), sent });
  desk = new Desk(page.me.name, outbox, {
    show, empty, waiting, fetched: (sheet) => aside.ahead(sheet.id), told: said,
    line: (up) => line.is(up), renewed: () => paper.state(),
  });
  line = new Line(page.user, desk, outbox, { said, open });
  paper = new Paper({
    noted: () => desk.noted(), said, accept, layer,
    flag: (spans) => outbox.add({ kind: "flag", token: newToken(), id: desk.current.id, spans }),
    unflag,
  });
  heads = new Heads($("heads"), { letters: page.letters, known: (head) => page.labels.get(head), focused, choose, pick: pickLabel });
  aside = new Aside($("aside"), [$("tab-similar"), $("tab-history")], {
    headName: (head) => page.labels.get(head)?.name ?? head,
  });
}

async function sent(job, reply) {
  desk.sent(job, reply);
  if (job.kind === "flag" && desk.current?.id === job.id) {
    desk.current.task.appeal.flags = reply.flags;
    paper.covers();
  }
  if (job.kind === "unflag" && desk.current?.id === job.id) await uncovered(desk.current);
}

function unflag(flag) {
  outbox.add({ kind: "unflag", token: newToken(), id: desk.current.id, number: flag.number });
  said("正在撤销遮盖…");
}

/** What lies under a cover only the service knows. */
async function uncovered(sheet) {
  const { task } = await api.appeal(sheet.id);
  sheet.task.appeal = task.appeal;
  if (desk.current !== sheet) return;
  paper.words();
  paper.covers();
  $("paper").focus({ preventScroll: true });
  said("已撤销遮盖。");
}

function listen() {
  document.addEventListener("keydown", onKey);
  document.addEventListener("pointerdown", active);
  document.addEventListener("visibilitychange", () => !document.hidden && back());
  for (const node of document.querySelectorAll("[data-act]")) {
    node.addEventListener("click", () => node.getAttribute("aria-disabled") !== "true" && ACTS[node.dataset.act]({ key: node.dataset.key ?? "" }));
  }
  $("theme").addEventListener("click", theme);
  setInterval(tick, TICK);
}

async function begin() {
  $("paper").hidden = true;
  showTheme();
  const known = await session();
  const first = await api.queues();
  Object.assign(page, { user: known.name, me: first.me, reasons: first.skip_reasons, minutes: first.lease_minutes });
  build();
  $("who").replaceChildren(...who(known, () => desk.leave()));
  $("who").hidden = known.kind !== "user";
  $("to-leads").hidden = !first.me.lead;
  queues = new Queues($("queues"), $("filters"), { switched, labels: () => page.labels.get("category") });
  listen();
  ownedBy(known.name, () => line.shut());
  if (!await onlyTab(page.me.name, halt)) return;
  await fetchLabels();
  await start(first);
}

async function fetchLabels() {
  const { heads: all } = await api.labels();
  page.labels.clear();
  for (const head of all) page.labels.set(head.head, head);
  Object.assign(page.letters, letters(all.map((head) => head.head)));
  page.byLetter = Object.fromEntries(Object.entries(page.letters).filter(([, letter]) => letter).map(([head, letter]) => [letter, head]));
}

async function start(first) {
  line.draw();
  $("service-text").hidden = false;
  outbox.run();
  const known = first.queues;
  const asked = new URLSearchParams(location.hash.slice(1));
  queues.queue = [asked.get("queue"), recall("queue", "")].find((name) => known.some((one) => one.queue === name)) ?? known[0].queue;
  queues.show(known);
  if (asked.get("appeal")) await open(asked.get("appeal"));
  if (desk.current) Object.assign(desk, { queue: queues.queue, filters: queues.asked() });
  if (desk.current) await desk.fill();
  else await desk.open(queues.queue, queues.asked());
}

async function switched(queue, filters) {
  keep("queue", queue);
  page.choosingQueue = false;
  await desk.open(queue, filters);
  const known = queues.known.find((one) => one.queue === queue);
  if (desk.current) said(`队列：${known?.name ?? queue}。${announced(desk.current)}`);
  else if (!document.querySelector("dialog[open]")) $("nothing").focus({ preventScroll: true });
  counts();
}

begin().catch((error) => {
  $("service").dataset.state = "down";
  $("service-text").hidden = false;
  $("saved").textContent = error instanceof Away || error instanceof Refused ? error.message : "页面没有正常打开";
  $("banner").hidden = false;
  $("banner").replaceChildren(el("b", {}, error.message), " ", el("button", { type: "button", class: "quiet small", onclick: () => location.reload() }, "重新载入"));
  if (!(error instanceof Away) && !(error instanceof Refused)) throw error;
});
