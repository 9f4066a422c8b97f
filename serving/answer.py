"""The recipe of one answer, in the order a person would follow it.

understand   prepare the text and look for what the urgency rules raise (before the model is asked)
tell         assess urgency, find tier and unit, decide, and put it into the words of the API

Both are plain functions without I/O. Spans leave this module as offsets into the text as it was sent.

An answer is some forty messages one in another, put together as plain values (``Told``) that become JSON as
they are. That they are an ``Answer`` is checked where a model is loaded (``respond``) and by the tests, not
for every appeal: to validate one costs more than to find it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from classifier.neighbours import Adjusted, Neighbour, adjust
from classifier.predictor import Prediction, Tokens
from data.appeals import Place
from data.cleaning import Prepared, prepare
from serving.decision import HEAD_NAMES, Decision, Reason, decide
from serving.dispatch import TierChoice, UnitAnswer, find_tier, find_unit
from serving.memory import telling
from serving.messages import Answer, Told
from serving.models import Model
from serving.urgency import LEVELS, Trigger, UrgencyAnswer, assess

__all__ = ["Asked", "Understood", "answer_one", "respond", "tell", "understand"]

URGENT_RANK = 2  # 紧急: rules call half of all nuisance 较急, a lane for that would be no lane
ALTERNATIVES = 4  # further labels told beside the first one
KNOWN_HEADS = frozenset({"category", "appeal_type", "urgency", "tier", "unit"})  # the rest goes to `extra`


@dataclass(frozen=True)
class Asked:
    """One appeal as it was asked about; `received_at` carries its zone."""

    text: str
    received_at: datetime
    title: str = ""
    place: Place = field(default_factory=Place)
    declared_type: str = ""
    id: str | None = None


@dataclass(frozen=True)
class Understood:
    """An appeal, prepared: what the rules say, and the text as the model's encoder sees it.

    The rules are read once and serve both the queue and the answer; so is the text tokenised.
    """

    asked: Asked
    prepared: Prepared
    rules: UrgencyAnswer
    tokens: Tokens | None = None

    @property
    def urgent(self) -> bool:
        """Whether a rule raised it: then it goes before the others."""
        return LEVELS.index(self.rules.level) >= URGENT_RANK or bool(self.rules.transfer)


def understand(asked: Asked, model: Model | None = None) -> Understood:
    """Prepare the text, read the urgency rules, tokenise it for the model; linear in the text's length."""
    prepared = prepare(asked.text, asked.title)
    tokens = model.predictor.tokenise(prepared.text) if model else None
    return Understood(asked, prepared, assess(prepared.text), tokens)


def tell(
    model: Model, understood: Understood, prediction: Prediction, alike: Sequence[Neighbour] = ()
) -> Told:
    """Assess urgency, find unit and tier, decide; the answer in the API's words (Answer).

    `alike` are corrected appeals like this one: they adjust the prediction first.
    """
    adjusted = adjust(prediction, alike) if alike else None
    found = Found.of(model, understood.prepared, adjusted.prediction if adjusted else prediction)
    settled = _settle(found, understood)
    told = _told(found, settled, understood.asked)
    if adjusted:
        alone = Found.of(model, understood.prepared, prediction)
        decision = _decide_again(found, alone, settled, understood, adjusted)
        told["decision"] = _decision(decision)
        told["memory"] = telling.told(adjusted, lambda head, code: model.paths[head][code][-1])
        told["without_memory"] = {head: alone.first(head) for head in adjusted.heads}
    return told


def respond(
    model: Model, understood: Understood, prediction: Prediction, alike: Sequence[Neighbour] = ()
) -> Answer:
    """What ``tell`` tells, validated. Raises pydantic's ValidationError where it is no Answer."""
    return Answer.model_validate(tell(model, understood, prediction, alike))


def answer_one(model: Model, asked: Asked) -> Answer:
    """One answer without a server: understand, ask the model, respond."""
    understood = understand(asked, model)
    (prediction,) = model.predict([understood.prepared.text], [understood.tokens])
    return respond(model, understood, prediction)


