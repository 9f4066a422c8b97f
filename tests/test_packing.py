"""Texts laid end to end: the same answers as from padded rows, and other graphs are left as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from classifier.encoder import EncoderPart, load_encoder
from classifier.folder import EncoderWindow, open_folder
from classifier.packing import INPUTS, laid_out, packed
from classifier.registry import shipped_model
from classifier.session import Session

LENGTHS = ([1], [16], [17, 3], [58, 160, 5, 5], [160] * 4, [40, 33, 100, 7, 64, 90, 128, 12])


def texts_of(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    """Token ids of so many texts, each begun and ended as the tokenizer does."""
    random = np.random.default_rng(seed)
    return [random.integers(5, 20_000, length).tolist() for length in lengths]


@pytest.fixture(scope="module")
def folder() -> Path:
    return shipped_model()


@pytest.fixture(scope="module")
def packing(folder: Path) -> EncoderPart:
    window = open_folder(folder).manifest.window
    assert window is not None
    return load_encoder(folder, window, threads=1)


@pytest.fixture(scope="module")
def padding(folder: Path, packing: EncoderPart) -> EncoderPart:
    """The same graph as it lies in the file."""
    compiled = openvino.Core().compile_model(
        str(folder / "encoder.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    )

    class Plain:
        def run(self, outputs: Sequence[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            found = compiled(inputs)
            return [found[name] for name in outputs]

    return EncoderPart(Plain(), packing.tokenizer, packing.window)


def test_the_shipped_model_runs_without_padding(packing: EncoderPart, padding: EncoderPart) -> None:
    assert packing.packs and not padding.packs


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_answers_are_those_of_padded_rows(
    packing: EncoderPart, padding: EncoderPart, lengths: list[int]
) -> None:
    texts = texts_of(lengths)
    for ours, theirs in zip(packing._batch(texts), padding._batch(texts), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_answer_does_not_depend_on_the_texts_beside_it(packing: EncoderPart) -> None:
    texts = texts_of([40, 33, 100, 7])
    together, _ = packing._batch(texts)
    alone = np.concatenate([packing._batch([text])[0] for text in texts])
    np.testing.assert_array_equal(together, alone)


def test_every_token_is_where_it_is_told_to_be() -> None:
    texts = texts_of([20, 3, 31])
    given = laid_out(texts, padding=1)
    assert tuple(given) == INPUTS
    longest = given["place"].shape[1]
    assert given["ids"].shape == given["positions"].shape == (1, 64) and longest == 32
    for number, text in enumerate(texts):
        places = given["place"][number, : len(text)]
        assert given["ids"][0, places].tolist() == text
        assert given["positions"][0, places].tolist() == list(range(len(text)))
        assert (given["back"][places] == number * longest + np.arange(len(text))).all()
        assert given["mask"][number].sum() == len(text) and given["first"][number] == places[0]
    assert (given["ids"][0, 54:] == 1).all()  # what rounds it up


def encoder_of_another_kind() -> openvino.Model:
    """Ids and mask in, one number a text out, and nothing of what is known of a BERT."""
    ids = ops.parameter([-1, -1], np.int64, name="ids")
    mask = ops.parameter([-1, -1], np.int64, name="mask")
    for one in (ids, mask):
        one.output(0).set_names({one.get_friendly_name()})
    table = ops.constant(np.arange(60, dtype=np.float32).reshape(20, 3))
    states = ops.gather(table, ids, ops.constant(np.array(0)))
    seen = ops.multiply(states, ops.unsqueeze(ops.convert(mask, "f32"), ops.constant(np.array([2]))))
    summed = ops.reduce_sum(seen, ops.constant(np.array([1])))
    summed.output(0).set_names({"logits", "pooled"})
    return openvino.Model([summed], [ids, mask], "other")


def test_another_graph_is_left_to_padded_rows(tmp_path: Path, packing: EncoderPart) -> None:
    assert packed(encoder_of_another_kind()) is None
    openvino.save_model(encoder_of_another_kind(), tmp_path / "encoder.xml", compress_to_fp16=False)
    session = Session(tmp_path / "encoder.xml", 1)
    assert not session.packs
    part = EncoderPart(session, packing.tokenizer, EncoderWindow("", 8, 8, 0), session.packs)
    sums, _ = part._batch([[1, 2], [3]])
    assert sums.tolist() == [[9, 11, 13], [9, 10, 11]]
