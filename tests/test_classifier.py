from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

from classifier.calibration import Calibration, HeadCalibration, SideBySide, softmax
from classifier.encoder import EncoderPart
from classifier.errors import ModelError, RegistryError
from classifier.folder import EncoderWindow
from classifier.predictor import Predictor
from classifier.registry import Registry
from tests.models import toy_model, toy_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_model(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor.load(folder)


def test_it_learns_what_it_was_shown_and_generalises_to_a_new_place(predictor: Predictor) -> None:
    answers = predictor.predict(["清水湾小区停水一天了", "凤凰路口小贩占道经营"])
    assert [answer.top("unit")[0][0] for answer in answers] == ["water", "city"]
    assert answers[0].top("urgent")[0][0] == "1"


def test_probabilities_sum_to_one_in_the_order_of_the_codes(predictor: Predictor) -> None:
    answer = predictor.predict(["停水了"])[0]
    for head, values in answer.probabilities.items():
        assert np.isclose(values.sum(), 1, atol=1e-5)
        assert list(answer.distribution(head)) == list(predictor.heads[head].codes)


def test_answers_come_in_the_order_of_the_texts(predictor: Predictor) -> None:
    texts = [row.text for row in toy_rows()][::7]
    together = predictor.predict(texts)
    for text, answer in zip(texts, together, strict=True):
        alone = predictor.predict([text])[0]
        assert np.allclose(alone.probabilities["unit"], answer.probabilities["unit"], atol=1e-6)


def test_evidence_points_at_what_decided(predictor: Predictor) -> None:
    text = "我住在翠竹苑三期，今天早上开始停水一天了，请问什么时候恢复"
    (answer,) = predictor.predict([text])
    shown = "".join(text[item.start : item.end] for item in answer.evidence["unit"])
    assert "停水" in shown
    assert all(0 < item.weight <= 1 for item in answer.evidence["unit"])


def test_odd_texts_get_an_answer(predictor: Predictor) -> None:
    for text in ["", " ", "😀😀", "hello world", "\x00\x01", "水" * 100_000]:
        (answer,) = predictor.predict([text])
        assert np.isfinite(answer.probabilities["unit"]).all()
    assert predictor.predict([]) == []


def test_a_part_it_lacks_is_refused(predictor: Predictor) -> None:
    assert predictor.parts == ("lexical",)
    with pytest.raises(ModelError, match=r"expected one of lexical.*got 'encoder'"):
        predictor.predict(["停水"], part="encoder")


def test_it_answers_from_many_threads(predictor: Predictor) -> None:
    texts = [row.text for row in toy_rows()]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda text: predictor.predict([text])[0].top("unit")[0][0], texts))
    assert answers == [answer.top("unit")[0][0] for answer in predictor.predict(texts)]


def test_the_known_answer_is_checked(folder: Path, tmp_path: Path) -> None:
    Predictor.load(folder).check()
    copy = copied(folder, tmp_path / "other")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["known_answer"]["labels"]["unit"] = {"code": "police", "probability": 0.99}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="known answer for head unit: expected police"):
        Predictor.load(copy).check()


@pytest.mark.parametrize("name", ["lexical.safetensors", "calibration.json", "scheme.yaml"])
def test_a_damaged_file_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    copy = copied(folder, tmp_path / "broken")
    (copy / name).write_bytes(b"x" + (copy / name).read_bytes()[1:])
    with pytest.raises(ModelError, match=f"{name}.*damaged"):
        Predictor.load(copy)


@pytest.mark.parametrize("name", ["lexical.safetensors", "manifest.json", "scores.json"])
def test_a_missing_file_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    copy = copied(folder, tmp_path / "broken")
    (copy / name).unlink()
    with pytest.raises(ModelError, match=name):
        Predictor.load(copy)


def test_no_text_is_stored_in_the_model(folder: Path) -> None:
    for path in folder.iterdir():
        content = path.read_bytes()
        assert "占道经营".encode() not in content, path.name
        assert "水管爆了".encode() not in content, path.name


def test_calibration_round_trips_and_weighs_both_parts() -> None:
    item = HeadCalibration(1.5, 0.5, 3.0, 1.0, 0.8, 0.6, 100, {"较急": 0.3})
    made = Calibration(0.95, {"joined": {"unit": item}})
    assert Calibration.from_json(json.loads(json.dumps(made.to_json()))) == made
    encoder, lexical = np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 2.0]], np.float32)
    platt = 0.5 * np.log(1 / (1 + np.exp(-(lexical * 3.0 + 1.0))))
    assert np.allclose(
        item.apply(encoder, lexical), softmax((encoder * 1.5 + platt).astype(np.float32)), atol=1e-6
    )
    with pytest.raises(ModelError, match="expected one of the calibrated parts joined"):
        made.of("encoder", "unit")


