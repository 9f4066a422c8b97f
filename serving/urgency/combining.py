"""Rules and model joined: the final level is the higher of the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from serving.urgency.answer import LEVELS, Trigger, UrgencyAnswer
from serving.urgency.finding import EXTREME, SOON, URGENT, Rule
from serving.urgency.rules import HANDOVERS, NEEDS, PERSONS, RULES
from serving.urgency.scan import Scan, scan

# Least P(level or higher) at which the model may name a level. 0.5 is the cut of an ordinal head; a
# deployment passes its own, from the calibration of its model folder.
DEFAULT_THRESHOLDS: Mapping[str, float] = {"特急": 0.5, "紧急": 0.5, "较急": 0.5}

# Certainty stated for a level that a rule raised: a convention for the page, not a measured probability.
RULE_CERTAINTY = 0.9

# In order of haste; what is not listed keeps the order of the text.
_BODIES = ("120", "119", "110", "12388", "法院", "仲裁", "行政复议", "信访")

# A vulnerable person beside one of these is in greater need; beside 联名 or 多次反映 not.
_LIFE = frozenset({"missing", "domestic_violence", "child_abuse", "crime", "traffic"})
_CIRCUMSTANCE = frozenset(
    {"electric", "collapse", "falling", "manhole", "outage", "nuisance", "deadline", "need"}
)
_BESIDE = 60  # characters between a vulnerable person and the need


def assess(
    text: str,
    prediction_probs: Mapping[str, float] | None = None,
    *,
    evidence: Sequence[tuple[int, int]] = (),
    thresholds: Mapping[str, float] = DEFAULT_THRESHOLDS,
    levels: Sequence[str] = LEVELS,
    rules: UrgencyAnswer | None = None,
) -> UrgencyAnswer:
    """Urgency of a prepared text: rules ∪ model; the model may raise above the rules, never lower below.

    ``prediction_probs`` maps the codes of the urgency head to probabilities (None: the rules alone);
    ``evidence`` are spans of the text that spoke for the model's answer; ``thresholds`` give the least
    P(code or higher) per code; ``levels`` are the scheme's codes from the lowest to the highest; ``rules``
    is what ``assess(text)`` said, where the rules were already asked, so that they need not read twice.
    Linear in the length of the text. Raises ValueError where no level is given.
    """
    if not levels:
        raise ValueError("expected the scheme's urgency levels in order, got none; pass at least one code")
    found = rules.triggers if rules is not None else rule_triggers(scan(text))
    triggers = found if tuple(levels) == LEVELS else tuple(_in_scheme(trigger, levels) for trigger in found)
    by_rules = max((levels.index(t.level) for t in triggers), default=0)
    by_model = model_rank(prediction_probs, thresholds, levels) if prediction_probs else 0
    spoken = model_triggers(text, evidence, levels[by_model]) if by_model else ()
    rank = max(by_rules, by_model)
    return UrgencyAnswer(
        level=levels[rank],
        probability=certainty(rank, by_rules, prediction_probs, levels),
        triggers=triggers + spoken,
        transfer=bodies(triggers),
        rule_level=levels[by_rules],
        model_level=levels[by_model] if prediction_probs else "",
    )


def rule_triggers(scanned: Scan) -> tuple[Trigger, ...]:
    """What the rules find, in the order of the text: dangers, persons in need that raise them, hand-overs."""
    found = _found(RULES, scanned)
    found += raised_by_need(scanned, found)
    found += _found(HANDOVERS, scanned)
    return tuple(sorted(found, key=lambda trigger: (trigger.start, trigger.end)))


def _found(rules: Sequence[Rule], scanned: Scan) -> list[Trigger]:
    possible = scanned.possible
    return [trigger for rule in rules if rule.bits & possible for trigger in rule(scanned)]


def raised_by_need(scanned: Scan, found: Sequence[Trigger]) -> list[Trigger]:
    """Vulnerable persons beside a need, each as a trigger one level above that need.

    Dangers from people go up to the highest level, things and circumstances to 紧急; without a need
    nobody is raised.
    """
    needs = [trigger for trigger in found if trigger.kind in _LIFE | _CIRCUMSTANCE] + NEEDS(scanned)
    if not needs:
        return []
    persons = PERSONS(scanned)
    return [raised for person in persons if (raised := _raised(person, needs)) is not None]


def _raised(person: Trigger, needs: Sequence[Trigger]) -> Trigger | None:
    near = [n for n in needs if n.start - _BESIDE <= person.start <= n.end + _BESIDE]
    if not near:
        return None
    ranks = [min(LEVELS.index(n.level) + 1, EXTREME if n.kind in _LIFE else URGENT) for n in near]
    return replace(person, level=LEVELS[max(max(ranks), SOON)])


def _in_scheme(trigger: Trigger, levels: Sequence[str]) -> Trigger:
    """The trigger with the scheme's own code: ranks are spread over the scheme's levels, ends on ends."""
    rank = LEVELS.index(trigger.level)
    return replace(trigger, level=levels[round(rank * (len(levels) - 1) / EXTREME)])


def model_rank(probs: Mapping[str, float], thresholds: Mapping[str, float], levels: Sequence[str]) -> int:
    """The highest level whose P(level or higher) reaches its threshold; 0 where none does."""
    for rank in range(len(levels) - 1, 0, -1):
        if at_least(probs, rank, levels) >= thresholds.get(levels[rank], 0.5):
            return rank
    return 0


def at_least(probs: Mapping[str, float], rank: int, levels: Sequence[str]) -> float:
    """P(level of this rank or higher), within [0, 1]."""
    return min(1.0, max(0.0, float(sum([probs.get(code, 0.0) for code in levels[rank:]]))))


def model_triggers(text: str, evidence: Sequence[tuple[int, int]], level: str) -> tuple[Trigger, ...]:
    """The model's evidence as triggers, spans clipped to the text, empty ones dropped."""
    spans = [(max(0, start), min(len(text), end)) for start, end in evidence]
    return tuple(Trigger("model", s, e, "model", level, text[s:e]) for s, e in sorted(spans) if s < e)


def certainty(rank: int, by_rules: int, probs: Mapping[str, float] | None, levels: Sequence[str]) -> float:
    """For the lowest level its own probability, otherwise that of the level or a higher one.

    A level that the rules raised is stated with at least ``RULE_CERTAINTY``.
    """
    if not probs:
        return RULE_CERTAINTY
    modelled = at_least(probs, rank, levels) if rank else min(1.0, max(0.0, float(probs.get(levels[0], 0.0))))
    return max(modelled, RULE_CERTAINTY) if rank and rank == by_rules else modelled


def bodies(triggers: Sequence[Trigger]) -> tuple[str, ...]:
    """All bodies to hand over to, once each, in order of haste."""
    asked = dict.fromkeys(body for trigger in triggers for body in trigger.bodies)
    return tuple(sorted(asked, key=lambda body: _BODIES.index(body) if body in _BODIES else len(_BODIES)))
