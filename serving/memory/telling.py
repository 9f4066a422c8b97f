"""What an answer says of the look-alikes it followed, and when a person must look because of them.

The thresholds of automatic dispatch were calibrated on the model's own probabilities. Measured on held-out
appeals, what look-alikes lift over a threshold is wrong more often than the threshold allows: so they may
lower confidence, and change what is suggested to a person, but dispatch nothing by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from classifier.neighbours import Adjusted
from serving.decision import Action, Reason
from serving.messages import Told

__all__ = ["doubts", "told"]


def doubts(adjusted: Adjusted, changed: Sequence[str], alone: Action, together: Action) -> tuple[Reason, ...]:
    """Why a person should look first: none where the model alone decides and says the same.

    `changed` are the names of the heads that are answered otherwise; `alone` and `together` what would be
    done without and with the look-alikes.
    """
    count = len({vote.neighbour.corrected.number for vote in adjusted.votes})
    if changed:
        heads = "、".join(changed)
        said = f"参考{count}条已复核的相似诉求后，{heads}与模型单独判断不同，需人工复核"
        return (Reason("memory_changed", said),)
    if together == "auto_dispatch" != alone:
        said = f"模型单独把握不足；{count}条相似诉求的复核结果支持该判断，但不能据此自动派单"
        return (Reason("memory_unproven", said),)
    if alone == "auto_dispatch" != together:
        said = f"{count}条相似诉求的复核结果与模型不一致，把握因此降低，需人工复核"
        return (Reason("memory_doubt", said),)
    return ()


def told(adjusted: Adjusted, name: Callable[[str, str], str]) -> list[Told]:
    """The votes in the API's words (MemoryOut); `name(head, code)` is a label's name."""
    return [
        {
            "appeal_id": vote.neighbour.corrected.id,
            "similarity": vote.neighbour.similarity,
            "head": vote.head,
            "code": vote.code,
            "name": name(vote.head, vote.code),
            "weight": vote.weight,
        }
        for vote in adjusted.votes
    ]
