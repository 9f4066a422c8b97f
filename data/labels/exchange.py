"""Formats of other labelling tools, written and read: Label Studio, Argilla, doccano, and plain JSONL.

What the model suggested stands where each tool keeps predictions, what people said where it keeps
annotations; doccano has no place for predictions, so they go into the metadata. The heads are the names
of the controls (Label Studio), of the questions (Argilla), and the part before the colon (doccano).
"The text does not tell" is the label 无法判断.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from data.errors import Problem, ReadError
from data.labels.records import LabelRecord, Opinion
from data.scheme import Scheme

__all__ = [
    "FORMATS",
    "UNTELLABLE",
    "Brought",
    "Format",
    "argilla_user",
    "read_brought",
]

UNTELLABLE = "无法判断"
ARGILLA_USERS = uuid.UUID("6f8c6f2e-3f0b-5d0a-9a0c-0d5a3c1f7b21")  # one user id for a reviewer in all exports


@dataclass(frozen=True)
class Brought:
    """What one line (of a JSON list: one element) brings: a person's labels of one appeal, as written.

    `labels`: head → the label's code, name, alias or path. `reviewer` is empty where the file names none,
    `text` is None where it has none.
    """

    line: int
    id: str
    labels: tuple[tuple[str, str], ...]
    reviewer: str = ""
    text: str | None = None
    adjudicated: bool = False
    comment: str = ""
    seconds: float = 0.0


_BETWEEN = re.compile(r"[\s,\[]*")  # what may stand before an element of a JSON list

Items = Iterator["tuple[int, dict[str, Any]] | Problem"]


@dataclass(frozen=True)
class Format:
    """How records are written and labels read back, and the suffix of its files."""

    suffix: str
    write: Callable[[Iterable[LabelRecord], TextIO, Scheme], int]
    items: Callable[[str, str], Items]
    bring: Callable[[int, dict[str, Any]], Iterable[Brought]]


def read_brought(path: Path, format: Format) -> tuple[list[Brought], list[Problem]]:
    """All labels of a file, and what could not be read of it, by line. Raises ReadError for no such file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ReadError(f"{path} cannot be read: {error}") from error
    brought: list[Brought] = []
    problems: list[Problem] = []
    for item in format.items(text, path.name):
        if isinstance(item, Problem):
            problems.append(item)
            continue
        try:
            brought += format.bring(*item)
        except _Unreadable as error:
            problems.append(Problem(error.expected, error.came, path.name, item[0], error.path))
    return brought, problems


class _Unreadable(Exception):
    """A part of an item that is not as the format has it."""

    def __init__(self, expected: str, came: object, path: str) -> None:
        self.expected, self.came, self.path = expected, repr(came)[:60], path


# --- JSONL ----------------------------------------------------------------------------------------


def _write_jsonl(records: Iterable[LabelRecord], stream: TextIO, scheme: Scheme) -> int:
    return _write_lines(map(_plain, records), stream)


def _plain(record: LabelRecord) -> dict[str, Any]:
    suggestions = {
        head: {"code": one.code, "probability": one.probability} for head, one in record.suggestions.items()
    }
    opinions = [
        {
            **asdict(opinion),
            "labels": dict(opinion.labels),
            "at": opinion.at.isoformat() if opinion.at else None,
        }
        for opinion in record.opinions
    ]
    return {
        "id": record.id,
        "text": record.text,
        **_about(record),
        "model_version": record.model_version,
        "suggestions": suggestions,
        "opinions": opinions,
    }


def _bring_jsonl(line: int, item: dict[str, Any]) -> Iterator[Brought]:
    """`opinions` as we write them, or just `labels`: {head: label} (and `reviewer`)."""
    id, text = _text(item, "id"), _text_or_none(item)
    if "opinions" not in item:
        yield Brought(line, id, _labels(item.get("labels")), str(item.get("reviewer") or ""), text)
        return
    for opinion in _list(item, "opinions"):
        if not isinstance(opinion, dict):
            raise _Unreadable("an object", opinion, "opinions")
        yield Brought(
            line,
            id,
            _labels(opinion.get("labels")),
            str(opinion.get("reviewer") or ""),
            text,
            opinion.get("adjudicated") is True,
            str(opinion.get("comment") or ""),
            _seconds(opinion.get("seconds")),
        )


def _labels(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict) or not all(isinstance(label, str) for label in value.values()):
        raise _Unreadable("labels as {head: label}", value, "labels")
    return tuple(value.items())


# --- Label Studio ---------------------------------------------------------------------------------


def _write_label_studio(records: Iterable[LabelRecord], stream: TextIO, scheme: Scheme) -> int:
    return _write_list((_task(record, scheme) for record in records), stream)


