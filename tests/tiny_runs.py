"""A configuration of one layer, and the run of two epochs that it makes, through the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner, Result

from tests.models import SCHEME, toy_rows
from training.__main__ import app

__all__ = ["TinyRun", "invoke", "shipped", "tiny"]

CONFIG = """
name = "tiny"
scheme = "{root}/scheme.yaml"
data_root = "{root}"
[[data]]
path = "rows.csv"
[split]
validation_folds = [6]
test_folds = [7]
[encoder]
layers = 1
epochs = 2
batch = 16
head_tokens = 24
tail_tokens = 8
precision = "fp32"
[lexical]
words = false
min_groups = 1
[retrain]
epochs = 1
learning_rate = 1e-4
"""


@dataclass(frozen=True)
class TinyRun:
    """A configuration, and the run that it made."""

    root: Path
    config: Path
    run: Path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)


def tiny(root: Path) -> TinyRun:
    """Train on the toy rows."""
    lines = ["id,text,fold,group,unit,urgent"]
    for i, row in enumerate(toy_rows()):
        labels = {head: next(iter(codes)) for head, codes in row.labels.items()}
        lines.append(f"{i},{row.text},{i % 8},g{i},{labels['unit']},{labels.get('urgent', '')}")
    (root / "rows.csv").write_text("\n".join(lines), encoding="utf-8")
    (root / "scheme.yaml").write_text(SCHEME, encoding="utf-8")
    (root / "tiny.toml").write_text(CONFIG.format(root=root), encoding="utf-8")
    made = TinyRun(root, root / "tiny.toml", root / "runs" / "tiny")
    done = invoke("fit", made.config, "--run", made.run)
    assert done.exit_code == 0, done.output
    return made


def shipped(measured: TinyRun) -> Path:
    """Train on all folds what the run was measured by; the new run."""
    target = measured.root / "ship"
    done = invoke("fit", measured.config, "--ship", measured.run / "model", "--run", target, "--epochs", "1")
    assert done.exit_code == 0, done.output
    return target
