// The appeal's words, with triggers, the evidence of one head, covered and masked places; and choosing
// words by keyboard to have them covered. Offsets are code points throughout.

import { el } from "/static/elements.js";
import { segments, steps } from "/static/spans.js";

const LOOKS = 5;
const PLACEHOLDER = /\[[\u4e00-\u9fff]{2,6}\]/gu; // [手机号]: masked before it was stored

/** Draw the words of a sheet with the evidence of `head`; `picked`: [start, end) being chosen. */
export function drawWords(node, sheet, head, picked = null) {
  const { text } = sheet.task.appeal;
  const spans = [...triggers(sheet), ...evidence(sheet, head), ...covered(sheet), ...placeholders(text)];
  if (picked) spans.push({ start: picked[0], end: picked[1], class: "picked", said: "" });
  node.replaceChildren(...segments(text, spans).map(drawn));
}

function drawn(segment) {
  if (!segment.spans.length) return document.createTextNode(segment.text);
  const classes = [...new Set(segment.spans.map((span) => span.class))].join(" ");
  const tags = segment.starts.map((span) => span.tag).filter(Boolean).join(" ");
  const said = segment.starts.map((span) => span.said).filter(Boolean).join("，");
  return el("mark", { class: classes, "data-tag": tags || null }, said ? el("span", { class: "vh" }, `（${said}）`) : null, segment.text);
}

/** Triggers with a number and a line style by kind. */
export function triggers(sheet) {
  const found = sheet.task.urgency?.triggers ?? [];
  const kinds = [...new Set(found.map((one) => one.kind))];
  return found.map((one, index) => ({ ...one, class: `trigger look${kinds.indexOf(one.kind) % LOOKS}`, tag: String(index + 1),
    said: `触发词 ${index + 1}：${one.name}` }));
}

function evidence(sheet, head) {
  return steps(sheet.head(head)?.evidence ?? []).map((span) => ({ ...span, class: `evidence step${span.step}`, said: "" }));
}

const covered = (sheet) => sheet.task.appeal.flags.map((flag) => ({ ...flag, class: "covered", said: "已遮盖" }));

function placeholders(text) {
  return [...text.matchAll(PLACEHOLDER)].map((hit) => {
    const start = Array.from(text.slice(0, hit.index)).length;
    return { start, end: start + Array.from(hit[0]).length, class: "masked", said: "" };
  });
}

/** Legend of the triggers: number, kind, words, where it comes from. */
export function triggerRows(sheet) {
  const points = Array.from(sheet.task.appeal.text);
  return triggers(sheet).map((one) => el("li", {},
    el("span", { class: `key ${one.class}`, "aria-hidden": "true" }, one.tag),
    el("span", {}, el("b", {}, one.name), one.start === null || one.start === undefined ? "" : `　“${short(points.slice(one.start, one.end).join(""))}”`),
    el("span", { class: "hint" }, [one.source === "model" ? "模型" : "规则", one.level].filter(Boolean).join(" · "))));
}

const short = (text) => (text.length > 18 ? `${text.slice(0, 18)}…` : text);

// --- choosing words -------------------------------------------------------------------------------

/** What the mouse selected within the words, as [start, end); null when nothing is. */
export function selectedSpan(node) {
  const selection = getSelection();
  if (!selection.rangeCount || selection.isCollapsed) return null;
  const range = selection.getRangeAt(0);
  if (!node.contains(range.startContainer) || !node.contains(range.endContainer)) return null;
  const [start, end] = [offset(node, range.startContainer, range.startOffset), offset(node, range.endContainer, range.endOffset)];
  return end > start ? [start, end] : null;
}

/** Code points of the appeal's own text before a place in the document. */
function offset(node, container, at) {
  const range = document.createRange();
  range.selectNodeContents(node);
  range.setEnd(container, at);
  const part = range.cloneContents();
  for (const said of part.querySelectorAll(".vh")) said.remove();
  return Array.from(part.textContent).length;
}

/** Words of a text as [start, end); punctuation and spaces are none. */
function wordsOf(text) {
  const found = [];
  let at = 0;
  for (const { segment, word } of cut(text)) {
    const length = Array.from(segment).length;
    if (word) found.push([at, at + length]);
    at += length;
  }
  return found;
}

function cut(text) {
  if (!Intl.Segmenter) return Array.from(text, (segment) => ({ segment, word: /[\p{L}\p{N}]/u.test(segment) }));
  return Array.from(new Intl.Segmenter("zh", { granularity: "word" }).segment(text), (one) => ({ segment: one.segment, word: one.isWordLike }));
}

/** Choosing by keyboard: arrows go from word to word, with Shift they extend. */
export class WordChoice {
  constructor(text) {
    this.points = Array.from(text);
    this.words = wordsOf(text);
    this.from = this.to = 0;
  }

  get span() {
    const [first, last] = [Math.min(this.from, this.to), Math.max(this.from, this.to)];
    return [this.words[first][0], this.words[last][1]];
  }

  get text() {
    return this.points.slice(...this.span).join("");
  }

  /** Move by a key; false when the key is none of ours. */
  move(key, extend) {
    const last = this.words.length - 1;
    const places = { ArrowLeft: this.to - 1, ArrowRight: this.to + 1, ArrowUp: this.to - 10, ArrowDown: this.to + 10, Home: 0, End: last };
    if (!(key in places)) return false;
    this.to = Math.min(last, Math.max(0, places[key]));
    if (!extend) this.from = this.to;
    return true;
  }
}

/** Cover characters on the page at once; the service covers them for everybody. */
export function coverHere(appeal, spans) {
  const points = Array.from(appeal.text);
  for (const [start, end] of spans) points.fill("█", start, end);
  appeal.text = points.join("");
}
