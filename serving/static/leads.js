// The leads' page: loads the figures of a period and the disputes, and shows them.

import { el } from "/static/elements.js";
import { begin, load as loadDisputes, named } from "/static/leads-disputes.js";
import { agreement, progress } from "/static/leads-people.js";
import { corrections, labelErrors, quality, share } from "/static/leads-quality.js";
import { rules } from "/static/leads-rules.js";
import { ask } from "/static/review-api.js";
import { session, who } from "/static/session.js";

const DAYS = ["7", "30", "90", "366"];
const $ = (id) => document.getElementById(id);
let asked = 0;
let disputes = null;
let shown = null;

async function load() {
  const own = (asked += 1);
  const days = new FormData($("period")).get("days");
  busy(true);
  try {
    const figures = await ask("GET", `figures?days=${days}`);
    if (own !== asked) return;
    show(figures);
    named(figures.agreement);
    await loadDisputes({ total: figures.queues.find((one) => one.queue === "disputed")?.waiting ?? null });
    $("problem").hidden = true;
  } catch (error) {
    if (own === asked) tell(error);
  } finally {
    if (own === asked) busy(false);
  }
}

function show(figures) {
  shown = { ...figures, since: new Date(figures.since), until: new Date(figures.until) };
  const parts = { quality, agreement, progress, corrections, errors: labelErrors };
  for (const [name, build] of Object.entries(parts)) $(`${name}-body`).replaceChildren(...build(shown).filter(Boolean));
  tiles();
  const time = new Intl.DateTimeFormat("zh-CN", { month: "numeric", day: "numeric", hour: "2-digit", minute: "2-digit" });
  $("asof").textContent = `${time.format(shown.since)} 至 ${time.format(shown.until)}`;
}

/** The main points, each leading to its part of the page. */
function tiles() {
  if (!shown) return;
  const { audit, agreement: heads, totals, seconds, corrections: corrected, label_errors: errors } = shown;
  const lowest = heads.filter((one) => one.alpha !== null).sort((a, b) => a.alpha - b.alpha)[0];
  const unit = audit.heads.find((one) => one.head === "unit");
  const labels = corrected.reduce((sum, one) => sum + one.labels, 0);
  const changed = corrected.reduce((sum, one) => sum + one.changed, 0);
  $("tiles").replaceChildren(
    tile("disputes", "等待裁定", disputes === null ? "–" : `${disputes}`, "件", disputes ? "复核员意见不一" : "没有分歧", disputes ? "act" : ""),
    tile("quality", "自动派单整件全对", share(audit.whole.value), "", audit.whole.value === null ? "抽查还不够" : `区间 ${share(audit.whole.low)}–${share(audit.whole.high)}${unit ? `；承办单位 ${share(unit.value)}` : ""}`),
    tile("agreement", lowest ? `一致性最低：${lowest.name}` : "一致性", lowest ? lowest.alpha.toFixed(2) : "–", lowest ? "α" : "", lowest ? lowest.verdict : "两人都标注过的还不够", lowest && lowest.alpha < 0.667 ? "act" : ""),
    tile("progress", "已复核", totals.appeals.toLocaleString("zh-CN"), "件", seconds.median === null ? `${totals.reviewers} 人` : `${totals.reviewers} 人，每件中位 ${Math.round(seconds.median)} 秒`),
    tile("corrections", "纠正率", labels ? share(changed / labels) : "–", "", labels ? `${changed.toLocaleString("zh-CN")} / ${labels.toLocaleString("zh-CN")} 个标注` : "还没有标注"),
    tile("errors", "确是错标", errors.suspected ? String(errors.wrong) : "–", errors.suspected ? "处" : "", errors.suspected ? `放入 ${errors.suspected}，已看 ${errors.looked_at}` : "没有疑似错标"));
}

const tile = (to, name, value, unit, about, kind = "") => el("li", {}, el("a", { class: `tile ${kind}`, href: `#${to}` },
  el("span", { class: "tile-name" }, name), el("span", { class: "tile-value" }, value, unit ? el("small", {}, ` ${unit}`) : null), el("span", { class: "hint" }, about)));

function busy(on) {
  $("board").setAttribute("aria-busy", String(on));
  $("refresh").setAttribute("aria-disabled", String(on));
}

function tell(error) {
  const hint = error.status === 401 ? ["登录已过期，请", el("a", { href: "/login" }, "重新登录"), "。"] : error.problem?.hint ?? "请检查网络后点“刷新”。";
  $("problem").replaceChildren(el("b", {}, error.message), el("span", {}, hint));
  $("problem").hidden = false;
}

function say(text) {
  $("said").textContent = text;
}

const THEMES = { auto: "跟随系统", light: "浅色", dark: "深色" };

/** Type size and colours, kept for all pages (theme.js). */
function look() {
  const tellTheme = () => { $("theme-name").textContent = THEMES[jiesuLook.now().theme]; };
  $("smaller").addEventListener("click", () => jiesuLook.size(-1));
  $("larger").addEventListener("click", () => jiesuLook.size(1));
  $("theme").addEventListener("click", () => {
    const names = Object.keys(THEMES);
    jiesuLook.theme(names[(names.indexOf(jiesuLook.now().theme) + 1) % names.length]);
    tellTheme();
  });
  tellTheme();
}

async function start() {
  look();
  const wanted = new URLSearchParams(location.search).get("days");
  if (DAYS.includes(wanted)) $("period").elements.days.value = wanted;
  $("period").addEventListener("change", (event) => {
    if (event.target.name !== "days") return;
    history.replaceState(null, "", `?days=${event.target.value}${location.hash}`);
    load();
  });
  $("period").addEventListener("submit", (event) => event.preventDefault());
  $("refresh").addEventListener("click", () => load().then(() => say("已刷新")));
  try {
    const known = await session();
    $("who").append(...who(known));
    $("who").hidden = !$("who").childNodes.length;
    const { me, rules: held } = await ask("GET", "queues");
    rules(held, say);
    begin({ me: me.name, tell: say, changed: (count) => { disputes = count; tiles(); } });
    await load();
  } catch (error) {
    tell(error);
    busy(false);
  }
}

start();
