"""A small model folder for tests, trained in a second on texts written here."""

from __future__ import annotations

from pathlib import Path

from classifier.calibration import Calibration
from data.appeals import Row
from data.scheme import Scheme
from training.calibrate import fit_calibration
from training.config import LexicalConfig
from training.dataset import Dataset, build_dataset
from training.export import Parts, write_model
from training.lexical_stage import train_lexical

SCHEME = """
name: toy
version: '1'
units: [{code: water, name: 供水公司}, {code: police, name: 公安局}, {code: city, name: 城管局}]
extra_heads:
- name: urgent
  labels: ['0', '1']
"""
PLACES = ["东湖", "西岭", "南塘", "北坡", "中兴", "长安", "云溪", "丰泽", "白石", "青山", "龙泉", "柳林"]
TEXTS = {
    "water": ["{}小区停水一天了", "{}路水管爆了一直漏水", "{}村自来水发黄有味", "{}苑水费多收了想查表"],
    "police": ["{}路有人打架请派出所来", "{}小区电动车被偷要报警", "{}街半夜有人砸玻璃", "{}村有人赌博扰民"],
    "city": ["{}路口小贩占道经营", "{}街垃圾堆了三天没人清", "{}小区楼下烧烤油烟大", "{}路广告牌乱贴"],
}


def toy_rows() -> list[Row]:
    """144 rows; urgent is 1 where someone is being hurt or water runs out, and missing on each third row."""
    rows = []
    for unit, forms in TEXTS.items():
        for f, form in enumerate(forms):
            for p, place in enumerate(PLACES):
                labels = {"unit": frozenset([unit])}
                if p % 3:
                    labels["urgent"] = frozenset(["1" if f in (0, 1) and unit != "city" else "0"])
                rows.append(
                    Row(f"{unit}{f}{p}", form.format(place), labels=labels, group=f"{place}-{unit}{f}")
                )
    return rows


def toy_dataset() -> tuple[Scheme, Dataset]:
    scheme = Scheme.parse(SCHEME)
    heads = {name: head.codes for name, head in scheme.heads.items()}
    return scheme, build_dataset(toy_rows(), heads)


def toy_model(folder: Path, config: LexicalConfig | None = None) -> Path:
    """A lexical-only model folder at ``folder``."""
    scheme, dataset = toy_dataset()
    lexical = train_lexical(dataset, config or LexicalConfig(words=False, min_groups=1), lambda message: None)
    heads = {name: head.codes for name, head in scheme.heads.items()}
    parts = Parts(None, lexical, heads, scheme)
    folder.mkdir(parents=True)
    found = lexical.scores(lexical.read_all(dataset.texts))
    scores = {name: found[:, piece] for name, piece in lexical.slices.items()}
    calibration: Calibration = fit_calibration({"lexical": scores}, dataset.targets, 0.95)
    write_model(
        folder, parts, calibration, {"held_out": "none", "heads": []}, "", {"rows": len(dataset)}, "toy"
    )
    return folder
