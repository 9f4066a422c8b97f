"""Danger to life: rescue leads, whatever the table or the model would say.

A highest-level appeal is handed over to 110, 119 and 120 at once; the order that goes with it must be in
hands that rescue too. A unit that the table and the model would have chosen keeps the lead only where it
rescues itself (the gas company at a gas leak); otherwise it goes along as a co-unit, for it knows the place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from data.errors import SchemeError
from data.scheme import Scheme
from serving.urgency import UrgencyAnswer

__all__ = ["Emergency", "Rescue"]

# In the order in which they lead where several are called: who gets people out, who stops people, who heals.
_BODIES: Mapping[str, tuple[str, ...]] = {
    "119": ("xiaofang", "消防救援支队", "消防救援局", "消防救援大队", "消防大队"),
    "110": ("gongan", "公安局", "公安分局", "派出所"),
    "120": ("jijiu", "急救中心", "weijian", "卫生健康委员会", "卫健委", "卫健局", "卫生局"),
}
_ORDER = tuple(_BODIES)
_GAS = ("ranqi", "燃气公司", "燃气集团")
_POWER = ("gongdian", "供电公司", "供电局")
_POLICE_ON_ROADS = ("jiaojing", "交警支队", "交警大队", "交警")
_EMERGENCY_OFFICE = ("yingji", "应急管理局", "应急局")
# Who else rescues, by what the danger is.
_EXPERTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "gas": (_GAS, _EMERGENCY_OFFICE),
    "electric": (_POWER,),
    "traffic": (_POLICE_ON_ROADS,),
    "fire": (_EMERGENCY_OFFICE,),
    "collapse": (_EMERGENCY_OFFICE,),
    "drowning": (_EMERGENCY_OFFICE,),
    "trapped": (_EMERGENCY_OFFICE,),
    "chemical": (_EMERGENCY_OFFICE,),
}


@dataclass(frozen=True)
class Rescue:
    """Units called out, the one that leads first, and units that keep the lead where they have it."""

    units: tuple[str, ...] = ()
    may_lead: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Emergency:
    """A scheme's units (codes) of each emergency number, and of each kind of danger."""

    bodies: Mapping[str, str]
    experts: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, scheme: Scheme) -> Emergency:
        """As far as the scheme has such units: found by code, name or alias."""
        bodies = {body: _unit(scheme, terms) for body, terms in _BODIES.items()}
        experts = {kind: {_unit(scheme, terms) for terms in those} for kind, those in _EXPERTS.items()}
        return cls(
            {body: unit for body, unit in bodies.items() if unit},
            {kind: frozenset(units - {""}) for kind, units in experts.items()},
        )

    def called_out(self, urgency: UrgencyAnswer, top: str, unit_probs: Mapping[str, float]) -> Rescue:
        """Who is called out; nobody below the highest level ``top``.

        Where rules saw the danger, those whom it is handed over to, first those whom the gravest triggers
        call. Where the model alone saw it, the likeliest one by ``unit_probs``.
        """
        if urgency.level != top or not self.bodies:
            return Rescue()
        if urgency.rule_level != top:
            likeliest = max(self.bodies.values(), key=lambda code: unit_probs.get(code, 0.0))
            return Rescue((likeliest,), frozenset(self.bodies.values()).union(*self.experts.values()))
        gravest = [trigger for trigger in urgency.triggers if trigger.level == top]
        first = {body for trigger in gravest for body in trigger.bodies}
        called = sorted(set(self.bodies) & set(urgency.transfer), key=_ORDER.index)
        called.sort(key=lambda body: body not in first)
        units = dict.fromkeys(self.bodies[body] for body in called)
        experts = [self.experts.get(trigger.kind, frozenset()) for trigger in gravest]
        return Rescue(tuple(units), frozenset(units).union(*experts))


def _unit(scheme: Scheme, terms: tuple[str, ...]) -> str:
    for term in terms:
        try:
            units = scheme.leaves("unit", term)
        except SchemeError:  # no such head, no such unit, or several of that name
            continue
        if units:
            return min(units)
    return ""
