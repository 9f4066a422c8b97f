// Plots as inline SVG, drawn to a width in pixels so that their text keeps its size at every zoom.
// Shares go from 0 to 1. Every plot is one image to a screen reader; what it shows stands in a table beside it.

const SVG = "http://www.w3.org/2000/svg";
const DAY = 86_400_000;

/** An SVG element; strings become text. */
function svg(tag, props = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** The plot itself, told as one image: `label` says what it shows. */
function image(width, height, label, ...children) {
  return svg("svg", { class: "drawing", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label }, ...children);
}

const size = () => parseFloat(getComputedStyle(document.documentElement).fontSize) * 0.8125; // of the text in plots

/** How wide a text will be, in pixels: Chinese characters are as wide as high. */
const wide = (text) => [...text].reduce((sum, char) => sum + (char.codePointAt(0) > 0x2e7f ? 1 : 0.56), 0) * size();

/** A linear scale from [low, high] to pixels. */
const scale = ([low, high], from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);

/** At most `most` round steps over [low, high]. */
function ticks([low, high], most) {
  const raw = (high - low) / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((part) => part * power).find((part) => part >= raw * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) found.push(Math.round(at * 1e6) / 1e6);
  return found;
}

/** A domain for shares that holds all of them with some air, from a round number to a round number. */
export function shareDomain(values, { floor = 0, step = 0.1 } = {}) {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (!known.length) return [floor, 1];
  const low = Math.max(floor, Math.floor((Math.min(...known) - 0.02) / step) * step);
  return [Math.round(low * 100) / 100, 1];
}

// --- dots with intervals ------------------------------------------------------------------------

/** Rows of a dot with its interval on one axis.

rows: {name, value, low, high, told, why}; zones: {from, to, kind} behind them; target: a line. */
export function dots({ label, rows, domain, zones = [], target = null, format, width }) {
  const em = size();
  const names = Math.min(Math.max(...rows.map((row) => wide(row.name))) + em, width * 0.34);
  const told = Math.max(...rows.map((row) => wide(row.value === null ? "" : row.told ?? format(row.value)))) + em;
  const x = scale(domain, names + em * 0.5, width - told - em * 0.9);
  const line = em * 2.35;
  const top = target === null && !zones.length ? em * 0.4 : em * 1.5;
  const height = top + rows.length * line + em * 1.9;
  const bottom = top + rows.length * line;
  const marks = ticks(domain, Math.max(2, Math.floor((x(domain[1]) - x(domain[0])) / (em * 4.5))));
  return image(width, height, label,
    zones.map((zone) => [
      svg("rect", { class: `zone ${zone.kind}`, x: x(Math.max(zone.from, domain[0])), y: top, width: Math.max(0, x(Math.min(zone.to, domain[1])) - x(Math.max(zone.from, domain[0]))), height: bottom - top }),
      svg("text", { class: "zone-name", x: x((Math.max(zone.from, domain[0]) + Math.min(zone.to, domain[1])) / 2), y: top - em * 0.45, "text-anchor": "middle" }, zone.name),
    ]),
    marks.map((value) => [
      svg("line", { class: "rule", x1: x(value), x2: x(value), y1: top, y2: bottom }),
      svg("text", { class: "tick", x: x(value), y: bottom + em * 1.35, "text-anchor": "middle" }, format(value)),
    ]),
    target !== null && goal(x(target.value), top, bottom, target.name, width, em),
    rows.map((row, index) => dot(row, top + (index + 0.5) * line, { x, em, names, width, domain, format })));
}

function goal(x, top, bottom, name, width, em) {
  const anchor = x > width * 0.7 ? "end" : "middle";
  return svg("g", { class: "goal" },
    svg("line", { x1: x, x2: x, y1: top - em * 0.2, y2: bottom }),
    svg("text", { x, y: top - em * 0.45, "text-anchor": anchor }, name));
}

function dot(row, y, { x, em, names, width, domain, format }) {
  const name = svg("text", { class: "row-name", x: names - em * 0.5, y: y + em * 0.35, "text-anchor": "end" }, row.name);
  if (row.value === null) return [name, svg("text", { class: "none", x: names + em, y: y + em * 0.35 }, cut(row.why, width - names - em * 1.5))];
  const inside = (value) => x(Math.min(Math.max(value, domain[0]), domain[1]));
  const told = row.told ?? format(row.value);
  return [name,
    row.low !== null && row.low !== undefined && [
      svg("line", { class: "whisker", x1: inside(row.low), x2: inside(row.high), y1: y, y2: y }),
      [row.low, row.high].map((end) => svg("line", { class: "whisker", x1: inside(end), x2: inside(end), y1: y - em * 0.3, y2: y + em * 0.3 })),
    ],
    svg("circle", { class: "dot-mark", cx: inside(row.value), cy: y, r: em * 0.42 }, svg("title", {}, `${row.name} ${told}`)),
    svg("text", { class: "told", x: width, y: y + em * 0.35, "text-anchor": "end" }, told)];
}

/** As much of a text as fits. */
function cut(text, room) {
  if (wide(text) <= room) return text;
  let kept = text;
  while (kept && wide(`${kept}…`) > room) kept = kept.slice(0, -1);
  return `${kept}…`;
}

// --- values over weeks ----------------------------------------------------------------------------

/** One value per week with its interval as a band: points {week, value, low, high, told}.

`since`, `until` (Date) are the ends of the axis; weeks apart from each other are not joined. */
export function weekly({ label, points, since, until, domain, target = null, format, width, height, unit = "" }) {
  const em = size();
  const marks = ticks(domain, Math.max(2, Math.floor(height / (em * 3))));
  const left = Math.max(...marks.map((value) => wide(format(value)))) + em * 0.8;
  const top = em * (unit || target ? 1.7 : 0.8);
  const bottom = height - em * 1.9;
  const x = scale([monday(since), Math.max(monday(until), monday(since) + 7 * DAY)], left + em, width - em * 1.6);
  const y = scale(domain, bottom, top);
  const held = (value) => Math.min(Math.max(value, domain[0]), domain[1]);
  const at = points.map((point) => ({ ...point, x: x(day(point.week)), y: y(held(point.value)), y0: y(held(point.low)), y1: y(held(point.high)) }));
  return image(width, height, label,
    unit && svg("text", { class: "tick", x: 0, y: em }, unit),
    marks.map((value) => [
      svg("line", { class: "rule", x1: left, x2: width, y1: y(value), y2: y(value) }),
      svg("text", { class: "tick", x: left - em * 0.5, y: y(value) + em * 0.35, "text-anchor": "end" }, format(value)),
    ]),
    weeks(since, until, x, em, left, width).map((one) => svg("text", { class: "tick", x: one.x, y: bottom + em * 1.5, "text-anchor": "middle" }, one.name)),
    target !== null && target.value >= domain[0] && target.value <= domain[1] && svg("g", { class: "goal" },
      svg("line", { x1: left, x2: width, y1: y(target.value), y2: y(target.value) }),
      svg("text", { x: width, y: y(target.value) - em * 0.4, "text-anchor": "end" }, target.name)),
    runs(at).map((run) => [
      run.length > 1 && svg("path", { class: "band", d: `M${run.map((p) => `${p.x} ${p.y1}`).join("L")}L${[...run].reverse().map((p) => `${p.x} ${p.y0}`).join("L")}Z` }),
      run.length > 1 && svg("path", { class: "line", d: `M${run.map((p) => `${p.x} ${p.y}`).join("L")}` }),
    ]),
    runs(at).filter((run) => run.length === 1).map(([point]) => svg("line", { class: "whisker", x1: point.x, x2: point.x, y1: point.y0, y2: point.y1 })),
    at.map((point) => svg("circle", { class: "dot-mark", cx: point.x, cy: point.y, r: em * 0.32 }, svg("title", {}, point.told))));
}

const day = (text) => new Date(`${text}T00:00:00`).getTime();

function monday(moment) {
  const date = new Date(moment);
  date.setHours(0, 0, 0, 0);
  date.setDate(date.getDate() - ((date.getDay() + 6) % 7));
  return date.getTime();
}

/** Mondays to be named below the axis, as many as there is room for. */
function weeks(since, until, x, em, left, width) {
  const first = monday(since);
  const count = Math.round((monday(until) - first) / (7 * DAY)) + 1;
  const every = Math.ceil(count / Math.max(1, Math.floor((width - left) / (em * 5.5))));
  const found = [];
  for (let week = 0; week < count; week += every) {
    const date = new Date(first + (week * 7 + 0.5) * DAY);
    found.push({ x: x(first + week * 7 * DAY), name: `${date.getMonth() + 1}月${date.getDate()}日` });
  }
  return found;
}

/** Points of consecutive weeks together. */
function runs(points) {
  const found = [];
  for (const point of points) {
    const last = found.at(-1)?.at(-1);
    if (last && day(point.week) - day(last.week) < 8 * DAY) found.at(-1).push(point);
    else found.push([point]);
  }
  return found;
}

// --- parts of a whole -----------------------------------------------------------------------------

/** Rows of bars made of parts: rows {name, parts: [{kind, value}]}; the longest fills the width. */
export function stacked({ label, rows, width }) {
  const em = size();
  const names = Math.min(Math.max(...rows.map((row) => wide(row.name))) + em, width * 0.34);
  const most = Math.max(1, ...rows.map((row) => row.parts.reduce((sum, part) => sum + part.value, 0)));
  const x = scale([0, most], 0, width - names - em * 4);
  const line = em * 2.2;
  return image(width, rows.length * line + em * 0.4, label, rows.map((row, index) => {
    const y = index * line + em * 0.3;
    let from = names;
    const total = row.parts.reduce((sum, part) => sum + part.value, 0);
    return [
      svg("text", { class: "row-name", x: names - em * 0.5, y: y + line / 2 + em * 0.2, "text-anchor": "end" }, row.name),
      row.parts.filter((part) => part.value > 0).map((part) => {
        const length = x(part.value);
        const drawn = svg("rect", { class: `part-bar ${part.kind}`, x: from, y: y + em * 0.2, width: Math.max(1, length - 1), height: line - em * 0.7, rx: 2 }, svg("title", {}, `${part.name} ${part.value}`));
        const number = length > wide(String(part.value)) + em * 0.6 && svg("text", { class: `in-bar ${part.kind}`, x: from + length / 2, y: y + line / 2 + em * 0.2, "text-anchor": "middle" }, String(part.value));
        from += length;
        return [drawn, number];
      }),
      svg("text", { class: "told", x: from + em * 0.5, y: y + line / 2 + em * 0.2 }, String(total)),
    ];
  }));
}
