"""A model that is older than the label scheme answers in the new codes, and says where it cannot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from classifier.calibration import Calibration, HeadCalibration
from classifier.errors import ModelError
from classifier.predictor import Prediction
from classifier.translated import translated
from data.database import Database
from data.scheme import Scheme
from data.scheme_change import SchemeChange
from data.scheme_history import record_change
from serving.app import create_app
from serving.models import load_model
from serving.scheme_watch import SchemeWatch
from tests.fakes import FakePredictor
from tests.models import SCHEME, toy_model
from tests.running import appeal, settings, until

NEW = """
name: toy
version: '2'
units: [{code: works, name: 市政公用局}, {code: traffic, name: 交警支队}, {code: patrol, name: 派出所}]
extra_heads:
- name: urgent
  labels: ['0', 'high']
"""
CHANGE = """
from: '1'
to: '2'
heads:
  unit:
  - {step: merge, codes: [water, city], into: works}
  - {step: split, code: police, into: [traffic, patrol]}
  urgent:
  - {step: rename, code: '1', into: high}
"""
OLD = Scheme.parse(SCHEME)


class Said(FakePredictor):
    """Answers the same shares for every text."""

    def __init__(self, *shares: float, cuts: dict[str, float] | None = None) -> None:
        super().__init__(OLD, version="old-1")
        self._shares, self._cuts = shares, cuts or {}

    @property
    def calibration(self) -> Calibration:
        heads = {name: HeadCalibration(1, 1, threshold=0.8, cuts=self._cuts) for name in self.heads}
        return Calibration(0.95, {"joined": heads})

    def predict(
        self, texts: Sequence[str], evidence: bool = True, part: str = "", tokens: object = None
    ) -> list[Prediction]:
        shares = {"unit": np.array(self._shares, np.float32), "urgent": np.array([0.2, 0.8], np.float32)}
        return [Prediction(shares, {name: head.codes for name, head in OLD.heads.items()}) for _ in texts]


def said(*shares: float) -> Prediction:
    """What the new codes are told of these shares of water, police and city."""
    [told] = translated(Said(*shares), Scheme.parse(NEW), [SchemeChange.parse(CHANGE)]).predict(["x"])
    return told


def test_renamed_and_merged_labels_are_told_exactly() -> None:
    told = said(0.5, 0.1, 0.4)
    assert told.distribution("unit") == pytest.approx({"works": 0.9, "traffic": 0.05, "patrol": 0.05})
    assert told.distribution("urgent") == pytest.approx({"0": 0.2, "high": 0.8})
    assert (told.top("unit")[0][0], told.top("urgent")[0][0]) == ("works", "high")
    assert told.unsettled == frozenset()
    for shares in told.probabilities.values():
        assert float(shares.sum()) == pytest.approx(1.0)


def test_a_split_label_is_spread_and_unsettled() -> None:
    told = said(0.1, 0.9, 0.0)
    assert told.distribution("unit") == pytest.approx({"works": 0.1, "traffic": 0.45, "patrol": 0.45})
    assert told.unsettled == {"unit"}


def test_a_label_that_is_gone_is_unsettled() -> None:
    split = "{step: split, code: police, into: [traffic, patrol]}"
    gone = "{step: retire, code: police, unmapped: true}"
    change = CHANGE.replace(split, gone)
    old = Said(0.1, 0.9, 0.0)
    [told] = translated(old, Scheme.parse(NEW), [SchemeChange.parse(change)]).predict(["x"])
    assert float(told.probabilities["unit"].sum()) == pytest.approx(1.0)
    assert told.unsettled == {"unit"}


def test_cuts_go_by_the_new_codes_and_thresholds_stay() -> None:
    old = Said(1.0, 0.0, 0.0, cuts={"1": 0.3, "0": 0.6})
    new = translated(old, Scheme.parse(NEW), [SchemeChange.parse(CHANGE)])
    assert new.calibration.of("joined", "urgent").cuts == {"high": 0.3, "0": 0.6}
    assert new.thresholds == old.thresholds and new.version == "old-1" and new.card == old.card


def test_the_same_version_is_the_same_model_and_no_change_is_told() -> None:
    old = Said(1.0, 0.0, 0.0)
    assert translated(old, OLD, []) is old
    with pytest.raises(ModelError, match="no change leads on from '1'"):
        translated(old, Scheme.parse(NEW), [])


# --- served -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_model(tmp_path_factory.mktemp("models") / "toy")


@contextmanager
def served(folder: Path, toy: Path, *, recorded: bool, scheme: bool) -> Iterator[TestClient]:
    (folder / "new.yaml").write_text(NEW, encoding="utf-8")
    database = Database.open(f"sqlite:///{folder / 'jiesu.db'}")
    database.migrate()
    if recorded:
        record(database)
    database.close()
    given = {"scheme": folder / "new.yaml"} if scheme else {}
    with TestClient(create_app(settings(folder, model_dir=toy, **given), load_model)) as client:
        yield client


def record(database: Database) -> None:
    record_change(database, SchemeChange.parse(CHANGE), "cli:test", datetime.now(UTC))


def test_an_old_model_answers_in_new_codes_names_and_paths(tmp_path: Path, toy: Path) -> None:
    with served(tmp_path, toy, recorded=True, scheme=True) as client:
        answer = client.post("/v1/appeals", json=appeal("A-1", "东湖小区停水一天了")).json()
        assert answer["unit"]["lead"] == {"code": "works", "name": "市政公用局"}
        assert answer["extra"]["urgent"]["code"] in {"0", "high"}
        assert answer["scheme_version"] == "2"
        assert "scheme_changed" not in {reason["code"] for reason in answer["decision"]["reasons"]}
        scheme = client.get("/v1/scheme").json()
        [unit] = [head for head in scheme["heads"] if head["name"] == "unit"]
        assert (scheme["version"], unit["labels"][0]["code"], len(unit["labels"])) == ("2", "works", 3)
        assert client.get("/readyz").json()["problems"] == {}


def test_what_has_no_one_meaning_is_shown_to_a_person(tmp_path: Path, toy: Path) -> None:
    with served(tmp_path, toy, recorded=True, scheme=True) as client:
        answer = client.post("/v1/appeals", json=appeal("A-1", "东湖路有人打架请派出所来")).json()
        reasons = {reason["code"]: reason["text"] for reason in answer["decision"]["reasons"]}
        assert "承办单位" in reasons["scheme_changed"]
        assert answer["decision"]["action"] in {"review", "transfer"}


def test_without_a_recorded_change_it_does_not_answer_and_heals(tmp_path: Path, toy: Path) -> None:
    with served(tmp_path, toy, recorded=False, scheme=True) as client:
        ready = client.get("/readyz")
        assert ready.status_code == 503 and "schemes migrate" in ready.json()["problems"]["model"]
        database = Database.open(f"sqlite:///{tmp_path / 'jiesu.db'}")
        record(database)
        database.close()
        until(lambda: client.get("/readyz").status_code == 200, 30)


def test_answers_in_old_codes_are_told_once_a_change_is_recorded(tmp_path: Path, toy: Path) -> None:
    with served(tmp_path, toy, recorded=True, scheme=False) as client:
        until(lambda: "scheme" in client.get("/readyz").json()["problems"], 20)
        ready = client.get("/readyz")
        assert ready.status_code == 200 and "JIESU_SCHEME" in ready.json()["problems"]["scheme"]
        answer = client.post("/v1/appeals", json=appeal("A-1", "东湖小区停水一天了")).json()
        assert (answer["unit"]["lead"]["code"], answer["scheme_version"]) == ("water", "1")


def test_the_watch_asks_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving import scheme_watch
    from serving.health import Health
    from serving.metrics import Metrics
    from tests.fakes import furnish

    asked: list[Database] = []

    def changes(database: Database) -> list[SchemeChange]:
        asked.append(database)
        return []

    monkeypatch.setattr(scheme_watch, "recorded_changes", changes)
    watch, model = SchemeWatch(Health(Metrics())), furnish(FakePredictor())
    database = Database.open(f"sqlite:///{tmp_path / 'jiesu.db'}")
    for _ in range(5):
        watch.look(model, database)
    assert len(asked) == 1
    watch.look(furnish(FakePredictor(version="other")), database)
    assert len(asked) == 2
