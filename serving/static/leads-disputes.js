// Adjudication: what reviewers disagree on, side by side, one key each.
//
// All keys work only while the focus is in this part of the page (WCAG 2.1.4): digits choose, 0 says that
// the text does not tell, / looks among all labels, Enter decides, j and k go on and back, m writes a
// comment, z takes the last decision back.

import { bar, el, percent } from "/static/elements.js";
import { ago, person } from "/static/leads-people.js";
import { api, ask, newToken } from "/static/review-api.js";
import { pick } from "/static/review-picker.js";

const UNTELLABLE = "原文无法判断";
const MOST = 50;
const state = { list: [], at: -1, me: "", picked: {}, extra: {}, comment: "", token: "", began: 0, last: null, busy: false, labels: null, names: {}, tasks: new Map(), tell: () => {}, changed: () => {} };
const $ = (id) => document.getElementById(id);

/** Begin; `me`: who the lead is, `tell(text)`: to the status line, `changed(count)`: how many disputes wait. */
export function begin({ me, tell, changed }) {
  Object.assign(state, { me, tell, changed });
  $("disputes").addEventListener("keydown", onKey);
}

/** Load the disputes; the one before the lead stays, with what they had chosen. */
export async function load({ total = null } = {}) {
  const kept = state.list[state.at]?.id;
  const { disputes } = await ask("GET", `disputes?limit=${MOST}`);
  state.list = disputes;
  state.changed(total ?? disputes.length);
  const at = disputes.findIndex((one) => one.id === kept);
  if (at >= 0) state.at = at;
  else select(disputes.length ? 0 : -1);
  render();
}

function select(at) {
  Object.assign(state, { at, picked: {}, extra: {}, comment: "", token: newToken(), began: performance.now() });
}

// --- drawing --------------------------------------------------------------------------------------

function render() {
  const { list, at } = state;
  $("disputes-about").textContent = list.length ? `${list.length === MOST ? `最早的 ${MOST}` : list.length} 件，先有分歧的在前` : "";
  if (!list.length) {
    $("disputes-body").replaceChildren(el("p", { class: "nothing" }, "没有等待裁定的分歧。"), state.last ? undoLine() : "");
    return;
  }
  $("disputes-body").replaceChildren(el("div", { class: "court" },
    el("ol", { class: "cases", "aria-label": "有分歧的诉求" }, list.map((one, index) => el("li", {},
      el("button", { type: "button", class: "case", "aria-current": index === at ? "true" : null, onclick: () => go(index) },
        el("span", { class: "case-text" }, one.text.slice(0, 48)), el("span", { class: "hint" }, Object.keys(one.heads).map(headName).join("、")))))),
    bench(list[at])));
  detail(list[at].id);
}

function bench(one) {
  const heads = Object.keys(one.heads);
  return el("form", { class: "bench", id: "bench", onsubmit: decide, "aria-label": `裁定诉求 ${one.id}` },
    el("p", { class: "bench-about hint" }, el("span", { class: "code" }, one.id), ` · ${ago(one.received_at)}收到`),
    el("p", { class: "bench-text", tabindex: "0" }, one.text),
    heads.map((head) => choice(one, head)),
    el("div", { class: "bench-foot" },
      el("label", { class: "bench-comment" }, el("span", {}, "理由（可选，随裁定保存）"), el("input", { id: "bench-comment", maxlength: "2000", value: state.comment, autocomplete: "off", oninput: (event) => { state.comment = event.target.value; } })),
      el("button", { type: "submit", class: "primary", id: "decide" }, "裁定并看下一件")),
    el("div", { class: "problem", id: "bench-problem", role: "alert", hidden: true }),
    state.last ? undoLine() : null,
    el("p", { class: "hint keys-line" }, keys(["1–9", "选"], ["0", UNTELLABLE], ["/", "其他标签"], ["Enter", "裁定"], ["j", "下一件"], ["k", "上一件"], ["m", "理由"], ["z", "撤回上一件"])));
}

