"""Stage four of a run: write the immutable model folder that serves."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
import tomllib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from classifier.calibration import Calibration
from classifier.folder import EncoderWindow, Manifest, file_hashes, write_manifest
from classifier.lexical import LexicalPart
from classifier.network import Network, pool
from classifier.predictor import Predictor
from data.cleaning import prepare
from data.scheme import Scheme
from training.encoder_stage import TrainedEncoder
from training.quantise import quantised

__all__ = ["KNOWN_TEXT", "Parts", "export_encoder", "write_model"]

KNOWN_TEXT = "小区门口的自来水管爆裂，水已经漫到马路上，附近几栋楼都停水了，请尽快派人抢修。"


@dataclass(frozen=True)
class Parts:
    """What goes into a model folder; an absent part is None."""

    encoder: TrainedEncoder | None
    lexical: LexicalPart | None
    heads: Mapping[str, Sequence[str]]
    scheme: Scheme


class _Exported(nn.Module):
    """The network as it is exported: one logits matrix and the pooled embedding."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.encoder, self.pooling = network.encoder, network.pooling
        heads = [head for head in network.heads.values() if isinstance(head, nn.Linear)]
        self.head = nn.Linear(heads[0].in_features, sum(h.out_features for h in heads))
        self.head.weight = nn.Parameter(torch.cat([h.weight for h in heads]))
        self.head.bias = nn.Parameter(torch.cat([h.bias for h in heads]))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = pool(states, mask, self.pooling)
        return self.head(pooled), pooled


def export_encoder(trained: TrainedEncoder, folder: Path, quantise: bool) -> None:
    """Write encoder.onnx (products in 8 bits if ``quantise``) and tokenizer.json."""
    network = trained.network.to("cpu").eval()
    trained.base.model.set_attn_implementation("eager")  # type: ignore[operator]
    module = _Exported(network).eval()
    ids = torch.full((2, 24), trained.window.pad_id, dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    with tempfile.TemporaryDirectory() as scratch, torch.no_grad(), _quiet_exporter():
        program = torch.onnx.export(
            module,
            (ids, mask),
            input_names=["ids", "mask"],
            output_names=["logits", "pooled"],
            dynamic_shapes=(sizes, sizes),
            dynamo=True,
            opset_version=18,
            verbose=False,
        )
        assert program is not None  # dynamo=True always gives one
        plain = Path(scratch) / "plain.onnx"
        program.save(str(plain))
        _without_shapes(plain)
        target = folder / "encoder.onnx"
        if quantise:
            quantised(plain, target, [_fed(ids) for ids in trained.sample])
        else:
            shutil.copy(plain, target)
    trained.base.tokenizer.save(str(folder / "tokenizer.json"))


def _fed(ids: Sequence[int]) -> dict[str, np.ndarray]:
    """One text as the exported graph takes it, by the names of its inputs."""
    tokens = np.array([ids], np.int64)
    return {"ids": tokens, "mask": np.ones_like(tokens)}


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the exporter's remarks on its own future, and on packages it would like, off the screen."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "root")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _without_shapes(path: Path) -> None:
    """Drop the exporter's notes on inner shapes: the quantiser infers its own, and the two disagree."""
    model = onnx.load(str(path))
    del model.graph.value_info[:]
    onnx.save(model, str(path))


def write_model(
    folder: Path,
    parts: Parts,
    calibration: Calibration,
    scores: Mapping[str, Any],
    config_toml: str,
    origin: Mapping[str, Any],
    name: str,
) -> str:
    """Write everything but the ONNX file (see export_encoder) and seal the folder. Returns the version."""
    parts.scheme.dump(folder / "scheme.yaml")
    if parts.lexical is not None:
        parts.lexical.save(folder / "lexical.safetensors")
    _json(folder / "calibration.json", calibration.to_json())
    _json(folder / "scores.json", scores)
    tomllib.loads(config_toml)
    (folder / "config.toml").write_text(config_toml, encoding="utf-8")
    window: EncoderWindow | None = parts.encoder.window if parts.encoder else None
    now = datetime.now(UTC)
    content = hashlib.sha256("".join(sorted(file_hashes(folder).values())).encode()).hexdigest()[:8]
    manifest = Manifest(
        version=f"{name}-{now:%Y%m%d}-{content}",
        created=now.isoformat(timespec="seconds"),
        heads={head: tuple(codes) for head, codes in parts.heads.items()},
        window=window,
        features=parts.lexical.features if parts.lexical else None,
        files={},
        origin=origin,
    )
    (folder / "README.md").write_text(model_card(manifest, scores), encoding="utf-8")
    manifest = replace(manifest, files=file_hashes(folder))
    write_manifest(folder, manifest)
    write_manifest(folder, replace(manifest, known_answer=_known_answer(folder)))
    return manifest.version


def _known_answer(folder: Path) -> dict[str, Any]:
    text = prepare(KNOWN_TEXT).text
    prediction = Predictor.load(folder).predict([text], evidence=False)[0]
    best = {head: prediction.top(head)[0] for head in prediction.probabilities}
    return {
        "text": text,
        "labels": {h: {"code": c, "probability": round(p, 4)} for h, (c, p) in best.items()},
    }


def _json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def model_card(manifest: Manifest, scores: Mapping[str, Any]) -> str:
    """The model card: what it is, what it was trained on, what was measured, what it is not for."""
    lines = [
        f"# {manifest.version}",
        "",
        "A classifier of residents' appeals to a Chinese city's 12345 hotline. It answers prepared text with",
        f"calibrated probabilities for the heads {', '.join(manifest.heads)}.",
        "",
        "## Made from",
        "",
        *[f"- {key}: {value}" for key, value in manifest.origin.items() if not isinstance(value, dict)],
        "",
        "## Measured on held-out rows",
        "",
        f"{scores.get('held_out', '')}",
        "",
        "| head | part | rows | accuracy | macro-F1 | top-3 | ECE | share at 95 % |",
        "|---|---|---|---|---|---|---|---|",
        *[_score_line(item) for item in scores.get("heads", [])],
        "",
        "## Not for",
        "",
        "Deciding about persons, or refusing an appeal: a person can always ask for a person. Probabilities",
        "are calibrated for texts like those it was trained on: measure on rows of your own before it may",
        "dispatch (`python -m evaluation report`).",
        "",
    ]
    return "\n".join(lines)


def _score_line(item: Mapping[str, Any]) -> str:
    def shown(key: str) -> str:
        value = item.get(key)
        return "–" if value is None else f"{value:.3f}"

    keys = ("accuracy", "macro_f1", "top_3", "ece", "share_at_target")
    return f"| {item['head']} | {item['part']} | {item['rows']} | " + " | ".join(map(shown, keys)) + " |"
