"""To whom an appeal goes: the dispatch table joined with the model's unit, and the tier that fits it.

The table is a CSV file that a city's staff can keep in a spreadsheet, one row per rule:

    # version: 2024-1
    category,district,street,tier,unit,co_units,co_from,binding,note
    0801,,,,xiaofang,jiedao;yingji,紧急,,
    0405,滨江区,三桥街道,,jiedao,,,yes,

`category` is a leaf or an inner node, by code or name, `*` or empty for all; `tier` empty for all; `co_units`
are joined from the urgency level `co_from` on (empty: always); `binding` yes = the row decides, whatever the
model says. The most specific row wins: street before district before nowhere; then a leaf before its parents;
then a row with a tier; then the later line. Where no row fits, the scheme's own unit of the category counts.

How table and model are joined: the usual unit (from the table) has its odds doubled, then the most probable
unit leads. `probability` stays the model's own, because the thresholds were calibrated on that.

Where life is in danger the rescue units lead instead (see `serving.emergency`), before a binding row too.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

from data.appeals import Place
from data.errors import SchemeError
from data.scheme import Scheme, Tier
from serving.emergency import Rescue
from serving.errors import StartError

__all__ = [
    "DispatchTableError", "Table", "TableRow", "TierChoice", "UnitAnswer", "find_tier", "find_unit",
    "load_table", "parse_table",
]  # fmt: skip

DEFAULT_TABLE = Path(__file__).parent / "tables" / "dispatch.default.csv"
COLUMNS = ("category", "district", "street", "tier", "unit", "co_units", "co_from", "binding", "note")
USUAL_ODDS = 2.0  # the usual unit's odds are multiplied by this; a choice, small beside a sure model
ALTERNATIVES = 4

# One level up from an accused unit, by the tier it stands on; used as far as the scheme has the unit.
_UPWARD: Mapping[str, str] = {
    "小区": "jiedao",
    "社区": "jiedao",
    "街道": "quzf",
    "区": "jijian",
    "市": "jijian",
}
_GRASSROOTS = 2  # up to 街道 a unit acts on its own tier only; departments may act through lower ones


Source = Literal["table", "model", "both", "upward", "emergency"]


class DispatchTableError(StartError):
    """A dispatch table is not valid; the message lists every wrong line."""

    code = "dispatch_table"


@dataclass(frozen=True)
class TableRow:
    """One row of the table, in codes of the scheme; empty strings fit everything."""

    category: str
    unit: str
    district: str = ""
    street: str = ""
    tier: str = ""
    co_units: tuple[str, ...] = ()
    co_from: str = ""
    binding: bool = False
    line: int = 0


@dataclass(frozen=True)
class Table:
    """A checked dispatch table. `sha256` is that of the file's text."""

    version: str
    sha256: str
    rows: tuple[TableRow, ...]

    @cached_property
    def by_category(self) -> Mapping[str, Sequence[TableRow]]:
        """Rows by the category they name ("" those for all): a city's table may have thousands."""
        rows: defaultdict[str, list[TableRow]] = defaultdict(list)
        for row in self.rows:
            rows[row.category].append(row)
        return dict(rows)


@dataclass(frozen=True)
class UnitAnswer:
    """Lead unit and its company, in codes; `lead` is "" where neither table nor model names one.

    `alternatives` are further units with the model's probabilities, best first; `probability` is the model's
    for the lead; `usual` is what the table says; `accused` are units that the text reports:
    they get no order. `source` "upward": one level above an accused unit; "emergency": life is in danger.
    """

    lead: str
    co_units: tuple[str, ...] = ()
    alternatives: tuple[tuple[str, float], ...] = ()
    source: Source = "table"
    probability: float = 0.0
    usual: str = ""
    accused: tuple[str, ...] = ()


@dataclass(frozen=True)
class TierChoice:
    """The tier that should act first (code), and who leads there."""

    tier: str
    leader: str
    probability: float = 0.0


def load_table(scheme: Scheme, path: Path | None = None) -> Table:
    """Read a table (None: the shipped one). Raises DispatchTableError with every wrong line.

    Rows of the shipped table whose labels the scheme lacks are left out: a city's scheme need not know them.
    """
    file = path or DEFAULT_TABLE
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise DispatchTableError(f"cannot read the dispatch table {file}: {error.strerror}") from error
    return parse_table(scheme, _decoded(raw, file), str(file), strict=path is not None)


def _decoded(raw: bytes, file: Path) -> str:
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise DispatchTableError(f"{file}: expected UTF-8 or GB18030 text; save the table as CSV (UTF-8)")


