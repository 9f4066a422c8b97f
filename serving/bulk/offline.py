"""Rows answered without a server: in one process, sorted by length, each batch within the usual limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from classifier.predictor import Prediction
from data.store import NewAppeal
from serving.answer import Understood, tell, understand
from serving.batcher import Recall, nothing_recalled
from serving.bulk.rows import Row
from serving.errors import ModelFailed, ServingError
from serving.messages import AppealIn
from serving.models import Model
from serving.security.sealing import Sealer
from serving.walk import Walked, asked_appeal, new_appeal

__all__ = ["Answerer"]

LONGEST = 1024  # characters of a text that count for padding; the predictor windows longer ones


@dataclass(frozen=True)
class Answerer:
    """A model and the sizes of its batches; `go_on` is asked before each batch, and raises to end;
    `recall` finds corrected look-alikes."""

    model: Model
    zone: ZoneInfo
    batch_texts: int
    batch_chars: int
    sealer: Sealer | None = None
    go_on: Callable[[], None] = lambda: None
    recall: Recall = nothing_recalled

    def answer(self, rows: Sequence[Row]) -> list[NewAppeal | ServingError]:
        """What to store for each row (all are appeals), or why the model failed on it.

        Raises ModelFailed when it failed on every one of several: then it is the model's fault.
        """
        appeals = [_appeal(row) for row in rows]
        understood = [understand(asked_appeal(self.zone, appeal), self.model) for appeal in appeals]
        predictions = self._predict(understood)
        if len(rows) > 1 and all(isinstance(one, ServingError) for one in predictions):
            raise ModelFailed(
                "the model failed on every row of a group; see the log of python -m serving run"
            )
        return [
            found
            if isinstance(found, ServingError)
            else new_appeal(appeal, row.sha256, self._walked(one, found), self.sealer)
            for row, appeal, one, found in zip(rows, appeals, understood, predictions, strict=True)
        ]

    def _walked(self, understood: Understood, found: Prediction) -> Walked:
        [alike] = self.recall(self.model.version, [found])
        return Walked(understood, tell(self.model, understood, found, alike), found)

    def _predict(self, understood: Sequence[Understood]) -> list[Prediction | ServingError]:
        found: dict[int, Prediction | ServingError] = {}
        for batch in self._batches([len(one.prepared.text) for one in understood]):
            self.go_on()
            found.update(zip(batch, self._one_batch([understood[at] for at in batch]), strict=True))
        return [found[at] for at in range(len(understood))]

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Places of the texts, the short ones first: neighbours of like length waste no padding."""
        batch: list[int] = []
        for at in sorted(range(len(lengths)), key=lambda at: lengths[at]):
            longest = max(1, min(lengths[at], LONGEST))
            if batch and (len(batch) >= self.batch_texts or longest * (len(batch) + 1) > self.batch_chars):
                yield batch
                batch = []
            batch.append(at)
        if batch:
            yield batch

    def _one_batch(self, batch: list[Understood]) -> list[Prediction | ServingError]:
        texts, tokens = [one.prepared.text for one in batch], [one.tokens for one in batch]
        try:
            predictions = self.model.predict(texts, tokens)
        except Exception as error:  # whatever a library raises on one text, it harms no other
            if len(batch) == 1:
                return [ModelFailed("模型未能处理这条诉求", type(error).__name__)]
            return [found for one in batch for found in self._one_batch([one])]
        if len(predictions) != len(batch):
            raise ModelFailed(
                "the model gave another number of answers", f"{len(predictions)} / {len(batch)}"
            )
        return list(predictions)


def _appeal(row: Row) -> AppealIn:
    assert row.appeal is not None
    return row.appeal
