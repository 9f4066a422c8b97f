"""An encoder's graph rewritten so that a batch holds its texts end to end, without padding.

As exported, a graph takes texts as rows padded to the longest: with hotline orders a seventh of all its
products are done for padding. All that an encoder does is done for each token alone, but for three things:
attention, a token's position, and the first token that speaks for the text. So the texts are laid end to
end in one row; where attention begins, tokens are gathered into rows as before, and put back where it ends.
Nothing else changes: the answers are the same to the last bit, and the file stays a plain ONNX graph.

Only a BERT whose text vector is its first token's is rewritten; any other graph is run as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino
from openvino import opset13 as ops

__all__ = ["INPUTS", "laid_out", "packed"]

I64 = npt.NDArray[np.int64]
_INPUTS = (  # name, rank, type
    ("ids", 2, np.int64),
    ("positions", 2, np.int64),
    ("place", 2, np.int64),
    ("mask", 2, np.bool_),
    ("back", 1, np.int64),
    ("first", 1, np.int64),
)
INPUTS = tuple(name for name, *_ in _INPUTS)
STEP = 16  # tokens of all texts together, and of the longest one, are rounded up: the runtime makes code for
COARSE = 32  # every shape anew and keeps it; above FINE tokens the waste of a coarser step is as small
FINE = 256
TOKENS = 1  # the axis of them in states [1, tokens, hidden]


class _Unlike(Exception):
    """The graph has not the form that is known here."""


def packed(model: openvino.Model) -> openvino.Model | None:
    """The graph with inputs ``INPUTS`` as ``laid_out`` gives them, or None where it has another form.

    ``model`` takes ``ids`` and ``mask`` [texts, tokens]; it must not be used afterwards.
    """
    try:
        return _rewritten(model)
    except (_Unlike, RuntimeError):  # the library's own, where a node has not the shape that was asked for
        return None


def laid_out(texts: Sequence[Sequence[int]], padding: int) -> dict[str, npt.NDArray[Any]]:
    """The inputs for texts of so many token ids each.

    ``ids`` and ``positions`` [1, all tokens]; ``place`` [texts, longest]: where in the row each token
    stands; ``mask`` the same shape: which of them there are; ``back`` [all tokens]: where each stands in
    the rows of ``place`` laid end to end; ``first`` [texts]: where each text begins.
    """
    lengths = np.array([len(ids) for ids in texts], np.int64)
    total, longest = int(lengths.sum()), _rounded(int(lengths.max()), STEP)
    width = _rounded(total, STEP if total <= FINE else COARSE)
    first = np.cumsum(lengths) - lengths
    column = np.arange(longest, dtype=np.int64)
    mask = column < lengths[:, None]
    row, position = np.nonzero(mask)
    ids, positions, back = np.full((1, width), padding, np.int64), *np.zeros((2, 1, width), np.int64)
    ids[0, :total] = np.concatenate([np.asarray(some, np.int64) for some in texts])
    positions[0, :total] = position
    back[0, :total] = row * longest + position
    place = np.where(mask, first[:, None] + column, 0)
    return {
        "ids": ids, "positions": positions, "place": place, "mask": mask, "back": back[0], "first": first,
    }  # fmt: skip


def _rounded(number: int, step: int) -> int:
    return -(-number // step) * step


def _rewritten(model: openvino.Model) -> openvino.Model:
    nodes = list(model.get_ordered_ops())
    new = {
        name: ops.parameter([1, -1] if name in ("ids", "positions") else [-1] * rank, kind, name=name)
        for name, rank, kind in _INPUTS
    }
    for name, parameter in new.items():
        parameter.output(0).set_names({name})
    ids = _the_one(one.get_node() for one in model.inputs if "ids" in one.get_names())
    hidden = _embed(nodes, ids, new["positions"])
    _hide(nodes, new["mask"])
    _attend(nodes, hidden, new["place"], new["back"])
    _take_first(nodes, hidden, new["first"])
    ids.output(0).replace(new["ids"].output(0))
    return _complete(model, [new[name] for name in INPUTS])


def _embed(nodes: Sequence[Any], ids: Any, positions: Any) -> int:
    """Let a token's position be told; returns the width of the states."""
    tables = [
        node
        for node in _of(nodes, "Gather")
        if _rank(node.input_value(0)) == 2 and _rank(node.output(0)) == 3
    ]
    words = _the_one(node for node in tables if _source(node, 1) is ids)
    told = _the_one(node for node in tables if _source(node, 1).get_type_name() == "Slice")
    table = _constant(_source(_source(told, 1), 0)).ravel()
    _known(np.array_equal(table, np.arange(len(table))))
    told.input(1).replace_source_output(positions.output(0))
    for node in tables:  # of what kind a token is: with one text a line, all are of the first kind
        if node is not words and node is not told:
            _known(not _constant(_first_source(_source(node, 1))).any())
            node.input(1).replace_source_output(ops.constant(np.zeros((1, 1), np.int64)).output(0))
    hidden = int(words.get_output_partial_shape(0)[2].get_length())
    words.output(0).replace(_looked_up(_source(words, 0), _source(words, 1)).output(0))
    return hidden


