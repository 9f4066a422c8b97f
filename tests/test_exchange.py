"""Labels to other tools and back: nothing is lost on the way, nothing wrong comes in, nothing by halves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from data.errors import BadRows, ReadError
from data.labels.exchange import FORMATS, UNTELLABLE, argilla_user
from data.labels.imports import Imported
from data.labels.label_studio import label_studio_config
from data.labels.records import Selection, records
from data.reviews import ReviewStore
from data.scheme import Scheme
from data.scheme_history import reading_for
from data.store import Store
from tests.exchanging import IDS, brought, chosen, dumped, exported, fresh, state, task
from tests.reviewing import ANN, BOB, LEAD, SCHEME, appeal, later, opened

# --- round trips ----------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_labels_come_back_as_they_went(
    labelled_stores: tuple[Store, ReviewStore], tmp_path: Path, format: str
) -> None:
    store, reviews = labelled_stores
    file = exported(store, tmp_path / "out", format)
    expected = state(reviews)
    assert expected == {
        ("A", "category"): "0102",
        ("A", "urgency"): "紧急",
        ("B", "category"): None,
        ("C", "category"): "0202",
        ("D", "category"): "",
    }
    if format == "doccano":  # it keeps one label for all people, so a dispute cannot be told
        del expected["B", "category"]
    other, other_reviews = fresh(tmp_path, "other")
    done = brought(other, file, format, reviewer="user:outside")
    assert done.written == done.unchanged + done.written
    assert state(other_reviews) == expected
    rows = other_reviews.corrections_after(0)
    assert {row.source for row in rows} == {f"import:{format}:out"}
    assert brought(other, file, format, reviewer="user:outside").written == 0
    other.close()


@pytest.mark.parametrize("format", ["jsonl", "label-studio", "argilla"])
def test_what_stands_already_is_not_written_again(
    labelled_stores: tuple[Store, ReviewStore], tmp_path: Path, format: str
) -> None:
    store, reviews = labelled_stores
    before = reviews.last_correction()
    done = brought(store, exported(store, tmp_path / "out", format), format)
    assert (done.written, done.appeals) == (0, 0)
    assert done.unchanged >= 6
    assert reviews.last_correction() == before


@pytest.mark.parametrize("format", ["jsonl", "label-studio"])
def test_who_said_it_how_and_how_long_come_along(
    labelled_stores: tuple[Store, ReviewStore], tmp_path: Path, format: str
) -> None:
    store, _ = labelled_stores
    other, reviews = fresh(tmp_path, "other")
    brought(other, exported(store, tmp_path / "out", format), format)
    rows = [row for row in reviews.corrections_after(0) if row.appeal_number == reviews.appeal("C").number]
    assert [(row.reviewer, row.kind, row.code, row.shown) for row in rows] == [
        (ANN, "confirmed", "0101", "0101"),
        (LEAD, "adjudicated", "0202", "0101"),
    ]
    assert (rows[0].comment, rows[0].seconds, rows[0].model_version) == ("看过C", 12.5, "m1")
    assert reviews.take("uncertain", BOB, now=later(20)) is not None  # E, which nobody labelled
    assert reviews.take("disputed", LEAD, now=later(20)) is not None  # B
    other.close()


def test_both_databases_take_labels_back(database_url: str, tmp_path: Path) -> None:
    store, reviews = opened(database_url)
    store.add_many([appeal(id) for id in IDS])
    path = tmp_path / "in.jsonl"
    rows = [{"id": id, "labels": {"category": "0102"}} for id in IDS]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert brought(store, path, "jsonl", reviewer=ANN) == Imported(5, 0, 5)
    assert brought(store, path, "jsonl", reviewer=ANN) == Imported(0, 5, 0)
    assert brought(store, path, "jsonl", reviewer=ANN, adjudicated=True) == Imported(5, 0, 5)
    assert set(state(reviews).values()) == {"0102"}
    again = json.loads(exported(store, tmp_path / "out", "argilla").read_text(encoding="utf-8"))
    assert len(again) == 5
    store.close()


# --- what is written ------------------------------------------------------------------------------


def test_label_studio_keeps_predictions_and_annotations_apart(
    labelled_stores: tuple[Store, ReviewStore], tmp_path: Path
) -> None:
    tasks = json.loads(
        exported(labelled_stores[0], tmp_path / "out", "label-studio", "all").read_text(encoding="utf-8")
    )
    by_id = {task["data"]["id"]: task for task in tasks}
    assert set(by_id) == set(IDS)
    [prediction] = by_id["E"]["predictions"]
    assert by_id["E"]["annotations"] == []
    assert (prediction["model_version"], prediction["score"]) == ("m1", 0.9)
    category = next(one for one in prediction["result"] if one["from_name"] == "category")
    assert category == {
        "from_name": "category",
        "to_name": "text",
        "type": "taxonomy",
        "value": {"taxonomy": [["01", "0101"]]},
    }
    urgency = next(one for one in by_id["A"]["annotations"][0]["result"] if one["from_name"] == "urgency")
    assert urgency["value"] == {"choices": ["紧急"]}
    assert [one["ground_truth"] for one in by_id["C"]["annotations"]] == [False, True]
    assert by_id["D"]["annotations"][0]["result"][0]["value"] == {"taxonomy": [[UNTELLABLE]]}


def test_argilla_keeps_suggestions_and_responses_apart(
    labelled_stores: tuple[Store, ReviewStore], tmp_path: Path
) -> None:
    found = json.loads(exported(labelled_stores[0], tmp_path / "out", "argilla").read_text(encoding="utf-8"))
    by_id = {record["id"]: record for record in found}
    assert by_id["B"]["suggestions"]["category"] == {"value": "0101", "score": 0.9, "agent": "m1"}
    assert by_id["B"]["responses"]["category"] == [
        {"value": "0101", "user_id": argilla_user(ANN)},
        {"value": "0201", "user_id": argilla_user(BOB)},
    ]
    assert by_id["C"]["responses"]["category"] == [{"value": "0202", "user_id": argilla_user(LEAD)}]
    assert by_id["B"]["fields"] == {"text": "第1件：\n路口的垃圾没人收"}


def test_doccano_gets_labels_in_force_and_suggestions_as_metadata(
    labelled_stores: tuple[Store, ReviewStore], tmp_path: Path
) -> None:
    lines = exported(labelled_stores[0], tmp_path / "out", "doccano").read_text(encoding="utf-8").splitlines()
    by_id = {item["appeal_id"]: item for item in map(json.loads, lines)}
    assert by_id["A"]["label"] == ["category:0102", "urgency:紧急"]
    assert by_id["B"]["label"] == []
    assert by_id["D"]["label"] == [f"category:{UNTELLABLE}"]
    assert "category:0101" in by_id["A"]["suggested"]


def test_nothing_to_write_is_still_a_file(labelled_stores: tuple[Store, ReviewStore], tmp_path: Path) -> None:
    store, _ = labelled_stores
    found = records(store.database, reading_for(store.database, SCHEME), Selection(district="西区"))
    with (tmp_path / "out").open("w") as stream:
        assert FORMATS["argilla"].write(found, stream, SCHEME) == 0
    assert json.loads((tmp_path / "out").read_text()) == []


def test_the_labelling_interface_names_every_code() -> None:
    view = ElementTree.fromstring(label_studio_config(SCHEME))
    taxonomy = view.find("Taxonomy")
    assert taxonomy is not None and taxonomy.get("name") == "category"
    aliases = [choice.get("alias") for choice in taxonomy.iter("Choice")]
    assert aliases == ["01", "0101", "0102", "02", "0201", "0202", None]  # 0103 is retired
    assert {one.get("name") for one in view.findall("Choices")} == {"urgency", "unit"}
    awkward = Scheme.parse("name: x\nversion: '1'\nunits: [{code: 'a\"<', name: 甲&乙}, b]")
    assert ElementTree.fromstring(label_studio_config(awkward)).find(".//Choice").get("alias") == 'a"<'  # type: ignore[union-attr]


# --- what other tools write -----------------------------------------------------------------------


def test_label_studio_s_own_export_is_understood(tmp_path: Path) -> None:
    store, reviews = fresh(tmp_path, "jiesu")
    path = dumped(
        tmp_path,
        [
            task(
                "A", chosen("category", ["市容", "占道"]), chosen("unit", "环保局")
            ),  # names instead of codes
            task("B", chosen("category", ["01", "0102"]), completed_by={"id": 4, "email": "li@example.org"}),
            task("C", chosen("category", ["01", "0102"]), was_cancelled=True),
            {"data": {"id": "D"}, "predictions": [{"result": [chosen("unit", "cg")]}]},
        ],
    )
    assert brought(store, path, "label-studio") == Imported(3, 0, 2)
    assert state(reviews) == {("A", "category"): "0102", ("A", "unit"): "hb", ("B", "category"): "0102"}
    assert {row.reviewer for row in reviews.corrections_after(0)} == {
        "label-studio:3",
        "label-studio:li@example.org",
    }
    store.close()


def test_argilla_s_and_doccano_s_own_exports_are_understood(tmp_path: Path) -> None:
    store, reviews = fresh(tmp_path, "jiesu")
    user = "2c3a5b1e-0000-4000-8000-000000000001"
    responses = {"category": [{"value": "0201", "user_id": user}], "unit": []}
    path = dumped(tmp_path, [{"id": "A", "fields": {}, "responses": responses, "_server_id": "s"}])
    assert brought(store, path, "argilla").written == 1
    lines = tmp_path / "in.jsonl"
    row = {
        "id": 9,
        "text": "第1件：\n路口的垃圾没人收",
        "label": ["category:占道"],
        "appeal_id": "B",
        "Comments": [],
    }
    lines.write_text(json.dumps(row) + "\n\n", encoding="utf-8")
    assert brought(store, lines, "doccano", reviewer="user:out", adjudicated=True).written == 1
    rows = reviews.corrections_after(0)
    assert [(row.reviewer, row.kind, row.code) for row in rows] == [
        (f"argilla:{user}", "changed", "0201"),
        ("user:out", "adjudicated", "0102"),
    ]
    store.close()


def test_plain_lines_of_labels_are_enough(tmp_path: Path) -> None:
    store, reviews = fresh(tmp_path, "jiesu")
    path = tmp_path / "in.jsonl"
    rows = [
        {"id": "A", "labels": {"category": "占道"}},
        {"id": "B", "labels": {"unit": "hb"}, "reviewer": BOB},
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert brought(store, path, "jsonl", reviewer=ANN) == Imported(2, 0, 2)
    assert [row.reviewer for row in reviews.corrections_after(0)] == [ANN, BOB]
    store.close()


# --- what is wrong --------------------------------------------------------------------------------


def test_everything_wrong_is_told_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    store, reviews = fresh(tmp_path, "jiesu")
    good = {"id": "A", "labels": {"category": "0101"}, "reviewer": ANN}
    rows: list[Any] = [
        good,
        {**good, "id": "nobody"},
        {**good, "labels": {"colour": "red"}},
        {**good, "labels": {"category": "0199"}},
        {**good, "labels": {"category": "市容"}},
        {**good, "labels": {"category": "0103"}},
        {**good, "labels": {"category": "0201"}},
        {**good, "text": "别的话"},
        {"id": "B", "labels": {"category": "0101"}},
        {**good, "labels": ["0101"]},
        {"labels": {}},
        "text",
        {**good, "id": "C", "opinions": "x"},
    ]
    path = tmp_path / "in.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join([*lines, "{", ""]), encoding="utf-8")
    with pytest.raises(BadRows, match="nothing was imported") as told:
        brought(store, path, "jsonl")
    assert [(one.line, one.path) for one in told.value.problems] == [
        (2, "id"),
        (3, "colour"),
        (4, "category"),
        (5, "category"),
        (6, "category"),
        (7, "category"),
        (8, "text"),
        (9, "reviewer"),
        (10, "labels"),
        (11, "id"),
        (12, ""),
        (13, "opinions"),
        (14, ""),
    ]
    text = str(told.value)
    assert "'0201', but '0101' in line 1" in text
    assert "in.jsonl:8 text: expected the stored text of 'A', got another text" in text
    assert "别的话" not in text
    assert reviews.corrections_after(0) == []
    store.close()


def test_lines_of_a_json_list_are_told(tmp_path: Path) -> None:
    store, _ = fresh(tmp_path, "jiesu")
    path = tmp_path / "in.json"
    tasks = [task("A", chosen("unit", "cg")), task("B", chosen("unit", "cg", "hb")), task("X")]
    texts = [json.dumps(one, indent=2) for one in tasks]
    path.write_text(
        "[\n" + ",\n".join([*texts, "3", '{"data": 1}', '{"data": {"id": "A"}, "annotations": [1]}'])
    )
    with pytest.raises(BadRows) as told:
        brought(store, path, "label-studio")
    starts = [2, 2 + texts[0].count("\n") + 1, 2 + texts[0].count("\n") + texts[1].count("\n") + 2]
    last = starts[2] + texts[2].count("\n")
    assert [one.line for one in told.value.problems] == [starts[1], starts[2], last + 1, last + 2, last + 3]
    store.close()


@pytest.mark.parametrize(
    ("format", "content"),
    [
        ("label-studio", '[{"data": {"id": "A"}, "annotations": [{"result": [{"value": 1}]}]}]'),
        (
            "label-studio",
            '[{"data": {"id": "A"}, "annotations": [{"result": [{"value": {"choices": [1]}}]}]}]',
        ),
        ("label-studio", "[{]"),
        ("argilla", '[{"id": "A", "fields": 1}]'),
        ("argilla", '[{"id": "A", "responses": {"unit": [{"value": ["cg"]}]}}]'),
        ("doccano", '{"appeal_id": "A", "label": ["0101"]}'),
        ("doccano", '{"id": 1, "label": ["category:0101"]}'),
        ("jsonl", '{"id": "A", "text": 1, "labels": {}}'),
        ("jsonl", '{"id": true, "labels": {}}'),
    ],
)
def test_what_is_not_of_the_format_is_told(tmp_path: Path, format: str, content: str) -> None:
    store, reviews = fresh(tmp_path, "jiesu")
    path = tmp_path / "in"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BadRows) as told:
        brought(store, path, format, reviewer=ANN)
    assert [one.line for one in told.value.problems] == [1]
    assert reviews.corrections_after(0) == []
    store.close()


def test_a_file_without_labels_or_none_at_all_is_told(tmp_path: Path) -> None:
    store, _ = fresh(tmp_path, "jiesu")
    path = tmp_path / "in"
    with pytest.raises(ReadError, match="cannot be read"):
        brought(store, path, "jsonl")
    path.write_text("[]")
    with pytest.raises(ReadError, match="found none"):
        brought(store, path, "argilla")
    store.close()
