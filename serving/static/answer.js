// One answer as a document: decision first, then the words with their evidence, then every head.

import { left, moment, past } from "/static/clock.js";
import { bar, el, icon, percent } from "/static/elements.js";
import { evidenceLayer, quote, triggerLayer } from "/static/quote.js";

const ACTIONS = {
  auto_dispatch: { name: "自动派单", icon: ["M20 6 9 17l-5-5"] },
  review: { name: "人工复核", icon: ["M2 12s3.6-7 10-7 10 7 10 7-3.6 7-10 7S2 12 2 12Z", "M12 15a3 3 0 1 0 0-6 3 3 0 0 0 0 6Z"] },
  transfer: { name: "移交", icon: ["M5 12h14", "m12 5 7 7-7 7"] },
};
export const TITLES = { category: "事项分类", appeal_type: "诉求性质", urgency: "紧急程度", tier: "责任层级", unit: "承办单位", petition: "信访分类" };
const SOURCES = { table: "派单表", model: "模型", both: "派单表与模型一致", upward: "回避被反映单位，上提一级",
  emergency: "危及生命，救援单位先到" };

/** The whole answer; `labels` gives the ordered labels of the ordinal heads (from /v1/scheme). */
export function render(text, answer, labels) {
  return [
    decision(answer, labels),
    quote(text, answer, layers(answer)),
    el("div", { class: "cards" },
      answer.category && headCard("category", answer.category, "wide"),
      answer.unit && unitCard(answer.unit),
      answer.tier && tierCard(answer.tier, labels.tier),
      answer.appeal_type && headCard("appeal_type", answer.appeal_type),
      Object.entries(answer.extra).map(([name, head]) => headCard(name, head))),
    raw(answer),
  ];
}

/** What a screen reader is told when the answer has come. */
export function summary(answer) {
  const parts = [`派单决定：${actionName(answer.decision)}`];
  if (answer.unit) parts.push(`承办单位：${answer.unit.lead.name}`);
  if (answer.urgency) parts.push(`紧急程度：${answer.urgency.level}，触发词 ${answer.urgency.triggers.length} 处`);
  if (answer.category) parts.push(`事项分类：${answer.category.path.join("，")}`);
  return `${parts.join("；")}。`;
}

function actionName(decision) {
  const name = ACTIONS[decision.action].name;
  return decision.action === "transfer" ? `${name} ${decision.transfer_to.join("、")}` : name;
}

function decision(answer, labels) {
  const made = answer.decision;
  return el("section", { class: "decision", "data-action": made.action, "aria-labelledby": "decision-title" },
    el("div", { class: "decision-main" },
      el("span", { class: "seal" }, icon(...ACTIONS[made.action].icon)),
      el("div", {},
        el("p", { class: "over" }, "派单决定"),
        el("h2", { id: "decision-title" }, actionName(made)),
        el("p", { class: "decision-line" }, decisionLine(answer)),
        el("ul", { class: "reasons", "aria-label": "理由" }, made.reasons.map((one) => el("li", {}, one.text))),
        remembered(answer))),
    answer.urgency && urgencyLadder(answer.urgency, labels.urgency),
    deadlines(answer));
}

function decisionLine(answer) {
  const { decision: made, unit } = answer;
  if (!unit) return null;
  if (made.action === "transfer") return ["后续承办 ", el("b", {}, unit.lead.name)];
  const co = unit.co_units.length ? `，协办：${unit.co_units.map((one) => one.name).join("、")}` : "";
  return [made.action === "auto_dispatch" ? "派往 " : "拟派往 ", el("b", {}, unit.lead.name), co];
}

/** Which corrected look-alikes the answer followed, and what the model alone would have said. */
function remembered(answer) {
  const votes = answer.memory ?? [];
  if (!votes.length) return null;
  const of = (head) => votes.filter((one) => one.head === head);
  const heads = Object.entries(answer.without_memory);
  const ids = new Set(votes.map((one) => one.appeal_id).filter(Boolean));
  const count = Math.max(ids.size, ...heads.map(([head]) => of(head).length)); // ids of other clients are not told
  return el("details", { class: "remembered" },
    el("summary", {}, `参考了 ${count} 条已复核的相似诉求`),
    el("ul", {}, heads.map(([head, alone]) => el("li", {},
      `${TITLES[head] ?? head}：复核为${[...new Set(of(head).map((one) => one.name))].join("、")}，`
      + `模型单独判为${alone.name}（${percent(alone.probability)}）`))),
    ids.size > 0 && el("p", { class: "hint" }, `诉求编号：${[...ids].join("、")}`));
}

