"""The recipe of one answer, in the order a person would follow it.

understand   prepare the text and look for what the urgency rules raise (before the model is asked)
respond      assess urgency, find tier and unit, decide, and put it into the words of the API

Both are plain functions without I/O. Spans leave this module as offsets into the text as it was sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

from classifier.predictor import Prediction
from data.appeals import Place
from data.cleaning import Prepared, prepare
from serving.decision import Decision, decide
from serving.dispatch import TierChoice, UnitAnswer, accused_units, find_tier, find_unit
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
from serving.urgency import DEFAULT_THRESHOLDS, LEVELS, Trigger, UrgencyAnswer, assess

__all__ = ["Asked", "Understood", "respond", "understand"]

URGENT_RANK = 2  # 紧急: rules call half of all nuisance 较急, a lane for that would be no lane
NO_NUMBER = re.compile(r"[\d一二两三四五六七八九十百千万几数好多上半]{13,}")
BLANK = "□"
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
    """An appeal, prepared; `urgent` when a rule raised it: it goes before the others."""

    asked: Asked
    prepared: Prepared
    urgent: bool


def understand(asked: Asked) -> Understood:
    """Prepare the text and read the urgency rules; linear in the text's length."""
    prepared = prepare(asked.text, asked.title)
    by_rules = assess(readable(prepared.text))
    urgent = LEVELS.index(by_rules.level) >= URGENT_RANK or bool(by_rules.transfer)
    return Understood(asked, prepared, urgent)


def readable(text: str) -> str:
    """The text for the rules, of equal length: runs of numerals that are no number are blanked.

    The rules' patterns for counts (几百户, 第三次) take time cubic in the length of such a run: without
    this, one text of 4,000 digits holds a processor for minutes.
    """
    return NO_NUMBER.sub(lambda run: BLANK * len(run.group()), text)


def respond(model: Model, understood: Understood, prediction: Prediction) -> Answer:
    """Assess urgency, find unit and tier, decide; the answer in the API's words."""
    found = Found(model, understood.prepared, prediction)
    urgency = _assess(found)
    unit = _find_unit(found, understood.asked, urgency)
    tier = find_tier(model.scheme, unit.lead, found.shares("tier"), found.best("category"))
    decision = _decide(found, understood.asked, urgency, unit)
    return Answer.model_construct(
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
        model_version=model.version,
        scheme_version=model.scheme.version,
    )


def answer_one(model: Model, asked: Asked) -> Answer:
    """One answer without a server: understand, ask the model, respond."""
    understood = understand(asked)
    (prediction,) = model.predict([understood.prepared.text])
    return respond(model, understood, prediction)


@dataclass(frozen=True)
class Found:
    """What the model found in a prepared text, head by head; a head the scheme lacks gives nothing."""

    model: Model
    prepared: Prepared
    prediction: Prediction

    @property
    def names(self) -> frozenset[str]:
        """Heads that the model answered."""
        return frozenset(self.prediction.probabilities)

    def shares(self, head: str) -> dict[str, float]:
        """Label → probability; empty without the head."""
        return self.prediction.distribution(head) if head in self.names else {}

    def best(self, head: str) -> str:
        """The most probable label's code; "" without the head."""
        return self.prediction.top(head, 1)[0][0] if head in self.names else ""

    def choices(self, head: str, number: int) -> list[Choice]:
        """The most probable labels with their names."""
        return [self._choice(head, code, share) for code, share in self.prediction.top(head, number)]

    def told(self, head: str) -> HeadAnswer | None:
        """The head's answer in the API's words."""
        if head not in self.names:
            return None
        first, *others = self.choices(head, 1 + ALTERNATIVES)
        return HeadAnswer.model_construct(**dict(first), alternatives=others, evidence=self.evidence(head))

    def evidence(self, head: str) -> list[Span]:
        """What spoke for the head's answer, in the text as it was sent; the title's part is left out."""
        spans = self.prediction.evidence.get(head, ())
        told = [(*self.prepared.original_span(span.start, span.end), span.weight) for span in spans]
        return [
            Span.model_construct(start=start, end=end, weight=round(float(weight), 4))
            for start, end, weight in sorted(told)
            if start >= 0
        ]

    def _choice(self, head: str, code: str, share: float) -> Choice:
        path = self.model.paths[head][code]
        return Choice.model_construct(code=code, name=path[-1], path=list(path), probability=_share(share))


def _assess(found: Found) -> UrgencyAnswer:
    """Rules and model; without an urgency head the rules alone, on the default levels."""
    text, head = readable(found.prepared.text), found.model.predictor.heads.get("urgency")
    if head is None:
        return assess(text)
    spoke = [(span.start, span.end) for span in found.prediction.evidence.get("urgency", ())]
    cuts = {**DEFAULT_THRESHOLDS, **found.model.urgency_cuts}
    return assess(text, found.shares("urgency"), evidence=spoke, thresholds=cuts, levels=head.codes)


def _find_unit(found: Found, asked: Asked, urgency: UrgencyAnswer) -> UnitAnswer:
    scheme = found.model.scheme
    return find_unit(
        scheme,
        found.model.table,
        found.best("category"),
        asked.place,
        found.best("tier"),
        found.shares("unit"),
        accused=accused_units(scheme, found.prepared.text),
        urgency=urgency.level,
    )


def _decide(found: Found, asked: Asked, urgency: UrgencyAnswer, unit: UnitAnswer) -> Decision:
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
    )


def _urgency(found: Found, urgency: UrgencyAnswer) -> UrgencyOut:
    triggers = [_trigger(found, trigger) for trigger in urgency.triggers]
    return UrgencyOut.model_construct(
        level=urgency.level,
        probability=_share(urgency.probability),
        triggers=triggers,
        model=found.told("urgency"),
    )


def _trigger(found: Found, trigger: Trigger) -> TriggerOut:
    start, end = found.prepared.original_span(trigger.start, trigger.end)
    in_title = start < 0
    return TriggerOut.model_construct(
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
    others = [choice for choice in found.choices("tier", 1 + ALTERNATIVES) if choice.code != tier.tier]
    return TierAnswer.model_construct(
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
    return UnitAnswerOut.model_construct(
        lead=_named(found.model, unit.lead),
        co_units=[_named(found.model, code) for code in unit.co_units],
        alternatives=_other_units(found, unit),
        probability=_share(unit.probability),
        source=unit.source,
        evidence=found.evidence("unit") if unit.lead == found.best("unit") else [],
    )


def _other_units(found: Found, unit: UnitAnswer) -> list[UnitChoice]:
    return [
        UnitChoice.model_construct(**dict(_named(found.model, code)), probability=_share(share))
        for code, share in unit.alternatives
    ]


def _named(model: Model, code: str) -> UnitOut:
    unit = model.scheme.units.get(code)
    return UnitOut.model_construct(code=code, name=unit.name if unit else code)


def _decision(decision: Decision) -> DecisionOut:
    return DecisionOut.model_construct(
        action=decision.action,
        reasons=[ReasonOut(code=reason.code, text=reason.text) for reason in decision.reasons],
        respond_by=decision.respond_by,
        resolve_by=decision.resolve_by,
        transfer_to=list(decision.transfer_to),
        at_once=decision.at_once,
    )


def _share(value: float) -> float:
    """A probability as told: four digits, within [0, 1] whatever float32 made of it."""
    return round(min(1.0, max(0.0, float(value))), 4)