def _task(record: LabelRecord, scheme: Scheme) -> dict[str, Any]:
    suggested = {head: one for head, one in record.suggestions.items() if one.code in _codes(scheme, head)}
    prediction = {
        "model_version": record.model_version,
        "score": min((one.probability for one in suggested.values()), default=0.0),
        "result": [_control(scheme, head, one.code) for head, one in suggested.items()],
    }
    return {
        "data": {"id": record.id, "text": record.text, **_about(record)},
        "predictions": [prediction] if suggested else [],
        "annotations": [_annotation(opinion, scheme) for opinion in record.opinions],
    }


def _annotation(opinion: Opinion, scheme: Scheme) -> dict[str, Any]:
    # `reviewer` and `comment` are ours: Label Studio passes over what it does not know.
    return {
        "reviewer": opinion.reviewer,
        "comment": opinion.comment,
        "result": [_control(scheme, head, code) for head, code in opinion.labels.items()],
        "lead_time": opinion.seconds,
        "was_cancelled": False,
        "ground_truth": opinion.adjudicated,
    }


def _control(scheme: Scheme, head: str, code: str) -> dict[str, Any]:
    tree = head in scheme.heads and scheme.heads[head].kind == "tree"
    label = code or UNTELLABLE
    path = list(scheme.path_codes(code, head)) if tree and code else [label]
    value = {"taxonomy": [path]} if tree else {"choices": [label]}
    return {"from_name": head, "to_name": "text", "type": next(iter(value)), "value": value}


def _bring_task(line: int, item: dict[str, Any]) -> Iterator[Brought]:
    data = item.get("data")
    if not isinstance(data, dict):
        raise _Unreadable("a task with `data`", data, "data")
    id, text = _text(data, "id"), _text_or_none(data)
    for annotation in _list(item, "annotations"):
        if not isinstance(annotation, dict):
            raise _Unreadable("an object", annotation, "annotations")
        if annotation.get("was_cancelled") is not True:
            yield Brought(
                line,
                id,
                tuple(_choice(result) for result in _list(annotation, "result")),
                _annotator(annotation),
                text,
                annotation.get("ground_truth") is True,
                str(annotation.get("comment") or ""),
                _seconds(annotation.get("lead_time")),
            )


def _choice(result: Any) -> tuple[str, str]:
    """(head, label); of a path in a tree its last part that the scheme can find is looked for later."""
    value = result.get("value") if isinstance(result, dict) else None
    chosen = value.get("taxonomy") or value.get("choices") if isinstance(value, dict) else None
    if not isinstance(chosen, list) or len(chosen) != 1:
        raise _Unreadable("one choice or one path of a taxonomy", chosen, "result")
    label = chosen[0][-1] if isinstance(chosen[0], list) and chosen[0] else chosen[0]
    if not isinstance(label, str):
        raise _Unreadable("a label as a text", label, "result")
    return str(result.get("from_name")), label


def _annotator(annotation: Mapping[str, Any]) -> str:
    if annotation.get("reviewer"):
        return str(annotation["reviewer"])
    who = annotation.get("completed_by")
    who = who.get("email") or who.get("id") if isinstance(who, dict) else who
    return f"label-studio:{who}" if who is not None else ""


# --- Argilla --------------------------------------------------------------------------------------


def argilla_user(reviewer: str) -> str:
    """The user id of a reviewer in what we write for Argilla."""
    return str(uuid.uuid5(ARGILLA_USERS, reviewer))


def _write_argilla(records: Iterable[LabelRecord], stream: TextIO, scheme: Scheme) -> int:
    return _write_list((_argilla_record(record) for record in records), stream)


def _argilla_record(record: LabelRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "fields": {"text": record.text},
        "metadata": _about(record),
        "suggestions": {
            head: {"value": one.code, "score": one.probability, "agent": record.model_version}
            for head, one in record.suggestions.items()
        },
        "responses": _responses(record),
        "vectors": {},
    }


def _responses(record: LabelRecord) -> dict[str, list[dict[str, str]]]:
    """Per head every person's word; where a lead decided, theirs alone: Argilla has no place to say so."""
    decided = {head for opinion in record.opinions if opinion.adjudicated for head in opinion.labels}
    found: dict[str, list[dict[str, str]]] = {}
    for opinion in record.opinions:
        for head, code in opinion.labels.items():
            if opinion.adjudicated or head not in decided:
                response = {"value": code or UNTELLABLE, "user_id": argilla_user(opinion.reviewer)}
                found.setdefault(head, []).append(response)
    return found


