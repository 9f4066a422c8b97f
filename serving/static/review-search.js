// Finding a label by a few keys: characters, full pinyin, initials, both mixed, or the code.

const PARTS = /[\s›>/]+/;

/** What is looked at of a label, made once. */
export function indexed(label) {
  const syllables = (label.pinyin ?? "").toLowerCase().split(" ").filter(Boolean);
  return {
    label, syllables, name: label.name.toLowerCase(), code: label.code.toLowerCase(),
    above: label.path.slice(0, -1).join(" ").toLowerCase(), keywords: (label.keywords ?? []).map((word) => word.toLowerCase()),
    definition: (label.definition ?? "").toLowerCase(),
  };
}

/** Labels that fit all parts of the query, the best first; `likely`: code → probability, for ties. */
export function search(entries, query, likely = {}) {
  const parts = query.normalize("NFKC").toLowerCase().split(PARTS).filter(Boolean);
  const found = entries.map((entry, order) => ({ entry, order, score: least(entry, parts) })).filter((one) => one.score > 0);
  const chance = (one) => likely[one.entry.label.code] ?? 0;
  return found.sort((a, b) => b.score - a.score || chance(b) - chance(a) || a.order - b.order).map((one) => one.entry.label);
}

const least = (entry, parts) => Math.min(...parts.map((part) => score(entry, part)), 100);

function score(entry, part) {
  return Math.max(...RULES.map((rule) => rule(entry, part)));
}

// One function per way to fit; the higher, the earlier.
const RULES = [
  ({ code }, part) => (code === part ? 100 : code.startsWith(part) ? 84 : 0),
  ({ name }, part) => (name === part ? 100 : name.startsWith(part) ? 95 : name.includes(part) ? 90 : 0),
  ({ keywords }, part) => (keywords.includes(part) ? 82 : keywords.some((word) => word.includes(part)) ? 66 : 0),
  ({ above }, part) => (above.includes(part) ? 60 : 0),
  ({ definition }, part) => (definition.includes(part) ? 40 : 0),
  ({ syllables }, part) => (/^[a-zü]+$/.test(part) ? spoken(syllables, part) : 0),
  ({ name }, part) => (part.length > 1 && inOrder(name, part) ? 30 : 0),
];

/** By sound: every syllable gives its first letters; from the beginning is better than from the middle. */
function spoken(syllables, part) {
  for (let start = 0; start < syllables.length; start += 1) {
    const used = heard(syllables, start, part);
    if (used > 0) return start === 0 ? (used === syllables.length ? 94 : 88) : 76 - Math.min(start, 9);
  }
  return part.length > 1 && inOrder(syllables.map((one) => one[0]).join(""), part) ? 50 : 0;
}

/** How many syllables from `at` on give the letters, each at least one of its own; 0: they don't. */
function heard(syllables, at, letters, count = 0) {
  if (!letters) return count;
  if (at >= syllables.length) return 0;
  for (let length = Math.min(syllables[at].length, letters.length); length > 0; length -= 1) {
    if (!syllables[at].startsWith(letters.slice(0, length))) continue;
    const used = heard(syllables, at + 1, letters.slice(length), count + 1);
    if (used) return used;
  }
  return 0;
}

function inOrder(text, part) {
  let at = -1;
  return Array.from(part).every((char) => (at = text.indexOf(char, at + 1)) >= 0);
}
