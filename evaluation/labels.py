"""At which granularity a file's labels can be scored.

A row's label of a head is the set of leaf codes that are admissible for it. Three cases:

- ``leaf``: every label is one leaf. Ordinary multi-class scoring.
- ``groups``: some labels are sets, and no two different ones share a leaf (urgent against the rest, whole
  branches of a tree). The sets are the classes; the model's probability of a class is the sum over its
  leaves, and its answer is the class with the most. Leaves in no set stay classes of their own.
- ``admissible``: different labels overlap, so there are no classes. An answer is right if the leaf is in
  the row's set; F1 and its kin are not defined and are not reported.

A code that the model does not know keeps its place among the labels and can never be answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from data.scheme import Head, Scheme

__all__ = ["Bools", "Floats", "Granularity", "Ints", "LabelSet", "LabelSpace", "label_space", "urgent_codes"]

Granularity = Literal["leaf", "groups", "admissible"]
LabelSet = frozenset[str]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_FIRST_URGENT = "较急"
_SHOWN = 4  # members of a set that are written out in its name


@dataclass(frozen=True)
class LabelSpace:
    """The labels of a file for one head, and what the model can answer to them.

    ``golds``: the different labels, most frequent first. ``outputs``: what can be answered; for ``leaf``
    and ``groups`` the golds come first in the same order, for ``admissible`` they are the model's leaves.
    """

    head: Head
    granularity: Granularity
    golds: tuple[LabelSet, ...]
    outputs: tuple[LabelSet, ...]
    gold_names: tuple[str, ...]
    gold_titles: tuple[str, ...]
    output_names: tuple[str, ...]
    output_titles: tuple[str, ...]

    @cached_property
    def hits(self) -> Bools:
        """[golds, outputs]: whether the output is right for the label."""
        if self.granularity != "admissible":
            return np.eye(len(self.golds), len(self.outputs), dtype=np.bool_)
        return np.array([[output <= gold for output in self.outputs] for gold in self.golds], dtype=np.bool_)

    @cached_property
    def members(self) -> Floats:
        """[leaves of the head, outputs]: 1 where the leaf belongs to the output."""
        column = {code: j for j, output in enumerate(self.outputs) for code in output}
        matrix = np.zeros((len(self.head.codes), len(self.outputs)))
        for i, code in enumerate(self.head.codes):
            matrix[i, column[code]] = 1.0
        return matrix

    @cached_property
    def leaf_hits(self) -> Bools:
        """[golds, leaves of the head]: whether the leaf is in the label's set."""
        rows = [[code in gold for code in self.head.codes] for gold in self.golds]
        return np.array(rows, dtype=np.bool_).reshape(len(self.golds), len(self.head.codes))

    @cached_property
    def index(self) -> dict[LabelSet, int]:
        """Position of each label in ``golds``."""
        return {gold: i for i, gold in enumerate(self.golds)}

    @property
    def unknown(self) -> tuple[int, ...]:
        """Labels without a single code that the model knows: always counted as wrong."""
        return tuple(i for i, row in enumerate(self.leaf_hits) if not row.any())


def label_space(head: Head, scheme: Scheme, labels: Sequence[LabelSet]) -> LabelSpace:
    """The space that the given labels (one per row) of a head span; see the module's text for the rule."""
    counts = Counter(labels)
    golds = tuple(sorted(counts, key=lambda label: (-counts[label], sorted(label))))
    granularity = _granularity(golds)
    outputs = _outputs(head, golds, granularity)
    nodes = _inner_nodes(head, scheme)
    gold_named = [_named(gold, head, scheme, nodes) for gold in golds]
    named = [_named(output, head, scheme, nodes) for output in outputs]
    return LabelSpace(
        head,
        granularity,
        golds,
        outputs,
        tuple(name for name, _ in gold_named),
        tuple(title for _, title in gold_named),
        tuple(name for name, _ in named),
        tuple(title for _, title in named),
    )


def urgent_codes(head: Head) -> frozenset[str]:
    """Codes of an urgency head from 较急 on; where it has no such level, all but the lowest."""
    start = head.codes.index(_FIRST_URGENT) if _FIRST_URGENT in head.codes else 1
    return frozenset(head.codes[start:])


def _granularity(golds: Sequence[LabelSet]) -> Granularity:
    if all(len(gold) == 1 for gold in golds):
        return "leaf"
    union = frozenset[str]().union(*golds)
    return "groups" if sum(map(len, golds)) == len(union) else "admissible"


def _outputs(head: Head, golds: tuple[LabelSet, ...], granularity: Granularity) -> tuple[LabelSet, ...]:
    if granularity == "admissible":
        return tuple(frozenset([code]) for code in head.codes)
    covered = frozenset[str]().union(*golds)
    return golds + tuple(frozenset([code]) for code in head.codes if code not in covered)


def _inner_nodes(head: Head, scheme: Scheme) -> dict[LabelSet, tuple[str, str]]:
    """Set of leaves → code and name of the tree's node that has exactly these."""
    if head.kind != "tree" or head.name not in scheme.labels:
        return {}
    known = frozenset(head.codes)
    inner = [one for code, one in scheme.labels[head.name].items() if code not in known]
    return {scheme.leaves(head.name, one.code): (one.code, one.name) for one in inner}


def _named(
    label: LabelSet, head: Head, scheme: Scheme, nodes: dict[LabelSet, tuple[str, str]]
) -> tuple[str, str]:
    if len(label) > 1 and label in nodes:
        return nodes[label]
    order = {code: i for i, code in enumerate(head.codes)}
    codes = sorted(label, key=lambda code: (order.get(code, len(order)), code))
    return _joined([code[:40] for code in codes]), _joined([_title(code, head)[:40] for code in codes])


def _title(code: str, head: Head) -> str:
    return head.names.get(code, code)


def _joined(parts: list[str]) -> str:
    shown = "+".join(parts[:_SHOWN])
    return shown if len(parts) <= _SHOWN else f"{shown}+… ({len(parts)})"