def _bring_argilla(line: int, item: dict[str, Any]) -> Iterator[Brought]:
    fields, responses = item.get("fields") or {}, item.get("responses") or {}
    if not isinstance(fields, dict) or not isinstance(responses, dict):
        raise _Unreadable("objects in `fields` and `responses`", responses, "responses")
    id, text = _text(item, "id"), _text_or_none(fields)
    for head, said in responses.items():
        for response in said if isinstance(said, list) else [said]:
            if not isinstance(response, dict) or not isinstance(response.get("value"), str):
                raise _Unreadable("a response with one label as `value`", response, f"responses.{head}")
            user = response.get("user_id")
            yield Brought(line, id, ((head, response["value"]),), f"argilla:{user}" if user else "", text)


# --- doccano --------------------------------------------------------------------------------------


def _write_doccano(records: Iterable[LabelRecord], stream: TextIO, scheme: Scheme) -> int:
    return _write_lines(map(_doccano_line, records), stream)


def _doccano_line(record: LabelRecord) -> dict[str, Any]:
    """doccano joins what several people say: the labels in force are written, none where disputed."""
    labels = {head: label.code for head, label in record.labels.items()}
    return {
        "text": record.text,
        "label": [f"{head}:{code or UNTELLABLE}" for head, code in labels.items() if code is not None],
        "appeal_id": record.id,
        **_about(record),
        "suggested": [f"{head}:{one.code}" for head, one in record.suggestions.items()],
        "model_version": record.model_version,
    }


def _bring_doccano(line: int, item: dict[str, Any]) -> Iterator[Brought]:
    labels: list[tuple[str, str]] = []
    for label in _list(item, "label"):
        head, colon, term = label.partition(":") if isinstance(label, str) else ("", "", "")
        if not colon:
            raise _Unreadable("a label as HEAD:CODE, such as category:0101", label, "label")
        labels.append((head, term))
    yield Brought(line, _text(item, "appeal_id"), tuple(labels), "", _text_or_none(item))


# --- parts ----------------------------------------------------------------------------------------


def _about(record: LabelRecord) -> dict[str, str]:
    place = {part: value for part, value in asdict(record.place).items() if value}
    return {"received_at": record.received_at.isoformat(), "channel": record.channel, **place}


def _codes(scheme: Scheme, head: str) -> tuple[str, ...]:
    return scheme.heads[head].codes if head in scheme.heads else ()


def _text(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise _Unreadable("the appeal's id as a text", value, key)
    return str(value)


def _text_or_none(item: Mapping[str, Any]) -> str | None:
    value = item.get("text")
    if value is not None and not isinstance(value, str):
        raise _Unreadable("a text", value, "text")
    return value


def _list(item: Mapping[str, Any], key: str) -> list[Any]:
    value = item.get(key)
    if value is not None and not isinstance(value, list):
        raise _Unreadable("a list", value, key)
    return value or []


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _write_lines(items: Iterable[Mapping[str, Any]], stream: TextIO) -> int:
    return sum(stream.write(json.dumps(item, ensure_ascii=False) + "\n") > 0 for item in items)


def _write_list(items: Iterable[Mapping[str, Any]], stream: TextIO) -> int:
    count = 0
    for count, item in enumerate(items, start=1):
        stream.write(("[\n" if count == 1 else ",\n") + json.dumps(item, ensure_ascii=False))
    stream.write("\n]\n" if count else "[]\n")
    return count


def _line_items(text: str, file: str) -> Items:
    for line, content in enumerate(text.splitlines(), start=1):
        if not content.strip():
            continue
        try:
            item = json.loads(content)
        except ValueError as error:
            yield Problem("a JSON object on each line", str(error)[:80], file, line)
            continue
        yield (
            (line, item) if isinstance(item, dict) else Problem("a JSON object", repr(item)[:60], file, line)
        )


def _list_items(text: str, file: str) -> Items:
    """The elements of a JSON list, each with the line on which it begins."""
    decoder, at, line = json.JSONDecoder(), 0, 1
    while True:
        start = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        line += text.count("\n", at, start)
        if start >= len(text) or text[start] == "]":
            return
        try:
            item, end = decoder.raw_decode(text, start)
        except ValueError as error:
            yield Problem("a JSON list of objects", str(error)[:80], file, line)
            return
        yield (line, item) if isinstance(item, dict) else Problem("an object", repr(item)[:60], file, line)
        line += text.count("\n", start, end)
        at = end


FORMATS: Mapping[str, Format] = {
    "jsonl": Format(".jsonl", _write_jsonl, _line_items, _bring_jsonl),
    "label-studio": Format(".json", _write_label_studio, _list_items, _bring_task),
    "argilla": Format(".json", _write_argilla, _list_items, _bring_argilla),
    "doccano": Format(".jsonl", _write_doccano, _line_items, _bring_doccano),
}