def test_registry_adds_promotes_and_rolls_back(folder: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    with pytest.raises(RegistryError, match="promote it first"):
        registry.champion()
    added = registry.add(folder)
    with pytest.raises(RegistryError, match="versions never change"):
        registry.add(folder)
    registry.promote(added.name)
    assert registry.champion() == added
    assert [(entry.version, entry.champion) for entry in registry.entries()] == [(added.name, True)]
    with pytest.raises(RegistryError, match="expected one of"):
        registry.promote("nothing")
    assert registry.champion() == added


def test_a_damaged_model_is_not_added(folder: Path, tmp_path: Path) -> None:
    copy = copied(folder, tmp_path / "broken")
    (copy / "scores.json").write_text("{}")
    with pytest.raises(ModelError, match="damaged"):
        Registry(tmp_path / "registry").add(copy)
    assert Registry(tmp_path / "registry").entries() == []


def copied(folder: Path, target: Path) -> Path:
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_texts_answered_together_are_answered_as_each_alone(predictor: Predictor) -> None:
    texts = [
        "清水湾小区停水一天了",
        "凤凰路口小贩占道经营",
        "",
        "水",
        "路口小贩占道经营，" * 40,
        "没见过的话",
    ]
    for text, together in zip(texts, predictor.predict(texts), strict=True):
        (alone,) = predictor.predict([text])
        assert together.evidence == alone.evidence
        for head, shares in alone.probabilities.items():
            assert np.array_equal(together.probabilities[head], shares)


def test_evidence_is_what_spoke_for_the_answer(predictor: Predictor) -> None:
    text = "我们这里一切都好，只是昨天起小区停水一天了，其他没有什么"
    spans = predictor.predict([text])[0].evidence["unit"]
    assert 0 < len(spans) <= 3
    assert [span.start for span in spans] == sorted(span.start for span in spans)
    assert any("停水" in text[span.start : span.end] for span in spans)
    assert all(0 < span.weight <= 1 and span.end - span.start >= 2 for span in spans)


def test_nothing_is_tokenised_twice() -> None:
    def tokenizer() -> Tokenizer:
        words = {"[UNK]": 0, **{char: n for n, char in enumerate("路灯坏了", 1)}}
        made = Tokenizer(WordLevel(words, unk_token="[UNK]"))
        made.pre_tokenizer = Split("", "isolated")
        return made

    class Session:
        seen: ClassVar[list[list[int]]] = []

        def run(self, names: list[str], given: dict[str, Any]) -> tuple[Any, Any]:
            assert given["ids"].shape == given["mask"].shape == (1, 16)  # batches are padded in steps
            self.seen.append(given["ids"][given["mask"] == 1].tolist())
            return np.zeros((len(given["ids"]), 2), np.float32), np.zeros((len(given["ids"]), 3), np.float32)

    part = EncoderPart(Session(), tokenizer(), EncoderWindow("", 8, 8, 0))
    before = EncoderPart(Session(), tokenizer(), part.window)  # the champion that tokenised it
    tokens = part.tokenise("路灯坏了")
    assert (tokens.ids, len(tokens)) == ([1, 2, 3, 4], 4)
    part.run(["不是这些字"], [tokens])
    part.run(["路灯"], [before.tokenise("坏了")])
    part.run(["灯坏"])
    assert Session.seen == [[1, 2, 3, 4], [1, 2], [2, 3]]


def test_heads_side_by_side_are_calibrated_as_each_alone() -> None:
    heads = [
        (slice(0, 3), HeadCalibration(1.5, 0.5, 3.0, 1.0)),
        (slice(3, 12), HeadCalibration(0.7, 0.9, 4.0, 2.0)),
        (slice(12, 13), HeadCalibration(1.0, 1.0)),
    ]
    random = np.random.default_rng(0)
    encoder, lexical = random.normal(size=(2, 5, 13)).astype(np.float32) * 3
    side = SideBySide.of(heads)
    for one, other in ((encoder, lexical), (encoder, None), (None, lexical)):
        together = side.apply(one, other)
        for piece, head in heads:
            alone = head.apply(
                None if one is None else one[:, piece], None if other is None else other[:, piece]
            )
            assert np.array_equal(together[:, piece], alone)


def test_a_claim_sets_the_best_label_against_its_rivals() -> None:
    side = SideBySide.of([(slice(0, 3), HeadCalibration(1, 1)), (slice(3, 5), HeadCalibration(1, 1))])
    claims = side.claims(np.array([[0.1, 0.6, 0.3, 1.0, 0.0]], np.float32))
    assert np.allclose(claims, [[-0.25, 1.0, -0.75, 1.0, -1.0]], atol=1e-3)
