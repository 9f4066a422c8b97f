// What the figures say about reviewing: agreement, confusions, queues, who did how much, how long it takes.

import { bar, el } from "/static/elements.js";
import { figure, grid, saving } from "/static/leads-frame.js";
import { date, share } from "/static/leads-quality.js";
import { dots, weekly } from "/static/plots.js";

export const person = (name) => name.replace(/^user:/, "").replace(/^developer$/, "开发者");
const two = (value) => (value === null || value === undefined ? null : Math.round(value * 100) / 100);
const fixed = (value) => value.toFixed(2);
const ZONES = [{ from: -1, to: 0.667, kind: "low", name: "偏低" }, { from: 0.667, to: 0.8, kind: "fair", name: "可用" }, { from: 0.8, to: 1, kind: "good", name: "可靠" }];
const MOST_DAYS = 31;
let chosen = ""; // the head whose confusions are shown

// --- agreement ------------------------------------------------------------------------------------

/** Alpha of every head; confusions and pairs of the one chosen. */
export function agreement({ agreement: heads }) {
  const rows = heads.map((one) => ({ name: one.name, value: one.alpha, low: one.low, high: one.high, why: one.why,
    told: one.alpha === null ? "" : `${fixed(one.alpha)}（${one.low === null ? "–" : `${fixed(one.low)}–${fixed(one.high)}`}）` }));
  const lowest = Math.min(0.4, ...rows.filter((row) => row.value !== null).map((row) => Math.floor((row.low ?? row.value) * 10) / 10));
  const domain = [Math.max(-1, lowest), 1];
  const zones = ZONES.filter((zone) => zone.to > domain[0]);
  const said = el("div", { class: "detail" });
  const crossed = el("div", { class: "detail" });
  const choose = (head) => {
    chosen = head;
    const one = heads.find((each) => each.head === head);
    said.replaceChildren(...confusions(one));
    crossed.replaceChildren(...(one.appeals ? [matrix(one), pairs(one)].flat() : []));
  };
  const first = heads.find((one) => one.head === chosen) ?? [...heads].sort((a, b) => (a.alpha ?? 2) - (b.alpha ?? 2) || b.appeals - a.appeals)[0];
  if (first) choose(first.head);
  return [el("div", { class: "pair" }, el("div", { class: "detail" },
    figure({
      id: "agreement-heads", title: "各分类头的 α", about: "横线是 95% 区间。紧急程度与责任层级按等级远近算。",
      draw: rows.some((row) => row.value !== null) && ((width) => dots({ label: `各分类头的一致性：${rows.map((row) => `${row.name} ${row.told || row.why}`).join("；")}`, rows, domain, zones, format: (value) => value.toFixed(1), width })),
      empty: rows.length ? `${rows[0].why}。请设定双人复核的比例，让一部分诉求由两人各审一遍。` : "还没有标注。",
      table: { head: ["分类头", "α", "下限", "上限", "诉求", "复核员", "标注", "无法判断", "相同 %", "说明"],
        rows: heads.map((one) => [one.name, two(one.alpha), two(one.low), two(one.high), one.appeals, one.reviewers, one.labels, one.untold, one.same === null ? null : Math.round(one.same * 100), one.why || one.verdict]) },
      file: "一致性",
    }),
    el("fieldset", { class: "layers" }, el("legend", {}, "看哪一项的分歧"),
      heads.map((one) => el("label", {}, el("input", { type: "radio", name: "head", value: one.head, checked: one.head === chosen, onchange: () => choose(one.head) }), el("span", {}, one.name)))),
    said), crossed)];
}

function confusions(one) {
  if (!one.appeals) return [el("p", { class: "nothing" }, `${one.why}。`)];
  const table = { head: ["标签", "另一标签", "件"], rows: one.confused.map((pair) => [pair.first.name, pair.second.name, pair.appeals]) };
  return [
    el("p", {}, one.alpha === null ? `${one.why}。` : `${one.name}：${one.verdict}。`, el("span", { class: "hint" }, `${one.appeals} 件由两人以上标注，两两相同的占 ${share(one.same)}。`)),
    one.confused.length ? el("div", {}, el("h3", {}, "最常混淆"), el("ol", { class: "most" }, one.confused.slice(0, 6).map((pair) => el("li", {},
      el("span", {}, pair.first.name, el("span", { class: "versus", role: "img", "aria-label": "与" }, " ⇄ "), pair.second.name), el("b", { class: "number" }, `${pair.appeals} 件`)))),
    el("p", { class: "after" }, saving(`混淆_${one.name}`, table))) : el("p", { class: "nothing" }, "没有人意见不同。"),
  ];
}

