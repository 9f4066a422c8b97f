"""Labelled rows, and a predictor that knows their truth and tells it as often as it is told to."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from classifier.calibration import Calibration, HeadCalibration
from classifier.errors import ModelError
from classifier.predictor import Prediction
from data.appeals import Row
from data.cleaning import prepare
from data.scheme import Head, Scheme, default_scheme
from tests.fakes import Stand

__all__ = ["LEVELS", "UNITS", "ScriptedPredictor", "labelled_rows", "rows_of_three_heads", "write_csv"]

SENTENCES = (
    "北门往东第{i}盏路灯又不亮，夜里走路心慌",
    "巷子里第{i}个垃圾桶满了没人收，苍蝇乱飞",
    "昨天第{i}次给窗口送材料，还是让我回去等",
    "广场舞音箱开到很响，孩子写作业写到第{i}页就写不下去，请派人来看看，我们这栋楼住着不少老人",
)

UNITS = ("gongan", "shuiwu", "chengguan", "renshe", "minzheng")
LEVELS = ("一般", "较急", "紧急")


def labelled_rows(count: int, head: str, codes: Sequence[str], seed: int = 0) -> list[Row]:
    """Rows with a label each, the first codes more often; three months, two sources, folds 0 to 7."""
    random = np.random.default_rng(seed)
    share = 1 / np.arange(1, len(codes) + 1)
    drawn = random.choice(len(codes), size=count, p=share / share.sum())
    return [
        Row(
            id=f"r{i}",
            text=SENTENCES[i % len(SENTENCES)].format(i=i),
            date=f"2031-0{1 + i % 3}-11",
            labels={head: frozenset([codes[place]])},
            source=("hotline", "web")[i % 2],
            group=f"g{i // 2}",
            fold=str(i // 2 % 8),
        )
        for i, place in enumerate(drawn.tolist())
    ]


def rows_of_three_heads(count: int = 160) -> list[Row]:
    scheme = default_scheme()
    heads = {"unit": UNITS, "urgency": LEVELS, "category": scheme.heads["category"].codes[:8]}
    made = [labelled_rows(count, head, codes, seed) for seed, (head, codes) in enumerate(heads.items())]
    return [
        Row(
            **{**vars(same[0]), "labels": {head: codes for one in same for head, codes in one.labels.items()}}
        )
        for same in zip(*made, strict=True)
    ]


def write_csv(path: Path, rows: Sequence[Row], heads: Sequence[str]) -> Path:
    """Rows in our own columns; several admissible codes joined by |."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "date", "group", "fold", *heads])
        for row in rows:
            labels = ["|".join(sorted(row.labels.get(head, ()))) for head in heads]
            writer.writerow([row.id, row.text, row.date, row.group, row.fold, *labels])
    return path


class ScriptedPredictor(Stand):
    """Right on the given share of texts per part; the same text always gets the same answer."""

    def __init__(
        self,
        rows: Sequence[Row],
        skill: Mapping[str, float] | None = None,
        *,
        scheme: Scheme | None = None,
        version: str = "scripted-1",
        seed: int = 0,
    ) -> None:
        self._skill = dict(skill or {"joined": 0.9, "encoder": 0.8, "lexical": 0.7})
        super().__init__(scheme, version)
        self._seed = seed
        self._truth = {prepare(row.text, row.title).text: row.labels for row in rows}

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self._skill)

    @property
    def calibration(self) -> Calibration:
        stored = {head: HeadCalibration(1, 1, threshold=0.7, cuts={"较急": 0.3}) for head in self.heads}
        return Calibration(0.95, dict.fromkeys(self._skill, stored))

    @property
    def card(self) -> Mapping[str, Any]:
        return {"version": self.version, "scores": {}}

    def predict(
        self, texts: Sequence[str], evidence: bool = True, part: str = "", tokens: object = None
    ) -> list[Prediction]:
        if part and part not in self._skill:
            raise ModelError(f"part: expected one of {', '.join(self._skill)}, got {part!r}")
        codes = {name: head.codes for name, head in self.heads.items()}
        skill = self._skill[part or self.default_part]
        return [
            Prediction(
                {name: self._answer(text, head, part, skill) for name, head in self.heads.items()}, codes
            )
            for text in texts
        ]

    def _answer(
        self, text: str, head: Head, part: str, skill: float
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        if head.name not in self._truth.get(text, {}):
            return np.full(len(head.codes), 1 / len(head.codes), dtype=np.float32)
        random = np.random.default_rng([self._seed, zlib.crc32(f"{part}|{head.name}|{text}".encode())])
        truth = [code for code in self._truth.get(text, {}).get(head.name, ()) if code in head.codes]
        knows = bool(truth) and random.random() < skill
        best = head.codes.index(min(truth)) if knows else int(random.integers(len(head.codes)))
        sure = random.uniform(0.6, 0.99) if knows else random.uniform(0.35, 0.8)
        shares = np.full(len(head.codes), (1 - sure) / (len(head.codes) - 1), dtype=np.float32)
        shares[best] = sure
        return shares
