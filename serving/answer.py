"""The recipe of one answer, in the order a person would follow it.

understand   prepare the text and look for what the urgency rules raise (before the model is asked)
respond      assess urgency, find tier and unit, decide, and put it into the words of the API

Both are plain functions without I/O. Spans leave this module as offsets into the text as it was sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from classifier.neighbours import Adjusted, Neighbour, adjust
from classifier.predictor import Prediction, Tokens
from data.appeals import Place
from data.cleaning import Prepared, prepare
from serving.decision import HEAD_NAMES, Decision, Reason, decide
from serving.dispatch import TierChoice, UnitAnswer, find_tier, find_unit
from serving.memory import telling
from serving.messages import (
    Answer,
    Choice,
    DecisionOut,
    HeadAnswer,
    MaskedOut,
    ReasonOut,
    Span,
    TierAnswer,
    TriggerOut,
    UnitAnswerOut,
    UnitChoice,
    UnitOut,
    UrgencyOut,
)
from serving.models import Model
from serving.urgency import LEVELS, Trigger, UrgencyAnswer, assess

__all__ = ["Asked", "Understood", "answer_one", "respond", "understand"]

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


def respond(
    model: Model, understood: Understood, prediction: Prediction, alike: Sequence[Neighbour] = ()
) -> Answer:
    """Assess urgency, find unit and tier, decide; the answer in the API's words.

    `alike` are corrected appeals like this one: they adjust the prediction first.
    """
    adjusted = adjust(prediction, alike) if alike else None
    found = Found(model, understood.prepared, adjusted.prediction if adjusted else prediction)
    settled = _settle(found, understood)
    decision = settled.decision
    if adjusted:
        alone = Found(model, understood.prepared, prediction)
        decision = _decide_again(found, alone, settled, understood, adjusted)
    urgency, unit, tier = settled.urgency, settled.unit, settled.tier
    return Answer(
        id=understood.asked.id,
        received_at=understood.asked.received_at,
        category=found.told("category"),
        appeal_type=found.told("appeal_type"),
        urgency=_urgency(found, urgency),
        tier=_tier(found, tier),
        unit=_unit(found, unit),
        decision=_decision(decision),
        extra={name: told for name in sorted(found.names - KNOWN_HEADS) if (told := found.told(name))},
        masked=[MaskedOut(kind=span.kind, start=span.start, end=span.end) for span in found.prepared.masked],
        memory=telling.told(adjusted, lambda head, code: model.paths[head][code][-1]) if adjusted else [],
        without_memory={head: alone.first(head) for head in adjusted.heads} if adjusted else {},
        model_version=model.version,
        scheme_version=model.scheme.version,
    )


def answer_one(model: Model, asked: Asked) -> Answer:
    """One answer without a server: understand, ask the model, respond."""
    understood = understand(asked, model)
    (prediction,) = model.predict([understood.prepared.text], [understood.tokens])
    return respond(model, understood, prediction)


@dataclass(frozen=True)
class Found:
    """What the model found in a prepared text, head by head; a head the scheme lacks gives nothing."""

    model: Model
    prepared: Prepared
    prediction: Prediction

    @cached_property
    def names(self) -> frozenset[str]:
        """Heads that the model answered."""
        return frozenset(self.prediction.probabilities)

    @cached_property
    def _first(self) -> Mapping[str, Sequence[tuple[str, float]]]:
        return {head: self.prediction.top(head, 1 + ALTERNATIVES) for head in self.names}

    def shares(self, head: str) -> dict[str, float]:
        """Label → probability; empty without the head."""
        return self.prediction.distribution(head) if head in self.names else {}

    def best(self, head: str) -> str:
        """The most probable label's code; "" without the head."""
        return self._first[head][0][0] if head in self.names else ""

    def told(self, head: str) -> HeadAnswer | None:
        """The head's answer in the API's words."""
        if head not in self._told:
            self._told[head] = self._tell(head) if head in self.names else None
        return self._told[head]

    @cached_property
    def _told(self) -> dict[str, HeadAnswer | None]:
        return {}

    def _tell(self, head: str) -> HeadAnswer:
        paths = self.model.paths[head]
        first, *others = (
            {"code": code, "name": paths[code][-1], "path": paths[code], "probability": _share(share)}
            for code, share in self._first[head]
        )
        # One call for the answer and all that hangs on it: made one by one they cost four times as much.
        return HeadAnswer.model_validate({**first, "alternatives": others, "evidence": self.evidence(head)})

    def first(self, head: str) -> Choice:
        """The head's most probable label."""
        (code, share), path = self._first[head][0], self.model.paths[head]
        return Choice(code=code, name=path[code][-1], path=list(path[code]), probability=_share(share))

    def evidence(self, head: str) -> list[Span]:
        """What spoke for the head's answer, in the text as it was sent; the title's part is left out."""
        spans = self.prediction.evidence.get(head, ())
        told = [(*self.prepared.original_span(span.start, span.end), span.weight) for span in spans]
        return [
            Span(start=start, end=end, weight=round(float(weight), 4))
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
    best = {head: found.best(head) for head in sorted(found.names)}
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
        {name: found.shares(name) for name in ("category", "appeal_type")},
        found.model.thresholds,
        asked.received_at,
        text=found.prepared.text,
        declared_type=asked.declared_type,
        calendar=found.model.calendar,
        zone=found.model.zone,
        unsettled=found.prediction.unsettled,
        remembered=remembered,
    )