function pairs(one) {
  const table = { head: ["两位复核员", "共同的诉求", "相同 %", "α", "说明"],
    rows: one.pairs.map((pair) => [pair.reviewers.map(person).join(" · "), pair.appeals, Math.round(pair.same * 100), two(pair.alpha), pair.why]) };
  return el("details", { class: "numbers", open: one.pairs.length <= 6 }, el("summary", {}, `两两复核员的一致性（${one.pairs.length} 对）`),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "两两复核员的一致性" }, grid(`${one.name}：两两复核员的一致性`, table)), saving(`两两一致性_${one.name}`, table));
}

/** Labels against labels: the diagonal is agreement, all else confusion; shaded by count. */
function matrix(one) {
  const { labels, counts, left_out: leftOut } = one.matrix;
  const most = Math.max(1, ...counts.flatMap((row, i) => row.filter((_, j) => i !== j)));
  const cell = (count, i, j) => {
    const shade = i === j ? "same" : count ? `apart step${Math.ceil((count / most) * 4)}` : "none";
    return el("td", { class: shade }, count ? String(count) : el("span", { class: "vh" }, "0"));
  };
  if (!labels.length) return [];
  return [
    el("h3", {}, `${one.name}：混淆矩阵，件`), el("p", { class: "hint" }, "行与列是两人各自的标签；对角线上是两人相同的件数。"),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${one.name}的混淆矩阵` }, el("table", { class: "matrix" },
      el("caption", { class: "vh" }, `${one.name}：一人这样标、另一人那样标的件数；对角线是两人相同的件数`),
      el("thead", {}, el("tr", {}, el("td", {}), labels.map((label, j) => el("th", { scope: "col", title: label.name }, el("span", { "aria-hidden": "true" }, String(j + 1)), el("span", { class: "vh" }, label.name))))),
      el("tbody", {}, labels.map((label, i) => el("tr", {}, el("th", { scope: "row" }, el("span", { class: "place", "aria-hidden": "true" }, String(i + 1)), label.name), counts[i].map((count, j) => cell(count, i, j))))))),
    leftOut ? el("p", { class: "hint" }, `另有 ${leftOut} 个较少混淆的标签没有列出。`) : null,
  ];
}

// --- progress -------------------------------------------------------------------------------------

/** Queues, who did how much on which day, and how long an appeal takes. */
export function progress(figures) {
  return [
    el("div", { class: "pair" }, queues(figures), seconds(figures)),
    throughput(figures),
  ];
}

function queues({ queues: all }) {
  const most = Math.max(1, ...all.map((one) => one.waiting));
  const table = { head: ["队列", "等待", "手上", "最早一件", "完成", "跳过"], rows: all.map((one) => [one.name, one.waiting, one.held, one.oldest ?? null, one.done, one.skipped]) };
  return el("div", { class: "plot", id: "queues" },
    el("h3", { id: "queues-title" }, "队列"), el("p", { class: "hint" }, "等待与手上是现在的件数，完成与跳过是这段时间的。"),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": "queues-title" }, el("table", { class: "grid" },
      el("caption", { class: "vh" }, "各队列的进度"),
      el("thead", {}, el("tr", {}, ["队列", "等待", "", "手上", "最早一件", "完成", "跳过"].map((name) => (name ? el("th", { scope: "col" }, name) : el("td", {}))))),
      el("tbody", {}, all.map((one) => el("tr", {}, el("th", { scope: "row" }, one.name),
        el("td", { class: "number" }, one.waiting.toLocaleString("zh-CN")), el("td", { class: "bar-cell" }, bar(one.waiting / most)),
        el("td", { class: "number" }, String(one.held)), el("td", {}, one.oldest ? ago(one.oldest) : "–"),
        el("td", { class: "number" }, one.done.toLocaleString("zh-CN")), el("td", { class: "number" }, one.skipped.toLocaleString("zh-CN"))))))),
    el("p", { class: "after" }, saving("队列", table)));
}

/** How long ago, in the largest fitting unit. */
export function ago(moment) {
  const minutes = Math.max(0, (Date.now() - new Date(moment)) / 60_000);
  if (minutes < 60) return `${Math.floor(minutes)} 分钟前`;
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)} 小时前` : `${Math.floor(minutes / 1440)} 天前`;
}

function seconds({ seconds: all, since, until }) {
  const points = all.weeks.map((one) => ({ ...one, value: one.median, told: `${date(one.week)}起一周 ${round(one.median)} 秒（中间一半 ${round(one.low)}–${round(one.high)}），${one.appeals} 件` }));
  const top = Math.ceil((Math.max(0, ...points.map((one) => one.high)) * 1.1 + 1) / 10) * 10;
  return figure({
    id: "seconds", title: "每件用时，秒", about: all.appeals ? `中位数 ${round(all.median)} 秒，中间一半在 ${round(all.low)}–${round(all.high)} 秒（色带），共 ${all.appeals.toLocaleString("zh-CN")} 件。` : "",
    draw: points.length && ((width) => weekly({ label: `每周每件用时的中位数：${points.map((one) => one.told).join("；")}`, points, since, until, domain: [0, top], format: String, width, height: 210 })),
    empty: "这段时间还没有在队列里完成的诉求。", file: "每件用时",
    table: { head: ["周一", "四分之一", "中位数", "四分之三", "件"], rows: all.weeks.map((one) => [one.week, round(one.low), round(one.median), round(one.high), one.appeals]) },
  });
}

const round = (value) => (value === null || value === undefined ? null : value < 10 ? Math.round(value * 10) / 10 : Math.round(value));

/** Reviewers against days (weeks in a long period); shaded by the number of appeals. */
function throughput({ reviewers, days, since, until, totals }) {
  if (!reviewers.length) return el("p", { class: "nothing" }, "这段时间还没有人复核。");
  const byWeek = days > MOST_DAYS;
  const columns = byWeek ? every(7, mondayOf(since), until) : every(1, since, until);
  const place = (day) => (byWeek ? iso(mondayOf(new Date(`${day}T12:00:00`))) : day);
  const rows = reviewers.map((one) => {
    const counts = {};
    for (const day of one.days) counts[place(day.day)] = (counts[place(day.day)] ?? 0) + day.appeals;
    return { ...one, counts };
  });
  const most = Math.max(1, ...rows.flatMap((row) => Object.values(row.counts)));
  const table = { head: ["复核员", "日期", "诉求", "标注", "确认", "改", "裁定", "批量", "跳过", "中位秒"],
    rows: reviewers.flatMap((one) => one.days.map((day) => [person(one.reviewer), day.day, day.appeals, day.labels, day.confirmed, day.changed, day.adjudicated, day.bulk, day.skipped, round(day.median_seconds)])) };
  return el("div", { class: "plot", id: "throughput" },
    el("h3", { id: "throughput-title" }, `每人${byWeek ? "每周" : "每天"}审的诉求，件`),
    el("p", { class: "hint" }, `${totals.reviewers} 人共 ${totals.appeals.toLocaleString("zh-CN")} 件、${totals.labels.toLocaleString("zh-CN")} 个标注，跳过 ${totals.skipped} 件。人与人之间难易不同，不宜据此排名。`),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": "throughput-title" }, el("table", { class: "heat" },
      el("caption", { class: "vh" }, "每位复核员每天审的诉求件数"),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "复核员"), columns.map((day) => heading(day, columns, byWeek)), ["合计", "标注", "中位秒"].map((name) => el("th", { scope: "col", class: "sum" }, name)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, el("th", { scope: "row" }, person(row.reviewer)),
        columns.map((day) => (row.counts[day] ? el("td", { class: `step${Math.ceil((row.counts[day] / most) * 4)}` }, String(row.counts[day])) : el("td", {}, el("span", { class: "vh" }, "0")))),
        [row.appeals.toLocaleString("zh-CN"), row.labels.toLocaleString("zh-CN"), round(row.median_seconds) ?? "–"].map((value) => el("td", { class: "sum number" }, String(value)))))))),
    el("p", { class: "after" }, saving("工作量", table)));
}

const iso = (moment) => {
  const at = new Date(moment);
  return `${at.getFullYear()}-${String(at.getMonth() + 1).padStart(2, "0")}-${String(at.getDate()).padStart(2, "0")}`;
};

function mondayOf(moment) {
  const at = new Date(moment);
  at.setDate(at.getDate() - ((at.getDay() + 6) % 7));
  return at;
}

function every(step, since, until) {
  const found = [];
  for (const at = new Date(since); at < until; at.setDate(at.getDate() + step)) found.push(iso(at));
  return found;
}

/** The day of the month; the month where it begins. Weekends are marked. */
function heading(day, columns, byWeek) {
  const at = new Date(`${day}T12:00:00`);
  const first = day === columns[0] || at.getDate() <= (byWeek ? 7 : 1);
  const rest = !byWeek && [0, 6].includes(at.getDay());
  return el("th", { scope: "col", class: rest ? "rest" : null, title: date(day) },
    el("span", { "aria-hidden": "true" }, el("small", {}, first ? `${at.getMonth() + 1}月` : ""), String(at.getDate())), el("span", { class: "vh" }, date(day)));
}
