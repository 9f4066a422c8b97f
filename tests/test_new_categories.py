"""New categories, proposed from appeals that fit none: who is looked at, what is found, what people edit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from classifier.predictor import Prediction, Predictor
from data.appeals import Row
from data.errors import SchemeError
from data.proposal import NewLabel, change_text, extended
from data.scheme import Scheme, default_scheme
from data.scheme_change import SchemeChange
from evaluation.__main__ import app
from evaluation.errors import NothingToScore, ReportError, UnknownHead
from evaluation.new_categories import (
    Candidate,
    Found,
    candidates_of_rows,
    candidates_of_store,
    catch_alls,
    propose_categories,
)
from evaluation.new_categories_writing import new_labels, write_proposed
from tests.fake_predictor import write_csv
from tests.fakes import FakePredictor
from tests.models import toy_model, toy_rows
from tests.reviewing import SCHEME, answer_body, appeal, later, opened

PLACES = ["东湖", "西岭", "南塘", "北坡", "中兴", "长安", "云溪", "丰泽"]
SUBJECTS = {
    "drones": ["无人机天天在窗外飞", "有人放无人机偷拍", "无人机噪声大还怕掉下来", "夜里无人机在楼顶盘旋"],
    "chargers": ["电动汽车充电桩全坏了", "充电桩被油车占着", "想申请安装充电桩被拒", "充电桩收费比别处贵"],
    "cats": ["流浪猫越来越多到处叫", "有人投喂流浪猫满地猫粮", "流浪猫抓伤了小孩", "希望给流浪猫做绝育"],
}
ENDS = [
    "，晚上根本睡不着觉", "，物业说不归他们管", "，打了三次电话都没有回音", "，老人小孩都很害怕",
    "，已经两个多月了", "，门卫也拦不住", "，邻居们意见很大", "，上周差点出事", "，群里天天为此吵架",
    "，业委会还没成立", "，周末尤其严重", "，拍了照片可以作证", "，去年也反映过", "，租户搬走了好几家",
    "，楼下商铺不承认", "，孩子上学受影响",
]  # fmt: skip


def told(subject: str, count: int) -> list[str]:
    """Different texts about one thing."""
    random = np.random.default_rng(len(subject))
    texts: dict[str, None] = {}
    while len(texts) < count:
        place, end = str(random.choice(PLACES)), str(random.choice(ENDS))
        first, second = random.choice(SUBJECTS[subject], 2, replace=False).tolist()
        texts[f"{place}小区{first}，{second}{end}。"] = None
    return list(texts)


def candidates(each: int = 30, why: str = "cannot be told") -> list[Candidate]:
    return [Candidate(f"{subject}-{i}", text, why)
            for subject in SUBJECTS for i, text in enumerate(told(subject, each))]  # fmt: skip


class Mute(FakePredictor):
    """A model without an encoder, in the small scheme of the reviewing tests."""

    def __init__(self) -> None:
        super().__init__(SCHEME)

    def _one(self, text: str) -> Prediction:
        return replace(super()._one(text), embedding=np.zeros(0, np.float32))


class Leaning(Mute):
    """A model with an encoder that sees the subject of a text, dimly."""

    def _one(self, text: str) -> Prediction:
        random = np.random.default_rng(len(text))
        words = ("无人机", "充电桩", "流浪猫")
        seen = np.array([3.0 * (word in text) for word in words] + [0.0] * 13)
        return replace(super()._one(text), embedding=(seen + random.normal(0, 0.2, 16)).astype(np.float32))


def purity(found: Found) -> list[float]:
    return [
        max(sum(id.startswith(subject) for id in one.ids) for subject in SUBJECTS) / len(one.ids)
        for one in found.proposed
    ]


# -- who is looked at ------------------------------------------------------------------------------


def test_catch_alls_are_told_by_their_names() -> None:
    assert "9904" in catch_alls(default_scheme(), "category")
    assert catch_alls(default_scheme(), "unit") == ("qita",)
    assert catch_alls(SCHEME, "category") == ()
    with pytest.raises(UnknownHead, match="head: expected one of category"):
        catch_alls(SCHEME, "colour")


def test_the_store_gives_what_people_put_nowhere_and_what_the_model_is_unsure_of(tmp_path: Path) -> None:
    store, reviews = opened(f"sqlite:///{tmp_path / 'jiesu.db'}")
    sure = answer_body({"category": ("0101", 0.9)})
    unsure = answer_body({"category": ("0101", 0.2)})
    bodies = {"sure": sure, "unsure": unsure, "untold": sure, "wide": sure, "clear": unsure, "open": unsure}
    store.add_many([replace(appeal(id, received_at=later(n)), answer=body)
                    for n, (id, body) in enumerate(bodies.items())])  # fmt: skip
    said = {"untold": "", "wide": "0202", "clear": "0102"}
    for number, (id, code) in enumerate(said.items()):
        lease = reviews.take_appeal(id, "user:mei", now=later(20)).lease
        reviews.correct(lease, "user:mei", {"category": code}, {"category": "0101"}, scheme=SCHEME,
                        token=f"t{number}", now=later(21))  # fmt: skip
    found = candidates_of_store(store.database, SCHEME, "category", ["0202"], 0.3)
    assert {one.id: one.why for one in found} == {
        "unsure": "unsure", "untold": "cannot be told", "wide": "0202", "open": "unsure",
    }  # fmt: skip
    store.close()


def test_a_file_gives_the_same(tmp_path: Path) -> None:
    model = Predictor.load(toy_model(tmp_path / "model"))
    rows = toy_rows()[:8]
    rows[0] = replace(rows[0], labels={"unit": frozenset(["city"])})
    rows[1] = replace(rows[1], labels={})
    assert [one.why for one in candidates_of_rows(rows, model, "unit", ["city"], 1.1)] == ["unsure", "city"]
    assert [one.id for one in candidates_of_rows(rows, model, "unit", ["city"], 0.0)] == [rows[0].id]


# -- what is found ---------------------------------------------------------------------------------


def test_subjects_become_clusters_with_words_and_texts() -> None:
    found = propose_categories(candidates(), Leaning(), "category", smallest=8)
    assert found.candidates == {"cannot be told": 90}
    assert len(found.proposed) == 3 and purity(found) == [1.0, 1.0, 1.0]
    words = {word for one in found.proposed for word in one.words[:3]}
    assert {"无人机", "充电", "流浪"} <= words
    for one in found.proposed:
        assert one.groups >= 8 and 3 <= len(one.texts) <= 5
        assert {text[:2] for text in one.texts} <= set(PLACES)
        assert 0 < one.cohesion <= 1 and one.nearest[0][1] > 0
    assert found.alone + sum(one.appeals for one in found.proposed) == 90


def test_words_alone_find_subjects_too() -> None:
    found = propose_categories(candidates(), Mute(), "category", smallest=5)
    sizes = [one.appeals for one in found.proposed]
    assert len(sizes) >= 3 and float(np.average(purity(found), weights=sizes)) > 0.8


def test_a_campaign_of_one_text_is_no_category() -> None:
    copies = [
        Candidate(f"copy-{i}", "请把十七路公交站牌移回原处，我们全楼都同意！", "unsure") for i in range(60)
    ]
    found = propose_categories([*candidates(), *copies], Leaning(), "category", smallest=8)
    assert len(found.proposed) == 3 and all(one.groups <= 30 for one in found.proposed)
    assert all(len(set(one.texts)) == len(one.texts) for one in found.proposed)
    with pytest.raises(NothingToScore, match="got 1"):
        propose_categories(copies, Leaning(), "category", smallest=8)


def test_too_few_or_an_unknown_head_is_an_error_that_says_so() -> None:
    with pytest.raises(NothingToScore, match="expected 20 different appeals that fit no category, got 6"):
        propose_categories(candidates(2), Mute(), "category", smallest=8)
    with pytest.raises(UnknownHead, match="head: expected one of category"):
        propose_categories(candidates(), Mute(), "colour")


# -- what a person edits ---------------------------------------------------------------------------


def test_the_proposal_is_a_scheme_change_that_can_be_checked_as_it_is(tmp_path: Path) -> None:
    found = propose_categories(candidates(why="0202"), Leaning(), "category", smallest=8)
    files = write_proposed(found, SCHEME, "2", tmp_path / "out")
    new = Scheme.load(files["scheme.yaml"])
    change = SchemeChange.load(files["change.yaml"])
    change.check(SCHEME, new)
    codes = [label.code for label in new_labels(found, SCHEME)]
    assert change.codes("category", "0202") == ("0202", *codes)
    assert new.labels["category"][codes[0]].parent == "02"
    report = files["proposed.md"].read_text(encoding="utf-8")
    assert f"{len(codes)} clusters." in report and f"## {codes[0]} " in report
    assert "社会噪音 90" in report and "typical texts:" in report


def test_labels_out_of_no_catch_all_are_added_on_the_first_level() -> None:
    labels = [NewLabel("n1", "无人机"), NewLabel("n2", "充电桩", out_of=("0101",))]
    new = Scheme.parse(extended(SCHEME, "category", labels, "2"))
    assert new.labels["category"]["n1"].parent == "" and new.labels["category"]["n2"].parent == "01"
    change = SchemeChange.parse(change_text(SCHEME, "category", labels, "2"))
    change.check(SCHEME, new)
    assert [step.step for step in change.heads["category"]] == ["split", "add"]
    units = Scheme.parse(extended(SCHEME, "unit", [NewLabel("n1", "无人机办")], "2"))
    assert units.heads["unit"].codes == ("cg", "hb", "n1")
    assert change_text(SCHEME, "category", [], "2").endswith("heads: {}\n")
    with pytest.raises(SchemeError, match="a new version for a changed scheme"):
        extended(SCHEME, "category", labels, "1")


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    found = propose_categories(candidates(), Leaning(), "category", smallest=8)
    twice = replace(found, proposed=(found.proposed[0], found.proposed[0]))
    first, second = new_labels(twice, SCHEME)
    assert second.name == f"{first.name}2" and (first.code, second.code) == ("new1", "new2")
    with pytest.raises(ReportError, match="--out: expected a folder"):
        (tmp_path / "file").write_text("", encoding="utf-8")
        write_proposed(found, SCHEME, "2", tmp_path / "file" / "below")


# -- the command -----------------------------------------------------------------------------------


def invoke(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(app, ["new-categories", *map(str, arguments)], catch_exceptions=False)


def test_the_command_writes_all_files_for_a_labelled_file(tmp_path: Path) -> None:
    model = toy_model(tmp_path / "model")
    rows = [Row(one.id, one.text, labels={"unit": frozenset(["city"])}) for one in candidates(20)]
    data = write_csv(tmp_path / "rows.csv", rows, ("unit",))
    done = invoke(model, data, "--head", "unit", "--catch-all", "city", "--smallest", 6,
                  "--out", tmp_path / "out")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "clusters of 60 appeals that fit none" in done.output
    old, new = Scheme.load(model / "scheme.yaml"), Scheme.load(tmp_path / "out" / "scheme.yaml")
    SchemeChange.load(tmp_path / "out" / "change.yaml").check(old, new)


def test_what_the_command_cannot_do_exits_with_2(tmp_path: Path) -> None:
    model = toy_model(tmp_path / "model")
    done = invoke(model, "--head", "unit", "--database", f"sqlite:///{tmp_path / 'none.db'}")
    assert done.exit_code == 2
    assert "expected a database at" in done.output