@dataclass(frozen=True)
class Found:
    """What the model found in a prepared text, head by head; a head the scheme lacks gives nothing.

    ``ranked[head]`` are the head's likeliest labels with their probabilities, best first.
    """

    model: Model
    prepared: Prepared
    prediction: Prediction
    ranked: Mapping[str, Sequence[tuple[str, float]]]

    @classmethod
    def of(cls, model: Model, prepared: Prepared, prediction: Prediction) -> Found:
        """What a prediction says of the prepared text."""
        ranked = {head: prediction.top(head, 1 + ALTERNATIVES) for head in prediction.probabilities}
        return cls(model, prepared, prediction, ranked)

    def shares(self, head: str) -> dict[str, float]:
        """Label → probability; empty without the head."""
        return self.prediction.distribution(head) if head in self.ranked else {}

    def best(self, head: str) -> str:
        """The most probable label's code; "" without the head."""
        return self.ranked[head][0][0] if head in self.ranked else ""

    def told(self, head: str) -> Told | None:
        """The head's answer (HeadAnswer)."""
        if head not in self.ranked:
            return None
        first, *others = self.choices(head)
        return {**first, "alternatives": others, "evidence": self.evidence(head)}

    def choices(self, head: str) -> list[Told]:
        """The head's likeliest labels (Choice), best first."""
        paths = self.model.paths[head]
        return [
            {"code": code, "name": paths[code][-1], "path": paths[code], "probability": _share(share)}
            for code, share in self.ranked[head]
        ]

    def first(self, head: str) -> Told:
        """The head's most probable label (Choice)."""
        return self.choices(head)[0]

    def evidence(self, head: str) -> list[Told]:
        """What spoke for the head's answer (Span), in the text as it was sent, without the title's part."""
        spans = self.prediction.evidence.get(head, ())
        told = [(*self.prepared.original_span(span.start, span.end), span.weight) for span in spans]
        return [
            {"start": start, "end": end, "weight": round(float(weight), 4)}
            for start, end, weight in sorted(told)
            if start >= 0
        ]


@dataclass(frozen=True)
class Settled:
    """What follows from a prediction."""

    urgency: UrgencyAnswer
    unit: UnitAnswer
    tier: TierChoice
    decision: Decision


def _settle(found: Found, understood: Understood) -> Settled:
    urgency = _assess(found, understood.rules)
    unit = _find_unit(found, understood.asked, urgency)
    tier = find_tier(found.model.scheme, unit.lead, found.shares("tier"), found.best("category"))
    return Settled(urgency, unit, tier, _decide(found, understood.asked, urgency, unit))


def _decide_again(
    found: Found, alone: Found, settled: Settled, understood: Understood, adjusted: Adjusted
) -> Decision:
    """The decision, seen against what the model alone would have done."""
    without = _settle(alone, understood)
    before, after = _answers(alone, without), _answers(found, settled)
    changed = [_title(found.model, head) for head in after if after[head] != before[head]]
    doubts = telling.doubts(adjusted, changed, without.decision.action, settled.decision.action)
    if not doubts:
        return settled.decision
    return _decide(found, understood.asked, settled.urgency, settled.unit, doubts)


def _answers(found: Found, settled: Settled) -> dict[str, str]:
    """head → the code that is answered: rules, table and fitting counted in."""
    best = {head: found.best(head) for head in sorted(found.ranked)}
    told = {"urgency": settled.urgency.level, "tier": settled.tier.tier, "unit": settled.unit.lead}
    return best | {head: code for head, code in told.items() if head in best}


def _title(model: Model, head: str) -> str:
    return HEAD_NAMES.get(head) or model.scheme.heads[head].title or head


def _assess(found: Found, rules: UrgencyAnswer) -> UrgencyAnswer:
    """Rules and model; without an urgency head the rules alone, on the default levels."""
    head = found.model.predictor.heads.get("urgency")
    if head is None:
        return rules
    return assess(
        found.prepared.text,
        found.shares("urgency"),
        evidence=[(span.start, span.end) for span in found.prediction.evidence.get("urgency", ())],
        thresholds=found.model.urgency_cuts,
        levels=head.codes,
        rules=rules,
    )


def _find_unit(found: Found, asked: Asked, urgency: UrgencyAnswer) -> UnitAnswer:
    model, probs = found.model, found.shares("unit")
    return find_unit(
        model.scheme,
        model.table,
        found.best("category"),
        asked.place,
        found.best("tier"),
        probs,
        accused=model.spoken.accused(found.prepared.text),
        urgency=urgency.level,
        rescue=model.emergency.called_out(urgency, model.top_level, probs),
    )


