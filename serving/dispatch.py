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
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from data.appeals import Place
from data.errors import SchemeError
from data.scheme import Scheme, Tier
from serving.errors import StartError

__all__ = [
    "DispatchTableError", "Table", "TableRow", "TierChoice", "UnitAnswer", "accused_units", "find_tier",
    "find_unit", "load_table", "parse_table",
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


@dataclass(frozen=True)
class UnitAnswer:
    """Lead unit and its company, in codes; `lead` is "" where neither table nor model names one.

    `alternatives` are further units with the model's probabilities, best first; `probability` is the model's
    for the lead; `usual` is what the table says; `accused` are units that the text reports:
    they get no order.
    """

    lead: str
    co_units: tuple[str, ...] = ()
    alternatives: tuple[tuple[str, float], ...] = ()
    source: Literal["table", "model", "both", "upward"] = "table"
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
    fitting = [row for row in table.rows if _fits(row, codes, place, tier)]
    if fitting:
        return max(fitting, key=lambda row: _specific(row, codes))
    return TableRow(category, _live(scheme, scheme.categories[category].unit) if known else "")


def _live(scheme: Scheme, unit: str) -> str:
    """The unit, or the one that took over from it; "" where it is retired without a successor."""
    if not unit or unit not in scheme.units:
        return ""
    return min(scheme.leaves("unit", unit), default="")


def _fits(row: TableRow, codes: Collection[str], place: Place, tier: str) -> bool:
    return (
        (not row.category or row.category in codes)
        and row.district in {"", place.district}
        and row.street in {"", place.street}
        and row.tier in {"", tier}
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
) -> UnitAnswer:
    """Lead unit and co-units for a category (leaf code), a place and a tier, joined with the model's unit.

    `unit_probs` maps unit codes to the model's probabilities; `accused` (see `accused_units`) never get the
    order; `urgency` is the level by which a row's co-units are called in.
    """
    row = find_row(scheme, table, category, place, tier)
    probs = {code: float(p) for code, p in (unit_probs or {}).items()}
    lead, source = _joined(row, probs)
    if lead in accused:
        lead, source = _upward(scheme, lead, accused, probs), "upward"
    company = _company(scheme, row, urgency) if source != "upward" else ()
    return UnitAnswer(
        lead=lead,
        co_units=tuple(code for code in company if code != lead and code not in accused),
        alternatives=_others(lead, row.unit, probs, accused),
        source=source,
        probability=min(1.0, max(0.0, probs.get(lead, 0.0))),
        usual=row.unit,
        accused=tuple(sorted(accused)),
    )


def _joined(
    row: TableRow, probs: Mapping[str, float]
) -> tuple[str, Literal["table", "model", "both", "upward"]]:
    if row.unit and (row.binding or not probs):
        return row.unit, "table"
    if not probs:
        return "", "table"
    top = max(probs, key=lambda code: probs[code])
    lead = max(probs, key=lambda code: _odds(probs[code]) * (USUAL_ODDS if code == row.unit else 1.0))
    if lead == row.unit:
        return lead, "both" if lead == top else "table"
    return lead, "model"


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
    ranked = sorted(probs, key=lambda code: -probs[code])
    if usual and usual not in ranked[: ALTERNATIVES + 1]:
        ranked.insert(0, usual)
    free = [code for code in ranked if code != lead and code not in accused]
    return tuple((code, probs.get(code, 0.0)) for code in free[:ALTERNATIVES])


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


# 举报 names its object; 投诉 and 反映 accuse a unit only where its people or its conduct are meant.
_REPORTED = r"(?:举报|检举|控告|状告|揭发|告发)"
_COMPLAINED = r"(?:投诉|反映|举报)"
_CONDUCT = (
    r"(?:(?:的|里|内|有)?(?:某|个别|一名|一个|部分)?(?:工作人员|办事人员|办事员|窗口人员|执法人员|执法队员"
    r"|队员|协管员|民警|警察|干部|领导|书记|主任|局长|所长|科长|处长|经办人|人员)"
    r"|(?:懒政|怠政|乱?不作为|乱作为|推诿|推脱|踢皮球|失职|渎职|包庇|袒护|违规执法|暴力执法|违法行政|粗暴"
    r"|态度|刁难|吃拿卡要|收(?:钱|红包|好处)|索要|乱收费|乱罚款|打人|不公|造假|徇私))"
)
_MISCONDUCT = r"(?:懒政|怠政|不作为|乱作为|失职|渎职|包庇|暴力执法|吃拿卡要|索要|收红包|徇私)"
_TO = r"(?:向|到|给|跟|找|去|通过|经|由|请|让|希望|要求)[^，。,]{0,4}$"


def accused_units(scheme: Scheme, text: str) -> frozenset[str]:
    """Units that the text reports or whose people's conduct it complains of (codes); found by name or alias.

    「向城管局举报」 accuses nobody: a unit after 向、到、给… is the one that was called.
    """
    found: set[str] = set()
    for match in _unit_names(scheme).finditer(text):
        before, after = text[max(0, match.start() - 14) : match.start()], text[match.end() : match.end() + 14]
        if not re.search(_TO, before) and _accuses(before, after):
            found |= scheme.leaves("unit", _terms_of(scheme)[match.group()])
    return frozenset(found)


def _accuses(before: str, after: str) -> bool:
    near = re.search(rf"{_REPORTED}[^，。,；;！!]{{0,10}}$", before)
    conduct = re.match(rf"[^，。,；;]{{0,6}}?{_CONDUCT}", after)
    complained = re.search(rf"{_COMPLAINED}[^，。；;！!]{{0,12}}$", before)
    return bool(near or (complained and conduct) or re.match(rf"[^，。,；;]{{0,4}}?{_MISCONDUCT}", after))


@lru_cache(maxsize=8)
def _cached_terms(key: tuple[tuple[str, str], ...]) -> tuple[Mapping[str, str], re.Pattern[str]]:
    terms = dict(key)
    longest_first = sorted(terms, key=len, reverse=True)
    return terms, re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _spoken(scheme: Scheme) -> Iterable[tuple[str, str]]:
    for unit in scheme.units.values():
        for name in (re.sub(r"\(.*?\)", "", unit.name), *unit.aliases):
            if len(name) >= 2 and name not in {"其他", "街道", "汽车火车", "机场", "火车站", "轮渡", "12345"}:
                yield name, unit.code


def _unit_names(scheme: Scheme) -> re.Pattern[str]:
    return _cached_terms(tuple(_spoken(scheme)))[1]


def _terms_of(scheme: Scheme) -> Mapping[str, str]:
    return _cached_terms(tuple(_spoken(scheme)))[0]
