// The resident's words with what the service saw in them: one layer at a time, told by number,
// line style and words beside colour.

import { el } from "/static/elements.js";
import { segments, steps } from "/static/spans.js";

const LOOKS = 5; // line styles of trigger kinds; a sixth kind takes the first again

/** The sheet with the text, a switch of layers and the legend of the layer shown. */
export function quote(text, answer, layers) {
  const shown = el("p", { class: "words", id: "words", lang: "zh-CN" });
  const legend = el("div", { class: "legend" });
  const show = (layer) => {
    const spans = layer.spans();
    shown.replaceChildren(...marked(text, [...spans, ...masks(answer)]));
    legend.replaceChildren(...layer.legend(), ...maskLegend(answer));
  };
  if (layers.first) show(layers.first);
  else shown.textContent = text;
  return el("section", { class: "sheet quote", "aria-labelledby": "quote-title" },
    el("div", { class: "sheet-head" }, el("h2", { id: "quote-title" }, "原文与依据"), choice(layers, show)),
    shown, legend);
}

function choice(layers, show) {
  return el("fieldset", { class: "layers" }, el("legend", { class: "vh" }, "在原文中标出哪一项判定的依据"),
    layers.all.map((layer) => el("label", {},
      el("input", { type: "radio", name: "layer", value: layer.name, checked: layer === layers.first, onchange: () => show(layer) }),
      el("span", {}, layer.title, layer.count ? el("b", {}, String(layer.count)) : null))));
}

/** The layer of what raised the urgency. */
export function triggerLayer(triggers) {
  const kinds = [...new Set(triggers.map((one) => one.kind))];
  const look = (one) => `trigger look${kinds.indexOf(one.kind) % LOOKS}`;
  const spans = () => triggers.map((one, index) => ({ ...one, class: look(one), tag: String(index + 1), said: `触发词 ${index + 1}：${one.name}` }));
  const rows = () => triggers.map((one, index) => el("li", {},
    el("span", { class: `key ${look(one)}`, "aria-hidden": "true" }, String(index + 1)),
    el("span", {}, el("b", {}, one.name), one.text ? `　“${short(one.text)}”` : ""),
    el("span", { class: "hint" }, `${one.source === "rule" ? "规则" : "模型"} · ${one.level}${one.in_title ? " · 在标题中" : ""}`)));
  const legend = () => [triggers.length ? el("ol", { class: "rows" }, rows()) : el("p", { class: "hint" }, "没有发现需要提级的内容。")];
  return { name: "triggers", title: "紧急触发", count: triggers.length, spans, legend };
}

/** The layer of what spoke for one head's answer. */
export function evidenceLayer(name, title, evidence, label) {
  const spans = () => steps(evidence).map((span) => ({ ...span, class: `evidence step${span.step}`, said: "" }));
  const scale = () => el("p", { class: "scale" },
    el("span", {}, `支持“${label}”的字词：`),
    el("mark", { class: "evidence step1" }, "较弱"), el("mark", { class: "evidence step2" }, "中等"), el("mark", { class: "evidence step3" }, "最强"));
  const legend = () => [evidence.length ? scale() : el("p", { class: "hint" }, "这一项没有可标出的字词：由全文整体判定。")];
  return { name, title, count: 0, spans, legend };
}

const masks = (answer) => answer.masked.map((one) => ({ ...one, class: "masked", said: `个人信息：${one.kind}` }));

function maskLegend(answer) {
  if (!answer.masked.length) return [];
  const kinds = [...new Set(answer.masked.map((one) => one.kind))].join("、");
  return [el("p", { class: "hint" }, el("mark", { class: "masked" }, "虚线框"), ` 个人信息（${kinds}），判定与存储前已遮盖`)];
}

function marked(text, spans) {
  return segments(text, spans).map((segment) => {
    if (!segment.spans.length) return document.createTextNode(segment.text);
    const classes = [...new Set(segment.spans.map((span) => span.class))].join(" ");
    const tags = segment.starts.filter((span) => span.tag).map((span) => span.tag).join(" ");
    const said = segment.starts.map((span) => span.said).filter(Boolean).join("，");
    return el("mark", { class: classes, "data-tag": tags || null },
      said ? el("span", { class: "vh" }, `（${said}）`) : null, segment.text);
  });
}

const short = (text) => (text.length > 24 ? `${text.slice(0, 24)}…` : text);
