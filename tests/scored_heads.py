"""A tree of two branches, and rows of it that are scored."""

from __future__ import annotations

import numpy as np

from data.appeals import Row
from data.scheme import Head, Scheme
from evaluation.scoring import Answers, Scored, score_head

SEEDS = range(6)

TREE = """
name: three
version: "1"
categories:
  - code: A
    name: 甲
    children: [{code: A1, name: 甲一}, {code: A2, name: 甲二}]
  - code: B
    name: 乙
    children: [{code: B1, name: 乙一}, {code: B2, name: 乙二}]
urgency_levels:
  - {code: 一般, name: 一般, clocks: {result: 5 working days}}
  - {code: 较急, name: 较急, clocks: {result: 3 working days}}
  - {code: 紧急, name: 紧急, clocks: {result: 24 h}}
"""


def tree() -> Scheme:
    return Scheme.parse(TREE, "three.yaml")


def row(head: str, *codes: str, group: str = "") -> Row:
    return Row(id="x", text="路灯坏了", labels={head: frozenset(codes)}, group=group)


def answered(head: Head, probabilities: list[list[float]]) -> Answers:
    matrix = np.array(probabilities)
    return Answers("m", "joined", {head.name: head}, {head.name: matrix}, np.full(len(matrix), 4))


def scored(head: str, rows: list[Row], probabilities: list[list[float]]) -> Scored:
    scheme = tree()
    return score_head(rows, head, answered(scheme.heads[head], probabilities), scheme)
