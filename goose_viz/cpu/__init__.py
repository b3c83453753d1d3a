"""RWKV-7 on the CPU: numba kernels at the speed of memory, outside the GIL."""

from goose_viz.cpu.engine import CpuEngine

__all__ = ["CpuEngine"]
