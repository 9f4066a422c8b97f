// The page: takes a text, asks /v1/classify, shows the answer. Nothing is stored.

import { TITLES, render, summary } from "/static/answer.js";
import { left, past } from "/static/clock.js";
import { el } from "/static/elements.js";
import { proof, session, who } from "/static/session.js";

const EXAMPLES = [
  ["井盖缺失", "梧桐里小区3号楼门口的污水井盖不见了，晚上又没有路灯，刚才有个老人差点踩空掉进去，请马上派人来处理。"],
  ["夜间油烟", "柳荫路拐角那家烧烤店每天营业到凌晨两点，排烟口正对居民楼，油烟直往屋里灌，窗户都不敢开，上个月反映过一次，好了三天又照旧。"],
  ["医保咨询", "您好，我是灵活就业人员，刚从外地搬过来，请问医保关系怎么转，今年的费用在哪里缴？"],
  ["欠薪堵路", "我们工地四十多个工人三个月没发工资，项目部天天推，明天上午再不给说法，大家就去把工地门口的路堵了。"],
  ["有人落水", "快点来人！我家孩子在河边玩滑下去了，就在望江桥底下，水很急，已经看不到头了！"],
];
const TICK = 30_000;
const $ = (id) => document.getElementById(id);
const labels = {};
let running = null;

function count() {
  $("count").textContent = `${Array.from($("text").value).length.toLocaleString("zh-CN")} 字`;
}

function body() {
  const fields = new FormData($("form"));
  const place = {};
  for (const name of ["city", "district", "street", "community"]) {
    const value = fields.get(name).trim();
    if (value) place[name] = value;
  }
  const received = fields.get("received_at");
  return { texts: [fields.get("text").replaceAll("\r\n", "\n")], place, ...(received && { received_at: received }) };
}

async function ask(event) {
  event?.preventDefault();
  running?.abort();
  running = new AbortController();
  const own = running;
  const asked = body();
  busy(true);
  tell(null);
  try {
    const reply = await fetch("/v1/classify", {
      method: "POST", headers: { "Content-Type": "application/json", ...proof() }, body: JSON.stringify(asked), signal: own.signal,
    });
    const answer = await reply.json();
    if (reply.ok) show(asked.texts[0], answer.results[0]);
    else tell(answer.error);
  } catch (error) {
    if (error.name !== "AbortError") tell({ message: "连不上服务", hint: "请检查网络后再试一次", more: [] });
  } finally {
    if (own === running) busy(false);
  }
}

function busy(on) {
  $("submit").setAttribute("aria-disabled", String(on));
  $("submit").textContent = on ? "正在分析…" : "分析诉求";
  $("result").setAttribute("aria-busy", String(on));
}

function tell(problem) {
  $("problem").hidden = !problem;
  $("text").toggleAttribute("aria-invalid", Boolean(problem));
  if (!problem) return;
  const detail = [problem.expected && `应为：${problem.expected}`, problem.got && `实际：${problem.got}`, problem.hint];
  $("problem").replaceChildren(el("b", {}, problem.message), ...detail.filter(Boolean).map((line) => el("span", {}, line)));
}

function show(text, answer) {
  $("empty").hidden = true;
  $("answer").hidden = false;
  $("answer").replaceChildren(...render(text, answer, labels));
  $("said").textContent = summary(answer);
  const far = $("result").getBoundingClientRect().top > window.innerHeight * 0.6;
  if (far) $("result").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

function clear() {
  running?.abort();
  $("form").reset();
  $("answer").hidden = true;
  $("empty").hidden = false;
  $("said").textContent = "";
  tell(null);
  busy(false);
  count();
  $("text").focus();
}

function addExamples() {
  $("examples").append(...EXAMPLES.map(([name, text]) => el("li", {},
    el("button", { type: "button", class: "chip", onclick: () => { $("text").value = text; count(); ask(); } }, name))));
}

function tick() {
  for (const node of document.querySelectorAll("[data-until]")) {
    node.textContent = left(node.dataset.until);
    node.parentElement.classList.toggle("late", past(node.dataset.until));
  }
}

async function connect() {
  const service = $("service");
  try {
    const known = await session();
    $("who").replaceChildren(...who(known));
    $("who").hidden = known.kind !== "user";
    $("rooms").hidden = !known.scopes.includes("review");
    const [scheme, model] = await Promise.all(["/v1/scheme", "/v1/model"].map(async (path) => {
      const reply = await fetch(path);
      if (!reply.ok) throw new Error((await reply.json()).error.message);
      return reply.json();
    }));
    for (const head of scheme.heads) {
      labels[head.name] = head.labels.map((label) => label.name);
      TITLES[head.name] ??= head.title || head.name;
    }
    service.dataset.state = "up";
    $("service-text").textContent = `服务正常 · 模型 ${model.version}`;
  } catch (error) {
    service.dataset.state = "down";
    $("service-text").textContent = error instanceof TypeError ? "连不上服务" : error.message;
  }
}

$("form").addEventListener("submit", ask);
$("clear").addEventListener("click", clear);
$("text").addEventListener("input", count);
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask(event);
});
addExamples();
count();
connect();
setInterval(tick, TICK);
