// What the figures say about the model: automatic dispatch, correction rate, suspected label errors.

import { el } from "/static/elements.js";
import { figure } from "/static/leads-frame.js";
import { dots, shareDomain, stacked, weekly } from "/static/plots.js";

/** A share with one decimal, as estimates are told. */
export const share = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)}%`);
const whole = (value) => `${Math.round(100 * value)}%`;
const interval = (one) => `${share(one.low)}–${share(one.high)}`;
const told = (one) => `${share(one.value)}（${interval(one)}）`;
const tenths = (value) => (value === null || value === undefined ? null : Math.round(value * 1000) / 10);
export const date = (text) => `${Number(text.slice(5, 7))}月${Number(text.slice(8, 10))}日`;

/** Words and plots of the audit slice. */
export function quality({ audit, since, until }) {
  const rows = [{ name: "整件全对", ...audit.whole }, ...audit.heads].map((one) => ({ ...one, told: one.value === null ? "" : told(one), why: "还没有可用的抽查" }));
  const some = rows.some((row) => row.value !== null);
  const target = { value: audit.target, name: `承办单位的目标 ${share(audit.target).replace(".0%", "%")}` };
  return [
    el("div", { class: "estimate" }, audit.words.map((line, index) => el("p", { class: index ? "hint" : "lead-line" }, line))),
    el("div", { class: "pair" },
      figure({
        id: "quality-heads", title: "各分类头判对的比例", about: "“整件全对”要求每个分类头都对，所以总比单项低。",
        draw: some && ((width) => dots({ label: `自动派单各分类头判对的比例：${rows.filter((row) => row.value !== null).map((row) => `${row.name} ${row.told}`).join("；")}`,
          rows, domain: shareDomain(rows.map((row) => row.low)), target, format: whole, width })),
        empty: "还没有可以估计的数字。", file: "自动派单质量",
        table: { head: ["分类头", "判对 %", "下限 %", "上限 %", "抽查件数", "代表件数", "未计入"],
          rows: rows.map((row) => [row.name, tenths(row.value), tenths(row.low), tenths(row.high), row.appeals, Math.round(row.stands_for), row.open]) },
      }),
      overTime(audit, since, until)),
    el("p", { class: "hint" }, `抽查比例 ${share(audit.share)}；这段时间抽中 ${audit.members} 件，已复核 ${audit.answered} 件，可用 ${audit.used} 件，其中自动派单 ${audit.automatic} 件。`),
  ];
}

function overTime(audit, since, until) {
  const points = audit.weeks.filter((one) => one.whole.value !== null).map((one) => ({ week: one.week, ...one.whole,
    told: `${date(one.week)}起一周 ${told(one.whole)}，抽查 ${one.whole.appeals} 件` }));
  return figure({
    id: "quality-weeks", title: "整件全对，按收到的那一周", about: "一周的件数少，区间就宽；两周的区间重叠，就说不上变好变坏。",
    draw: points.length && ((width) => weekly({ label: `每周整件全对的比例：${points.map((one) => one.told).join("；")}`, points, since, until,
      domain: shareDomain(points.map((one) => one.low)), format: whole, width, height: Math.max(200, Math.min(320, width * 0.5)) })),
    empty: "还没有一周有可用的抽查。", file: "自动派单质量_按周",
    table: { head: ["周一", "分类头", "判对 %", "下限 %", "上限 %", "抽查件数"],
      rows: audit.weeks.flatMap((week) => [{ name: "整件全对", ...week.whole }, ...week.heads]
        .map((one) => [week.week, one.name, tenths(one.value), tenths(one.low), tenths(one.high), one.appeals])) },
  });
}

/** One small plot per head, all on the same scale. */
export function corrections({ corrections: heads, since, until }) {
  if (!heads.length) return [el("p", { class: "nothing" }, "这段时间还没有人看过建议。")];
  const top = Math.min(1, Math.ceil((Math.max(...heads.flatMap((head) => head.weeks.map((week) => week.rate))) + 0.05) * 10) / 10);
  return [el("div", { class: "small-plots" }, heads.map((head) => figure({
    id: `corrections-${head.head}`, title: head.name, about: `${share(head.rate)} · 改 ${head.changed} / 看 ${head.labels}`,
    draw: (width) => weekly({
      label: `${head.name}每周的纠正率：${head.weeks.map((week) => `${date(week.week)} ${share(week.rate)}`).join("；")}`,
      points: head.weeks.map((week) => ({ ...week, value: week.rate, told: `${date(week.week)}起一周 ${share(week.rate)}（${interval(week)}），${week.changed} / ${week.labels}` })),
      since, until, domain: [0, top], format: whole, width, height: 170 }),
    table: { head: ["周一", "纠正率 %", "下限 %", "上限 %", "改", "看"],
      rows: head.weeks.map((week) => [week.week, tenths(week.rate), tenths(week.low), tenths(week.high), week.changed, week.labels]) },
    file: `纠正率_${head.name}`,
  })))];
}

const FATES = [["wrong", "确是错标"], ["right", "原来没错"], ["unclear", "看了没有定论"], ["waiting", "还没看"]];

/** What became of the labels that a program held for wrong. */
export function labelErrors({ label_errors: found }) {
  const rows = found.heads.map((head) => ({ name: head.name, ...fates(head) }));
  const parts = (row) => FATES.map(([kind, name]) => ({ kind, name, value: row[kind] }));
  return [
    el("p", { class: "lead-line" }, found.words),
    found.suspected ? figure({
      id: "errors-plot", title: "疑似错标的去向，处", about: "按分类头；整条的长度是放入“疑似错标”队列的数目。",
      legend: FATES.map(([kind, name]) => [`part-bar ${kind}`, name]),
      draw: (width) => stacked({ label: `疑似错标：${rows.map((row) => `${row.name} ${FATES.map(([kind, name]) => `${name} ${row[kind]}`).join("，")}`).join("；")}`,
        rows: rows.map((row) => ({ name: row.name, parts: parts(row) })), width }),
      table: { head: ["分类头", ...FATES.map(([, name]) => name), "放入", "改成建议的"],
        rows: found.heads.map((head, index) => [head.name, ...FATES.map(([kind]) => rows[index][kind]), head.suspected, head.as_proposed]) },
      file: "疑似错标",
    }) : null,
  ];
}

const fates = (head) => ({ wrong: head.wrong, right: head.right, unclear: head.looked_at - head.wrong - head.right, waiting: head.suspected - head.looked_at });
