"""Settings of the CPU's matrix libraries; they must be made before torch is first imported."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cpu_has", "fast_cpu"]


def fast_cpu() -> None:
    """Prepare the environment for training on a CPU; values that are already set stay.

    Texts of many lengths make many matrix shapes; oneDNN keeps 1,024 prepared kernels by default and would
    prepare them again and again.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
    if cpu_has("avx512f"):
        os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx512")


def cpu_has(flag: str) -> bool:
    """Whether the CPU names an instruction set, as Linux lists them."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and flag in cpuinfo.read_text(encoding="utf-8", errors="ignore")
