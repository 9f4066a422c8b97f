"""`python -m evaluation.memory FOLDER`: answer the texts on standard input, print this process's peak bytes.

A process of its own, because a peak cannot be taken back.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from pathlib import Path

from classifier.predictor import Predictor

__all__ = ["peak_bytes"]


def peak_bytes() -> int:
    """Peak resident bytes of this process.

    Linux: VmHWM, since getrusage counts the parent's memory where the process was spawned by vfork.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))):
        return int(found.group(1)) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    Predictor.load(Path(sys.argv[1]).resolve()).predict(json.load(sys.stdin))
    print(peak_bytes())