const keys = (...all) => all.map(([key, name]) => [el("kbd", {}, key), ` ${name}　`]);

/** One head: who says what, side by side; the same label of several people is one choice. */
function choice(one, head) {
  const sides = sidesOf(one, head);
  const option = ({ code, name, voices }, index) => el("label", { class: "side" },
    el("input", { type: "radio", name: `side-${head}`, value: code, checked: state.picked[head] === code, "data-head": head, onchange: () => { state.picked[head] = code; } }),
    el("span", { class: "side-in" },
      el("span", { class: "side-name" }, el("kbd", { "aria-hidden": "true" }, String(index)), " ", name),
      voices.map((voice) => el("span", { class: "voice" }, el("b", {}, person(voice.reviewer) + (voice.reviewer === state.me ? "（您）" : "")), el("span", { class: "hint" }, ` ${ago(voice.at)}`), voice.comment ? el("q", {}, voice.comment) : null))));
  return el("fieldset", { class: "sides", "data-head": head },
    el("legend", {}, headName(head), el("span", { class: "hint suggested", "data-suggested": head })),
    el("div", { class: "sides-in" }, sides.map((side, index) => option(side, side.code ? index + 1 : 0)),
      el("button", { type: "button", class: "quiet small other", "data-head": head, onclick: () => other(one, head) }, "其他标签… ", el("kbd", { "aria-hidden": "true" }, "/"))));
}

/** Choices in the order of their digits; that the text does not tell comes last and has 0. */
function sidesOf(one, head) {
  const sides = new Map();
  const side = (code, name) => sides.get(code) ?? sides.set(code, { code, name, voices: [] }).get(code);
  for (const voice of one.heads[head]) side(voice.code, voice.code ? voice.name : UNTELLABLE).voices.push(voice);
  const extra = state.extra[head];
  if (extra) side(extra.code, extra.name);
  const untellable = sides.get("") ?? { code: "", name: UNTELLABLE, voices: [] };
  return [...[...sides.values()].filter((one) => one.code), untellable];
}

const headName = (head) => state.names[head] ?? head;

/** Names of the heads: [{head, name}]. */
export function named(heads) {
  state.names = Object.fromEntries(heads.map(({ head, name }) => [head, name]));
}

/** What the model had suggested, told apart from what people say; the decision goes on without it. */
async function detail(id) {
  try {
    const task = state.tasks.get(id) ?? (await api.appeal(id)).task;
    state.tasks.set(id, task);
    if (state.list[state.at]?.id !== id) return;
    for (const head of task.heads) {
      const place = document.querySelector(`[data-suggested="${head.head}"]`);
      if (place && head.label) place.replaceChildren(`模型建议：${head.label} `, bar(head.probability), ` ${percent(head.probability)}`);
    }
  } catch { /* the page says so when a decision cannot be sent */ }
}

function undoLine() {
  return el("p", { class: "undo-line" }, `已裁定 ${state.last.id}。`, el("button", { type: "button", class: "quiet small", onclick: undo }, "撤回 ", el("kbd", { "aria-hidden": "true" }, "z")));
}

// --- choosing -------------------------------------------------------------------------------------

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input:not([type=radio])")) {
    if (event.key === "Escape") firstOpen()?.focus();
    return;
  }
  const act = { "/": () => other(state.list[state.at], headNow()), "、": () => other(state.list[state.at], headNow()), j: () => go(state.at + 1), k: () => go(state.at - 1), m: () => $("bench-comment").focus(), z: undo }[event.key.toLowerCase()];
  const digit = /^[0-9]$/.test(event.key);
  if (event.key === "Enter" && event.target.matches("input[type=radio], #disputes, .bench-text")) $("bench")?.requestSubmit();
  else if (digit && state.at >= 0) choose(headNow(), Number(event.key));
  else if (act) act();
  else return;
  event.preventDefault();
}

/** The head in which the focus is, else the first one without a choice. */
function headNow() {
  const own = document.activeElement?.dataset?.head;
  const heads = Object.keys(state.list[state.at]?.heads ?? {});
  return own ?? heads.find((head) => !(head in state.picked)) ?? heads[0];
}