def _looked_up(table: Any, ids: Any) -> Any:
    """Rows of a table: only they are made into floats, the runtime would keep a copy of the whole table."""
    kind = table.get_type_name()
    if kind == "Convert":
        return ops.convert(_looked_up(_source(table, 0), ids), table.get_destination_type())
    if kind in ("Subtract", "Multiply"):
        make = ops.subtract if kind == "Subtract" else ops.multiply
        return make(*(_looked_up(_source(table, port), ids) for port in (0, 1)))
    if kind == "Reshape":  # a number for each row, [rows] → [rows, 1]
        return ops.unsqueeze(_looked_up(_source(table, 0), ids), ops.constant(np.array([-1])))
    _known(kind == "Constant" and _rank(table.output(0)) > 0)
    return ops.gather(table, ids, ops.constant(np.array(0)))


def _hide(nodes: Sequence[Any], mask: Any) -> None:
    """Let attention see the tokens that ``mask`` tells, and no other."""
    bias = _the_one(node for node in _of(nodes, "Select") if _rank(node.output(0)) == 4)
    seen, hidden = _constant(_source(bias, 1)), _constant(_source(bias, 2))
    _known(not seen.any() and bool((hidden < -1e4).all()))
    rows = ops.unsqueeze(mask, ops.constant(np.array([1, 2])))
    bias.input(0).replace_source_output(rows.output(0))


def _attend(nodes: Sequence[Any], hidden: int, place: Any, back: Any) -> None:
    """Gather tokens into rows of one text each where heads are split, and put them back where they join."""
    rows = ops.shape_of(place)
    for node in _of(nodes, "Reshape"):
        states = node.input_value(0)
        if _source(node, 1).get_type_name() == "Constant":
            continue  # of the first token alone
        if _rank(node.output(0)) == 4 and _rank(states) == 3:
            size = node.get_output_partial_shape(0)[3].get_length()
            shape = ops.concat([rows, ops.constant(np.array([hidden // size, size]))], 0)
            heads = ops.reshape(_gathered(states, place), shape, special_zero=False)
            node.output(0).replace(heads.output(0))
        elif _rank(node.output(0)) == 3 and _rank(states) == 4:
            row = ops.reshape(states, ops.constant(np.array([1, -1, hidden])), special_zero=False)
            node.output(0).replace(_gathered(row, back).output(0))


def _take_first(nodes: Sequence[Any], hidden: int, first: Any) -> None:
    """Let the last layer work for the first token of every text."""
    cut = _the_one(node for node in _of(nodes, "Slice") if _rank(node.output(0)) == 3)
    start, stop, step, axis = (_constant(_source(cut, port)).tolist() for port in (1, 2, 3, 4))
    _known((start, stop, step, axis) == ([0], [1], [1], [TOKENS]))
    shape = ops.constant(np.array([-1, 1, hidden]))
    taken = ops.reshape(_gathered(cut.input_value(0), first), shape, special_zero=False)
    cut.output(0).replace(taken.output(0))


def _complete(model: openvino.Model, inputs: list[Any]) -> openvino.Model:
    """The graph of the results as they now hang together, if nothing in it still asks for the old inputs."""
    made = openvino.Model(model.get_results(), inputs, "packed")  # RuntimeError for an input not among them
    for node in _of(made.get_ordered_ops(), "ShapeOf"):  # all but this one have another shape now
        _known(_source(node, 0).get_friendly_name() == "place")
    made.validate_nodes_and_infer_types()
    return made


def _gathered(states: Any, index: Any) -> Any:
    return ops.gather(states, index, ops.constant(np.array(TOKENS)))


def _of(nodes: Iterable[Any], kind: str) -> Iterator[Any]:
    return (node for node in nodes if node.get_type_name() == kind)


def _source(node: Any, port: int) -> Any:
    return node.input_value(port).get_node()


def _first_source(node: Any) -> Any:
    """What a chain of nodes begins with, each one's first input followed."""
    while node.get_input_size():
        node = _source(node, 0)
    return node


def _constant(node: Any) -> npt.NDArray[Any]:
    _known(node.get_type_name() == "Constant")
    data: npt.NDArray[Any] = node.data
    return data


def _rank(output: Any) -> int:
    """The number of an output's axes, -1 where it is not known."""
    rank = output.get_partial_shape().rank
    return int(rank.get_length()) if rank.is_static else -1


def _the_one(found: Iterable[Any]) -> Any:
    some = list(found)
    _known(len(some) == 1)
    return some[0]


def _known(holds: bool) -> None:
    if not holds:
        raise _Unlike