def parse_table(scheme: Scheme, text: str, file: str = "table", *, strict: bool = True) -> Table:
    """A table from CSV text. Raises DispatchTableError; not strict leaves wrong rows out instead."""
    lines = text.splitlines()
    found = re.match(r"#\s*version:\s*(\S+)", lines[0]) if lines else None
    problems = (
        []
        if found
        else [f"{file}:1: expected '# version: NAME', got {lines[0][:40]!r}" if lines else f"{file}: empty"]
    )
    rows, wrong = _rows(scheme, lines)
    problems += [f"{file}:{problem}" for problem in wrong if strict or "column" in problem]
    if problems:
        raise DispatchTableError(
            "the dispatch table is not valid:\n" + "\n".join(f"  {one}" for one in problems)
        )
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Table(found[1] if found else "", digest, tuple(rows))


def _rows(scheme: Scheme, lines: list[str]) -> tuple[list[TableRow], list[str]]:
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not numbered:
        return [], ["1: expected a line of column names, got none: " + ",".join(COLUMNS)]
    header = tuple(cell.strip() for cell in next(csv.reader([numbered[0][1]])))
    if strange := sorted(set(header) - set(COLUMNS)) + sorted({"category", "unit"} - set(header)):
        return [], [
            f"{numbered[0][0]}: unknown or missing column {', '.join(strange)}; expected {','.join(COLUMNS)}"
        ]
    rows: list[TableRow] = []
    problems: list[str] = []
    for number, line in numbered[1:]:
        cells = [cell.strip() for cell in next(csv.reader([line]))]
        row, wrong = _row(scheme, number, dict(zip(header, cells, strict=False)))
        problems += [f"{number}: {one}" for one in wrong]
        if not wrong:
            rows.append(row)
    return rows, problems


def _row(scheme: Scheme, line: int, cells: Mapping[str, str]) -> tuple[TableRow, list[str]]:
    problems: list[str] = []

    def code(head: str, term: str) -> str:
        return _code(scheme, head, term, problems)

    category = cells.get("category", "")
    binding = cells.get("binding", "").lower()
    if binding not in {"", "yes", "no", "是", "否"}:
        problems.append(f"binding: expected yes or no, got '{binding}'")
    if not cells.get("unit"):
        problems.append("unit: expected a unit of the scheme, got nothing")
    if cells.get("street") and not cells.get("district"):
        problems.append(f"district: expected the district of street '{cells['street']}', got nothing")
    row = TableRow(
        category="" if category in {"", "*"} else code("category", category),
        unit=code("unit", cells.get("unit", "")),
        district=cells.get("district", ""),
        street=cells.get("street", ""),
        tier=code("tier", cells.get("tier", "")),
        co_units=tuple(
            code("unit", term) for term in re.split(r"[;；、]", cells.get("co_units", "")) if term.strip()
        ),
        co_from=code("urgency", cells.get("co_from", "")),
        binding=binding in {"yes", "是"},
        line=line,
    )
    return row, problems


def _code(scheme: Scheme, head: str, term: str, problems: list[str]) -> str:
    if not term:
        return ""
    try:
        return scheme.label(head, term).code
    except SchemeError:
        problems.append(f"{head}: expected a code or name of scheme {scheme.name}, got '{term}'")
        return ""


def find_row(scheme: Scheme, table: Table, category: str, place: Place, tier: str) -> TableRow:
    """The most specific row; a row made from the scheme's own category where the table has none."""
    known = category in scheme.categories
    codes = scheme.path_codes(category) if known else ()
    named = (row for code in ("", *codes) for row in table.by_category.get(code, ()))
    fitting = [row for row in named if _fits(row, place, tier)]
    if fitting:
        return max(fitting, key=lambda row: _specific(row, codes))
    return TableRow(category, _live(scheme, scheme.categories[category].unit) if known else "")


def _live(scheme: Scheme, unit: str) -> str:
    """The unit, or the one that took over from it; "" where it is retired without a successor."""
    if not unit or unit not in scheme.units:
        return ""
    return min(scheme.leaves("unit", unit), default="")


def _fits(row: TableRow, place: Place, tier: str) -> bool:
    return (
        row.district in ("", place.district) and row.street in ("", place.street) and row.tier in ("", tier)
    )


def _specific(row: TableRow, codes: tuple[str, ...]) -> tuple[int, int, int, int]:
    depth = codes.index(row.category) + 1 if row.category else 0
    return bool(row.street) + bool(row.district), depth, bool(row.tier), row.line