def _urgency(found: Found, urgency: UrgencyAnswer) -> UrgencyOut:
    triggers = [_trigger(found, trigger) for trigger in urgency.triggers]
    return UrgencyOut(
        level=urgency.level,
        probability=_share(urgency.probability),
        triggers=triggers,
        model=found.told("urgency"),
    )


def _trigger(found: Found, trigger: Trigger) -> TriggerOut:
    start, end = found.prepared.original_span(trigger.start, trigger.end)
    in_title = start < 0
    return TriggerOut(
        kind=trigger.kind,
        name=trigger.name,
        start=None if in_title else start,
        end=None if in_title else end,
        text=found.prepared.text[trigger.start : trigger.end],  # prepared: personal data is masked in it
        source=trigger.source,
        level=trigger.level,
        in_title=in_title,
    )


def _tier(found: Found, tier: TierChoice) -> TierAnswer | None:
    """The tier that fits the unit: the head's words, but for the label and who leads there."""
    told = found.told("tier")
    if told is None or not tier.tier:
        return None
    name = found.model.scheme.tiers[tier.tier].name
    first = Choice(code=told.code, name=told.name, path=told.path, probability=told.probability)
    others = [choice for choice in (first, *told.alternatives) if choice.code != tier.tier]
    return TierAnswer(
        code=tier.tier,
        name=name,
        path=[name],
        probability=_share(tier.probability),
        alternatives=others[:ALTERNATIVES],
        evidence=told.evidence if told.code == tier.tier else [],
        leader=tier.leader,
    )


def _unit(found: Found, unit: UnitAnswer) -> UnitAnswerOut | None:
    if not unit.lead:
        return None
    return UnitAnswerOut(
        lead=_named(found.model, unit.lead),
        co_units=[_named(found.model, code) for code in unit.co_units],
        alternatives=_other_units(found, unit),
        probability=_share(unit.probability),
        source=unit.source,
        evidence=found.evidence("unit") if unit.lead == found.best("unit") else [],
    )


def _other_units(found: Found, unit: UnitAnswer) -> list[UnitChoice]:
    return [
        UnitChoice(code=code, name=_named(found.model, code).name, probability=_share(share))
        for code, share in unit.alternatives
    ]


def _named(model: Model, code: str) -> UnitOut:
    unit = model.scheme.units.get(code)
    return UnitOut(code=code, name=unit.name if unit else code)


def _decision(decision: Decision) -> DecisionOut:
    return DecisionOut(
        action=decision.action,
        reasons=[ReasonOut(code=reason.code, text=reason.text) for reason in decision.reasons],
        respond_by=decision.respond_by,
        resolve_by=decision.resolve_by,
        transfer_to=list(decision.transfer_to),
        at_once=decision.at_once,
    )


def _share(value: float) -> float:
    """A probability as told: four digits, within [0, 1] whatever float32 made of it."""
    return round(value if 0.0 <= value <= 1.0 else min(1.0, max(0.0, value)), 4)