def _decide(
    found: Found,
    asked: Asked,
    urgency: UrgencyAnswer,
    unit: UnitAnswer,
    remembered: tuple[Reason, ...] = (),
) -> Decision:
    return decide(
        found.model.scheme,
        urgency,
        unit,
        {name: dict(found.ranked.get(name, ())) for name in ("category", "appeal_type")},
        found.model.thresholds,
        asked.received_at,
        text=found.prepared.text,
        declared_type=asked.declared_type,
        calendar=found.model.calendar,
        zone=found.model.zone,
        unsettled=found.prediction.unsettled,
        remembered=remembered,
    )


def _told(found: Found, settled: Settled, asked: Asked) -> Told:
    """All that an answer tells, but for what look-alikes changed (Answer)."""
    model = found.model
    return {
        "id": asked.id,
        "received_at": asked.received_at,
        "category": found.told("category"),
        "appeal_type": found.told("appeal_type"),
        "urgency": _urgency(found, settled.urgency),
        "tier": _tier(found, settled.tier),
        "unit": _unit(found, settled.unit),
        "decision": _decision(settled.decision),
        "extra": {head: found.told(head) for head in sorted(found.ranked.keys() - KNOWN_HEADS)},
        "masked": [
            {"kind": span.kind, "start": span.start, "end": span.end} for span in found.prepared.masked
        ],
        "memory": [],
        "without_memory": {},
        "model_version": model.version,
        "scheme_version": model.scheme.version,
    }


def _urgency(found: Found, urgency: UrgencyAnswer) -> Told:
    """How urgent, and why (UrgencyOut)."""
    return {
        "level": urgency.level,
        "probability": _share(urgency.probability),
        "triggers": [_trigger(found, trigger) for trigger in urgency.triggers],
        "model": found.told("urgency"),
    }


def _trigger(found: Found, trigger: Trigger) -> Told:
    """What raised the urgency (TriggerOut)."""
    start, end = found.prepared.original_span(trigger.start, trigger.end)
    in_title = start < 0
    return {
        "kind": trigger.kind,
        "name": trigger.name,
        "start": None if in_title else start,
        "end": None if in_title else end,
        "text": found.prepared.text[trigger.start : trigger.end],  # personal data is masked in it
        "source": trigger.source,
        "level": trigger.level,
        "in_title": in_title,
    }


def _tier(found: Found, tier: TierChoice) -> Told | None:
    """The tier that fits the unit (TierAnswer): the head's words, but for the label and who leads there."""
    if "tier" not in found.ranked or not tier.tier:
        return None
    name = found.model.scheme.tiers[tier.tier].name
    others = [choice for choice in found.choices("tier") if choice["code"] != tier.tier]
    return {
        "code": tier.tier,
        "name": name,
        "path": [name],
        "probability": _share(tier.probability),
        "alternatives": others[:ALTERNATIVES],
        "evidence": found.evidence("tier") if found.best("tier") == tier.tier else [],
        "leader": tier.leader,
    }


def _unit(found: Found, unit: UnitAnswer) -> Told | None:
    """Who gets the order (UnitAnswerOut)."""
    if not unit.lead:
        return None
    return {
        "lead": _named(found.model, unit.lead),
        "co_units": [_named(found.model, code) for code in unit.co_units],
        "alternatives": [
            {**_named(found.model, code), "probability": _share(share)} for code, share in unit.alternatives
        ],
        "probability": _share(unit.probability),
        "source": unit.source,
        "evidence": found.evidence("unit") if unit.lead == found.best("unit") else [],
    }


def _named(model: Model, code: str) -> Told:
    """A unit by code and name (UnitOut)."""
    unit = model.scheme.units.get(code)
    return {"code": code, "name": unit.name if unit else code}


def _decision(decision: Decision) -> Told:
    """What happens next (DecisionOut)."""
    return {
        "action": decision.action,
        "reasons": [{"code": reason.code, "text": reason.text} for reason in decision.reasons],
        "respond_by": decision.respond_by,
        "resolve_by": decision.resolve_by,
        "transfer_to": decision.transfer_to,
        "at_once": decision.at_once,
    }


def _share(value: float) -> float:
    """A probability as told: four digits, within [0, 1] whatever float32 made of it."""
    return round(value if 0.0 <= value <= 1.0 else min(1.0, max(0.0, value)), 4)