def find_unit(
    scheme: Scheme,
    table: Table,
    category: str,
    place: Place = Place(),  # noqa: B008 - frozen
    tier: str = "",
    unit_probs: Mapping[str, float] | None = None,
    *,
    accused: Collection[str] = (),
    urgency: str = "",
    rescue: Rescue = Rescue(),  # noqa: B008 - frozen
) -> UnitAnswer:
    """Lead unit and co-units for a category (leaf code), a place and a tier, joined with the model's unit.

    `unit_probs` maps unit codes to the model's probabilities; `accused` (see `serving.accused`) never get the
    order; `urgency` is the level by which a row's co-units are called in; `rescue` says who leads
    and who goes along because life is in danger (see `serving.emergency`).
    """
    row = find_row(scheme, table, category, place, tier)
    probs = unit_probs or {}
    lead, source = _joined(row, probs)
    if lead in accused:
        lead, source = _upward(scheme, lead, accused, probs), "upward"
    company = _company(scheme, row, urgency) if source != "upward" else ()
    if free := [code for code in rescue.units if code not in accused]:
        company = (lead, *free, *company)
        if lead not in rescue.may_lead:
            lead, source = free[0], "emergency"
    return UnitAnswer(
        lead=lead,
        co_units=tuple(
            code for code in dict.fromkeys(company) if code and code != lead and code not in accused
        ),
        alternatives=_others(lead, row.unit, probs, accused),
        source=source,
        probability=min(1.0, max(0.0, probs.get(lead, 0.0))),
        usual=row.unit,
        accused=tuple(sorted(accused)),
    )


def _joined(row: TableRow, probs: Mapping[str, float]) -> tuple[str, Source]:
    if row.unit and (row.binding or not probs):
        return row.unit, "table"
    if not probs:
        return "", "table"
    top = max(probs, key=probs.__getitem__)
    if top == row.unit:
        return top, "both"
    usual = _odds(probs.get(row.unit, 0.0)) * USUAL_ODDS
    return (row.unit, "table") if usual > _odds(probs[top]) else (top, "model")


def _odds(probability: float) -> float:
    return probability / max(1e-9, 1.0 - probability)


def _company(scheme: Scheme, row: TableRow, urgency: str) -> tuple[str, ...]:
    levels = scheme.urgency_levels
    if row.co_from and (urgency not in levels or levels[urgency].rank < levels[row.co_from].rank):
        return ()
    return row.co_units


def _others(
    lead: str, usual: str, probs: Mapping[str, float], accused: Collection[str]
) -> tuple[tuple[str, float], ...]:
    ranked = sorted(probs, key=probs.__getitem__, reverse=True)
    if usual and usual not in ranked[: ALTERNATIVES + 1]:
        ranked.insert(0, usual)
    free = (code for code in ranked if code != lead and code not in accused)
    return tuple((code, probs.get(code, 0.0)) for code in islice(free, ALTERNATIVES))


def _upward(scheme: Scheme, unit: str, accused: Collection[str], probs: Mapping[str, float]) -> str:
    """One level up from an accused unit: the named one, else the likeliest on a higher tier, else none."""
    ranks = {code: tier.rank for code, tier in scheme.tiers.items()}
    tier = scheme.units[unit].tier if unit in scheme.units else ""
    named = _UPWARD.get(tier, "jijian")
    if named in scheme.units and named not in accused:
        return named
    own = ranks.get(tier, -1)
    higher = [each.code for each in scheme.units.values() if each.active and ranks.get(each.tier, -1) > own]
    return max((c for c in higher if c not in accused), key=lambda c: probs.get(c, 0.0), default="")


def find_tier(
    scheme: Scheme, unit: str, tier_probs: Mapping[str, float] | None = None, category: str = ""
) -> TierChoice:
    """The tier that should act first, consistent with the lead unit, and its leader's role.

    Never above the unit's own tier; a unit of 小区, 社区 or 街道 acts on its own. Without a model the
    category's usual tier counts, as far as it is consistent.
    """
    probs = dict(tier_probs or {})
    if not probs and category in scheme.categories and (usual := scheme.categories[category].tier):
        probs = {usual: 1.0}
    allowed = _tiers_of(scheme, unit)
    best = max(allowed, key=lambda tier: (probs.get(tier.code, 0.0), tier.rank), default=None)
    if best is None:
        return TierChoice("", "")
    return TierChoice(best.code, best.leader, float(probs.get(best.code, 0.0)) if tier_probs else 0.0)


def _tiers_of(scheme: Scheme, unit: str) -> list[Tier]:
    tiers = [tier for tier in scheme.tiers.values() if tier.active]
    own = scheme.tiers.get(scheme.units[unit].tier) if unit in scheme.units else None
    if own is None:
        return tiers
    if own.rank <= _GRASSROOTS:
        return [own]
    return [tier for tier in tiers if tier.rank <= own.rank]
