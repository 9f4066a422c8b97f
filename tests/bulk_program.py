"""`python -m tests.bulk_program`: the serving room's commands with a fake model, slow enough to be killed."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from classifier.predictor import Prediction
from serving import models
from serving.__main__ import cli
from serving.bulk import run
from serving.models import Model
from serving.settings import Settings
from tests.fakes import FakePredictor, furnish


class Slow(FakePredictor):
    """Takes a moment for each batch, and notes in the file COUNTED how many texts it was given."""

    def predict(
        self, texts: Sequence[str], evidence: bool = True, part: str = "", tokens: object = None
    ) -> list[Prediction]:
        time.sleep(float(os.environ.get("BATCH_SECONDS", "0")))
        if counted := os.environ.get("COUNTED"):
            with open(counted, "a") as file:
                file.write(f"{len(texts)}\n")
        return super().predict(texts, evidence, part, tokens)


def load(settings: Settings) -> Model:
    """The fake instead of the configured model."""
    return furnish(Slow(fail_on="毒"))


if __name__ == "__main__":
    models.load_model = load
    run.GROUP_ROWS = 40  # several groups in a short file
    cli()
