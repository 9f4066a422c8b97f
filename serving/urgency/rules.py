"""The urgency rules, listed once. To add one, write its patterns and the rule, and list it here."""

from __future__ import annotations

from serving.urgency import circumstances, danger, handover, harm, people
from serving.urgency.finding import Rule

RULES: tuple[Rule, ...] = (
    people.self_harm,
    people.threat,
    people.crime,
    people.domestic_violence,
    people.child_abuse,
    people.trafficking,
    people.missing,
    danger.fire,
    danger.gas,
    danger.electric,
    danger.collapse,
    danger.falling,
    danger.manhole,
    harm.drowning,
    harm.poisoning,
    harm.trapped,
    harm.medical,
    harm.traffic,
    danger.chemical,
    circumstances.mass_action,
    circumstances.outage,
    circumstances.group,
    circumstances.repetition,
    circumstances.deadline,
    circumstances.nuisance,
)

# To whom a matter is handed over; no urgency of their own.
HANDOVERS: tuple[Rule, ...] = (
    handover.discipline,
    handover.court,
    handover.arbitration,
    handover.review,
    handover.petition,
)

# Circumstances that only raise what another rule found.
PERSONS: Rule = circumstances.vulnerable
NEEDS: Rule = circumstances.need