function choose(head, digit) {
  const sides = sidesOf(state.list[state.at], head);
  const side = digit === 0 ? sides.at(-1) : sides.slice(0, -1)[digit - 1];
  if (!side) return;
  state.picked[head] = side.code;
  const input = [...document.querySelectorAll(`input[name="side-${CSS.escape(head)}"]`)].find((one) => one.value === side.code);
  input.checked = true;
  state.tell(`${headName(head)}：${side.name}`);
  (firstOpen() ?? $("decide")).focus();
}

/** The first choice of the first head that has none yet. */
function firstOpen() {
  const head = Object.keys(state.list[state.at]?.heads ?? {}).find((one) => !(one in state.picked));
  return head ? document.querySelector(`input[name="side-${CSS.escape(head)}"]`) : null;
}

async function other(one, head) {
  if (!one || !head) return;
  try {
    state.labels ??= (await api.labels()).heads;
  } catch (error) {
    problem(error);
    return;
  }
  const asked = state.labels.find((found) => found.head === head);
  const code = asked && await pick({ title: asked.name, head: asked, current: state.picked[head] ?? "" });
  if (!code) return;
  state.extra[head] = asked.labels.find((label) => label.code === code);
  state.picked[head] = code;
  render();
  (firstOpen() ?? $("decide")).focus();
}

function go(at) {
  if (at < 0 || at >= state.list.length || state.busy) return;
  select(at);
  render();
  firstOpen()?.focus();
  state.tell(`第 ${at + 1} 件，共 ${state.list.length} 件`);
}

// --- deciding -------------------------------------------------------------------------------------

async function decide(event) {
  event.preventDefault();
  const one = state.list[state.at];
  if (state.busy) return;
  if (!Object.keys(state.picked).length) {
    problem({ message: "还没有选：请至少为一个分类头选一个标签。" });
    firstOpen()?.focus();
    return;
  }
  const { token } = state;
  const seconds = Math.min(86_400, Math.round((performance.now() - state.began) / 100) / 10);
  await sending(async () => {
    const version = state.tasks.get(one.id)?.shown_version ?? "";
    await ask("POST", `appeals/${encodeURIComponent(one.id)}/adjudication`, { labels: state.picked, token, comment: state.comment, seconds, lease: null, shown_version: version });
    state.last = { id: one.id, token };
    state.tasks.delete(one.id);
    await after(`已裁定 ${one.id}`, state.at);
  });
}

/** Take the last decision back: the dispute is there again. */
async function undo() {
  const { last } = state;
  if (!last || state.busy) return;
  await sending(async () => {
    await ask("POST", "bulk/withdraw", { said_under: last.token, token: newToken() });
    state.last = null;
    await after(`已撤回对 ${last.id} 的裁定`, state.at, last.id);
  });
}

async function after(told, at, id = "") {
  state.at = -1;
  await load();
  const found = state.list.findIndex((one) => one.id === id);
  if (state.list.length) {
    select(found >= 0 ? found : Math.min(Math.max(at, 0), state.list.length - 1));
    render();
    firstOpen()?.focus();
  } else $("disputes").focus();
  state.tell(`${told}，还有 ${state.list.length} 件等待裁定`);
}

async function sending(work) {
  state.busy = true;
  $("decide")?.setAttribute("aria-disabled", "true");
  try {
    await work();
  } catch (error) {
    problem(error);
  } finally {
    state.busy = false;
    $("decide")?.removeAttribute("aria-disabled");
  }
}

/** What went wrong, beside what was entered; the choices stay. */
function problem(error) {
  const box = $("bench-problem");
  if (!box) return;
  const signIn = error.status === 401 ? el("a", { href: "/login", target: "_blank" }, "在新窗口登录") : null;
  box.replaceChildren(el("b", {}, error.message), el("span", {}, error.problem?.hint ?? "", signIn ? ["登录已过期：", signIn, "，再按一次裁定；已选的都在。"] : null));
  box.hidden = false;
}
