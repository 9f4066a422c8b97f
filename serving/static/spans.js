// Spans of the API count Unicode code points; strings of the browser count UTF-16 units.
// Everything here works on arrays of code points.

/** Cut a text at all borders of spans: [{text, spans, starts}], in order, nothing lost. */
export function segments(text, spans) {
  const points = Array.from(text);
  const borders = new Set([0, points.length]);
  const inside = spans.filter((span) => span.start !== null && span.end > span.start);
  for (const span of inside) {
    borders.add(Math.min(span.start, points.length));
    borders.add(Math.min(span.end, points.length));
  }
  const cuts = [...borders].sort((a, b) => a - b);
  return cuts.slice(1).map((end, index) => {
    const start = cuts[index];
    return {
      text: points.slice(start, end).join(""),
      spans: inside.filter((span) => span.start < end && span.end > start),
      starts: inside.filter((span) => span.start === start),
    };
  });
}

/** Weights as three steps, relative to the heaviest span: people tell three shades apart, not ten. */
export function steps(spans) {
  const heaviest = Math.max(...spans.map((span) => Math.abs(span.weight)), 1e-9);
  return spans.map((span) => {
    const share = Math.abs(span.weight) / heaviest;
    return { ...span, step: share > 0.66 ? 3 : share > 0.33 ? 2 : 1 };
  });
}
