"""Labels for pickers: pinyin, initials, entity tag; and that the examples of the document are true."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from data.scheme import default_scheme
from serving.messages import Message
from serving.review import asking, figures_words, words
from serving.review.labels import initials, pickers, syllables
from serving.review.words import LabelsOut
from tests.fakes import FakePredictor, small_scheme
from tests.reviewers import Person
from tests.running import running


@pytest.mark.parametrize(
    ("name", "pinyin", "letters"),
    [
        ("劳动保障", "lao dong bao zhang", "ldbz"),
        ("银行服务", "yin hang fu wu", "yhfw"),
        ("行政执法", "xing zheng zhi fa", "xzzf"),
        ("重复反映", "chong fu fan ying", "cffy"),
        ("重点工程", "zhong dian gong cheng", "zdgc"),
        ("音乐会噪音", "yin yue hui zao yin", "yyhzy"),
        ("绿化养护", "lv hua yang hu", "lvyh"),
        ("12345热线（市级）", "12345 re xian shi ji", "12345rxsj"),
        ("ETC卡", "etc ka", "ek"),
        ("", "", ""),
    ],
)
def test_pinyin_follows_the_word(name: str, pinyin: str, letters: str) -> None:
    parts = syllables(name)
    assert " ".join(parts) == pinyin
    assert initials(parts) == letters.replace("lvyh", "lhyh")


def test_every_label_that_may_be_given_can_be_picked() -> None:
    scheme = default_scheme()
    told = LabelsOut.model_validate_json(pickers(scheme).body)
    assert told.scheme_version == scheme.version
    assert [head.head for head in told.heads][:5] == ["category", "appeal_type", "urgency", "tier", "unit"]
    for head in told.heads:
        assert [label.code for label in head.labels] == list(scheme.heads[head.head].codes)
        assert head.name and all(label.pinyin and label.initials and label.path for label in head.labels)
    category = told.heads[0]
    assert category.tree and not told.heads[1].tree
    manhole = next(label for label in category.labels if label.code == "0202")
    assert manhole.path == ["市政设施", "井盖"] and manhole.pinyin == "jing gai" and manhole.initials == "jg"
    assert manhole.definition and manhole.keywords


def test_labels_are_sent_once(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        first = client.get("/v1/review/labels")
        assert first.headers["Cache-Control"] == "private, no-cache"
        tag = first.headers["ETag"]
        for sent in (tag, f'"other", W/{tag}'):
            again = client.get("/v1/review/labels", headers={"If-None-Match": sent})
            assert (again.status_code, again.content) == (304, b"")
        assert client.get("/v1/review/labels", headers={"If-None-Match": '"other"'}).content == first.content


def test_another_scheme_has_other_labels(tmp_path: Path) -> None:
    with running(tmp_path, FakePredictor(small_scheme())) as client:
        told = Person(client).get("labels").json()
    assert [head["head"] for head in told["heads"]] == ["urgency", "unit"]
    assert told["heads"][1]["labels"][0]["initials"] == "yhzzf"


@pytest.mark.parametrize(("module", "least"), [(asking, 10), (words, 10), (figures_words, 1)])
def test_the_examples_of_the_document_fit_their_messages(module: ModuleType, least: int) -> None:
    found = 0
    for message in vars(module).values():
        if isinstance(message, type) and issubclass(message, Message):
            extra = message.model_config.get("json_schema_extra")
            for example in extra.get("examples", []) if isinstance(extra, dict) else []:  # type: ignore[union-attr]
                message.model_validate(example)
                found += 1
    assert found >= least
