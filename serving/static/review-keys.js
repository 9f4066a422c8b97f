// The keys of the review page: one table for the dispatcher and for the help.

import { recall, keep } from "/static/review-kept.js";

const LETTERS = { category: "c", appeal_type: "t", urgency: "u", tier: "l", unit: "d", petition: "p" };
const SPARE = "fijknorvwy"; // for a city's further heads
const SAME = { "？": "?", "／": "/", "、": "/", "＋": "+", "＝": "+", "=": "+", "－": "-", "_": "-", "－": "-" };

/** What each key does: `act` is the name the page knows it by. */
export const KEYS = [
  { group: "判定", keys: ["Enter", "a"], act: "accept", name: "全部确认，进入下一条" },
  { group: "判定", keys: ["1", "9"], act: "digit", name: "为选中的分类头选第几个答案", range: true },
  { group: "判定", keys: ["0"], act: "untellable", name: "选中的分类头：原文无法判断" },
  { group: "判定", keys: ["/"], act: "pick", name: "在全部标签中查找（也可再按一次分类头的字母）" },
  { group: "判定", keys: ["↑", "↓"], act: "step", name: "选中上一个、下一个分类头" },
  { group: "判定", keys: ["z"], act: "undo", name: "撤销：先撤本条的改动，再退回上一条" },
  { group: "这一条", keys: ["s"], act: "skip", name: "跳过，按数字选原因" },
  { group: "这一条", keys: ["m"], act: "comment", name: "写备注（Esc 写完，Ctrl+Enter 写完并确认）" },
  { group: "这一条", keys: ["x"], act: "flag", name: "遮盖个人信息：先用鼠标选字，或用方向键逐词选" },
  { group: "这一条", keys: ["e"], act: "evidence", name: "换一项判定的依据" },
  { group: "这一条", keys: ["b"], act: "bulk", name: "批量标注相似的诉求" },
  { group: "这一条", keys: ["h"], act: "history", name: "历史，再按回到相似诉求" },
  { group: "页面", keys: ["g"], act: "queues", name: "换队列，按数字选定" },
  { group: "页面", keys: ["+", "-"], act: "size", name: "字大一些、小一些" },
  { group: "页面", keys: ["?"], act: "help", name: "打开这张表" },
  { group: "页面", keys: ["Esc"], act: "escape", name: "离开当前的选择或窗口" },
];

/** head → letter; each head has one, further heads the next spare one. */
export function letters(heads) {
  const spare = [...SPARE];
  return Object.fromEntries(heads.map((head) => [head, LETTERS[head] ?? spare.shift() ?? ""]));
}

const ACTS = { a: "accept", enter: "accept", 0: "untellable", "/": "pick", z: "undo", s: "skip", m: "comment", x: "flag", e: "evidence",
  b: "bulk", h: "history", g: "queues", "+": "size", "-": "size", "?": "help", escape: "escape", arrowup: "step", arrowdown: "step" };
const PRINTED = (key) => key.length === 1; // WCAG 2.1.4: such keys can be switched off
const WRITING = "input:not([type=radio]):not([type=checkbox]), textarea, select, [contenteditable]";
const ACTING = "button, a[href], summary, input, [role=tab]";

export const singleKeys = {
  on: () => recall("single-keys", true),
  set: (on) => keep("single-keys", on),
};

/** The act a key press stands for: {act, key}, or null when it is not ours. `heads`: letter → head. */
export function actOf(event, heads) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.keyCode === 229) return null;
  if (document.querySelector("dialog[open]") || event.target.closest?.(WRITING)) return null;
  const key = (SAME[event.key] ?? event.key).toLowerCase();
  if (PRINTED(key) && !singleKeys.on()) return null;
  const onButton = event.target.closest?.(ACTING);
  if (onButton && ["enter", " ", "arrowup", "arrowdown"].includes(key)) return null; // the button's own
  if (event.target.closest?.("#words") && key.startsWith("arrow")) return null; // scrolls
  if (heads[key]) return { act: "head", key, head: heads[key] };
  if (/^[1-9]$/.test(key)) return { act: "digit", key };
  return ACTS[key] ? { act: ACTS[key], key } : null;
}
