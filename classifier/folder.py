"""The model folder: everything one model version needs, immutable once written.

    manifest.json        version, heads, encoder window, sha256 of every file
    scheme.yaml          the label scheme the heads were trained for
    encoder.onnx         ids, mask [batch, tokens] → logits [batch, outputs], pooled [batch, hidden]
    tokenizer.json       Hugging Face tokenizers file
    lexical.safetensors  hashed n-gram weights
    calibration.json     part weights and thresholds per head
    scores.json          what was measured on held-out rows, and label counts of the training rows
    config.toml          the training configuration
    README.md            the model card

A folder may lack the encoder (a linear baseline) or the lexical part (an encoder alone).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from classifier.calibration import Calibration
from classifier.errors import ModelError
from classifier.ngrams import Features
from data.errors import SchemeError
from data.scheme import Head, Scheme

__all__ = [
    "FORMAT",
    "EncoderWindow",
    "Manifest",
    "ModelFolder",
    "file_hashes",
    "open_folder",
    "write_manifest",
]

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class EncoderWindow:
    """How a text enters the encoder, and how its vector leaves it.

    The prompt before the text, how many tokens of its start and end, and whether the vector is the ``mean``
    of its tokens' or that of the ``first``.
    """

    prompt: str
    head_tokens: int
    tail_tokens: int
    pad_id: int
    pooling: Literal["mean", "first"] = "mean"


@dataclass(frozen=True)
class Manifest:
    """What a model folder says of itself. ``heads`` maps each head to its leaf codes in output order."""

    version: str
    created: str
    heads: Mapping[str, tuple[str, ...]]
    window: EncoderWindow | None
    features: Features | None
    files: Mapping[str, str]
    known_answer: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "format": FORMAT,
            "version": self.version,
            "created": self.created,
            "heads": {name: list(codes) for name, codes in self.heads.items()},
            "encoder": vars(self.window) if self.window else None,
            "lexical": vars(self.features) if self.features else None,
            "known_answer": dict(self.known_answer),
            "origin": dict(self.origin),
            "files": dict(self.files),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Manifest:
        """Back from JSON; KeyError or TypeError when it isn't one."""
        return cls(
            version=content["version"],
            created=content["created"],
            heads={name: tuple(codes) for name, codes in content["heads"].items()},
            window=EncoderWindow(**content["encoder"]) if content["encoder"] else None,
            features=Features(**content["lexical"]) if content["lexical"] else None,
            files=content["files"],
            known_answer=content.get("known_answer", {}),
            origin=content.get("origin", {}),
        )


@dataclass(frozen=True)
class ModelFolder:
    """An opened and verified folder."""

    path: Path
    manifest: Manifest
    scheme: Scheme
    heads: Mapping[str, Head]
    calibration: Calibration
    scores: Mapping[str, Any]


def open_folder(path: Path, verify: bool = True) -> ModelFolder:
    """Read the small files of a model folder and check the hashes of all.

    Raises ModelError that says which file is missing, damaged or of another format.
    """
    content = _json(path / MANIFEST)
    if content.get("format") != FORMAT:
        raise ModelError(f"{path / MANIFEST}: expected format {FORMAT}, got {content.get('format')!r}")
    try:
        manifest = Manifest.from_json(content)
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"{path / MANIFEST}: expected a manifest of format {FORMAT}, missing: {error}"
        ) from error
    if verify:
        _verify(path, manifest)
    scheme = _scheme(path / "scheme.yaml")
    return ModelFolder(
        path=path,
        manifest=manifest,
        scheme=scheme,
        heads=_heads(path, manifest, scheme),
        calibration=Calibration.from_json(_json(path / "calibration.json")),
        scores=_json(path / "scores.json"),
    )


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write manifest.json, last of all files: a folder without it is not a model."""
    text = json.dumps(manifest.to_json(), ensure_ascii=False, indent=1)
    (path / MANIFEST).write_text(text + "\n", encoding="utf-8")


def file_hashes(path: Path) -> dict[str, str]:
    """sha256 of every file of a folder but the manifest, by name."""
    names = sorted(item.name for item in path.iterdir() if item.is_file() and item.name != MANIFEST)
    return {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in names}


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path}: expected this file of a model folder, found none") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: expected JSON, could not read it: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def _verify(path: Path, manifest: Manifest) -> None:
    for name, expected in manifest.files.items():
        try:
            got = hashlib.sha256((path / name).read_bytes()).hexdigest()
        except OSError as error:
            raise ModelError(
                f"{path / name}: expected this file of model {manifest.version}: {error}"
            ) from error
        if got != expected:
            raise ModelError(
                f"{path / name}: expected sha256 {expected[:12]}…, got {got[:12]}…: the file is damaged; "
                f"restore model {manifest.version} from where it was exported"
            )


def _scheme(path: Path) -> Scheme:
    try:
        return Scheme.load(path)
    except (SchemeError, OSError) as error:
        raise ModelError(f"{path}: the model's label scheme can't be read: {error}") from error


def _heads(path: Path, manifest: Manifest, scheme: Scheme) -> dict[str, Head]:
    heads: dict[str, Head] = {}
    for name, codes in manifest.heads.items():
        if name not in scheme.heads:
            raise ModelError(f"{path}: head {name!r} is not in its scheme.yaml ({', '.join(scheme.heads)})")
        known = scheme.heads[name]
        names = {code: known.names.get(code, code) for code in codes}
        heads[name] = Head(name=name, kind=known.kind, codes=codes, names=names, title=known.title)
    return heads
