"""What a figure was taken on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from goose_viz.cpu.distances import processor

#: What the kernels can make use of, or could.
_FLAGS = (
    "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx_vnni", "avx512_vnni", "avx512_bf16",
    "amx_int8", "asimd", "asimddp",
)  # fmt: skip


def describe(*packages: str) -> dict[str, str]:
    """Processor, cores, system and the versions of packages."""
    cpu, found = processor(), []
    info = Path("/proc/cpuinfo")
    if info.exists():
        facts = dict(x.split(":", 1) for x in info.read_text().splitlines() if ":" in x)
        facts = {name.strip(): value.strip() for name, value in facts.items()}
        if "cpu family" in facts:  # one name stands for many
            cpu += f" (family {facts['cpu family']}, model {facts.get('model')})"
        flags = facts.get("flags", facts.get("Features", "")).split()
        found = [flag for flag in _FLAGS if flag in flags]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {
        "processor": cpu,
        "instructions": " ".join(found),
        "cores": str(cores),
        "system": platform.platform(),
    }
    facts["python"] = platform.python_version()
    return facts | {p: version(p) for p in packages}