function urgencyLadder(urgency, names) {
  const levels = names?.length ? names : [urgency.level];
  const at = levels.indexOf(urgency.level);
  const model = urgency.model && urgency.model.name !== urgency.level ? `模型单独判为${urgency.model.name}` : null;
  return el("div", { class: "ladder", "data-rank": String(Math.max(at, 0)) },
    el("p", { class: "over" }, "紧急程度"),
    el("p", { class: "ladder-name" }, urgency.level, el("span", { class: "hint" }, ` ${percent(urgency.probability)}`)),
    el("ol", { class: "steps", "aria-hidden": "true" },
      levels.map((name, index) => el("li", { class: index <= at ? "step on" : "step" }, name))),
    model && el("p", { class: "hint" }, model));
}

function deadlines(answer) {
  const due = [["答复", answer.decision.respond_by], ["办结", answer.decision.resolve_by]].filter(([, iso]) => iso);
  if (!due.length) return el("p", { class: "due hint" }, "不设办理时限。");
  return el("ol", { class: "due" },
    el("li", {}, el("span", { class: "over" }, "受理"), el("time", { datetime: answer.received_at }, moment(answer.received_at))),
    due.map(([what, iso]) => el("li", { class: past(iso) ? "late" : null },
      el("span", { class: "over" }, `${what}不晚于`),
      el("time", { datetime: iso }, moment(iso)),
      el("span", { class: "left", "data-until": iso }, left(iso)))));
}

function layers(answer) {
  const found = [];
  if (answer.urgency) found.push(triggerLayer(answer.urgency.triggers));
  const heads = { category: answer.category, appeal_type: answer.appeal_type, urgency: answer.urgency?.model, tier: answer.tier, unit: answer.unit, ...answer.extra };
  for (const [name, head] of Object.entries(heads)) {
    if (!head) continue;
    const title = name === "urgency" ? "紧急（模型）" : TITLES[name] ?? name;
    found.push(evidenceLayer(name, title, head.evidence, head.lead?.name ?? head.name));
  }
  const first = answer.urgency?.triggers.length ? found[0] : found.find((layer) => layer.name !== "triggers");
  return { all: found, first: first ?? found[0] };
}

function card(title, ...children) {
  return el("section", { class: "sheet card" }, el("h2", {}, title), children);
}

const LEAST = 0.005; // a choice below half a per cent is no choice

function options(choices) {
  const likely = choices.filter((one) => one.probability >= LEAST);
  if (!likely.length) return el("p", { class: "hint" }, "其他可能均不足 1%。");
  return [el("h3", {}, "其他可能"), el("ul", { class: "options" },
    likely.map((one) => el("li", {},
      el("span", {}, one.path?.length > 1 ? one.path.join(" › ") : one.name),
      bar(one.probability), el("span", { class: "number" }, percent(one.probability)))))];
}

function headCard(name, head, extra = "") {
  const parents = head.path.slice(0, -1);
  const made = card(TITLES[name] ?? name,
    el("div", {},
      el("p", { class: "best" },
        parents.length ? el("span", { class: "path" }, `${parents.join(" › ")} ›`) : null,
        el("span", { class: "best-name" }, head.name),
        head.code !== head.name ? el("span", { class: "code" }, head.code) : null),
      sure(head.probability)),
    el("div", {}, options(head.alternatives)));
  if (extra) made.classList.add(extra);
  return made;
}

const sure = (share) => el("p", { class: "sure" }, el("span", { class: "hint" }, "把握"), bar(share), el("span", { class: "number" }, percent(share)));

function unitCard(unit) {
  return card(TITLES.unit,
    el("p", { class: "best" }, el("span", { class: "best-name" }, unit.lead.name)),
    sure(unit.probability),
    el("p", { class: "chips" },
      el("span", { class: "chip plain" }, `依据：${SOURCES[unit.source] ?? unit.source}`),
      unit.co_units.map((one) => el("span", { class: "chip" }, `协办 ${one.name}`))),
    options(unit.alternatives));
}

function tierCard(tier, names) {
  const tiers = names?.length ? names : [tier.name];
  return card(TITLES.tier,
    el("p", { class: "best" }, el("span", { class: "best-name" }, tier.name),
      tier.leader ? el("span", { class: "chip" }, `责任长 ${tier.leader}`) : null),
    el("ol", { class: "tiers", "aria-hidden": "true" },
      tiers.map((name) => el("li", { class: name === tier.name ? "on" : null }, name))),
    sure(tier.probability), options(tier.alternatives.slice(0, 2)));
}

function raw(answer) {
  const text = JSON.stringify(answer, null, 2);
  const told = el("span", { class: "hint", role: "status" });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      told.textContent = "已复制";
    } catch {
      told.textContent = "浏览器不允许复制，请在下方选中后复制";
    }
  };
  return el("details", { class: "raw" },
    el("summary", {}, "JSON 原始结果"),
    el("div", { class: "raw-head" },
      el("p", { class: "hint" }, `模型 ${answer.model_version} · 标签体系 ${answer.scheme_version}`),
      told, el("button", { type: "button", class: "quiet small", onclick: copy }, "复制")),
    el("pre", { tabindex: "0", "aria-label": "JSON 原始结果" }, text));
}
