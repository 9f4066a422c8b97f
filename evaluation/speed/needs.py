"""What the comparison needs installed; imports nothing of it."""

from __future__ import annotations

import importlib.util

from evaluation.errors import MissingExtra

__all__ = ["require", "require_others"]


def require() -> None:
    """What our own service's load needs. Raises MissingExtra."""
    _require("httptools", "psutil", "onnx")


def require_others() -> None:
    """What the other servers need. Raises MissingExtra."""
    _require("torch", "transformers", "mosec", "litserve")


def _require(*names: str) -> None:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"expected the packages {', '.join(missing)}: pip install 'jiesu[speed]'; without torch our "
            "service can be measured alone: --only ours --no-accuracy"
        )
