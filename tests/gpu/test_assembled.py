"""Every kernel assembled for every architecture: what the linker's log says of it.

The kernels and their argument types are those that an engine launches, caught on their way.
"""

import re

import numpy as np
import pytest

from tests.gpu.backends import COMPILER

if COMPILER:
    from goose_gpu.engine import Engine
    from goose_gpu.formats import FORMATS, format_of
    from goose_gpu.weights import Sizes, Source
    from goose_viz.convert import matrix_of
    from tests.gpu.assembling import ARCHITECTURES, assemble, ptx_of, signature
    from tests.gpu.virtual_card import VirtualCard, VirtualQueue

pytestmark = pytest.mark.skipif(not COMPILER, reason="numba-cuda is not installed")

#: Registers a thread, at most; where blocks are to share a multiprocessor, this is what lets them.
REGISTERS = {
    "_project": 96, "_add_product": 96, "_ffn_key": 96, "_head": 96, "_embed": 64,
    "_ffn_value": 64, "_advance": 112, "_multiply": 128, "_multiply_tensor": 176,
    "_norm_rows": 64, "_mix_rows": 72, "_keep_row": 24, "_copy_rows": 64, "_activate": 48,
    "_split": 72, "_prepare": 104, "_recur": 208, "_finish": 96, "_rank": 72, "_append": 32,
    "_sum_portions": 64, "_list": 48,
}  # fmt: skip

#: Sum a vocabulary in float64, as the host does; nothing else touches it.
DOUBLE = {"_sum_portions", "_list"}

#: Read their weights 16 bytes at a time, past L1.
WIDE_LOADS = {"_project", "_add_product", "_ffn_key", "_head", "_ffn_value", "_advance"}


class Catcher:
    """A queue that keeps the first launch of each kernel and argument types."""

    def __init__(self, cc) -> None:
        self.queue = VirtualQueue(cc)
        self.caught = {}

    def launch(self, kernel, grid, block, *args, shared=0):
        blocks = np.prod(grid)
        assert blocks > 0
        assert block <= 1024
        assert shared <= 49152, "more needs an attribute that nobody sets"
        self.caught.setdefault((kernel, str(signature(*args))), (args, block, shared))


def launches(cc, dtype):
    """(kernel, args, block, dynamic shared bytes) of everything that an engine launches."""
    card = VirtualCard(cc)
    catcher = Catcher(cc)
    card.queue.launch = catcher.launch
    sizes = Sizes(2, 128, 2, 512, 300, (24, 16, 8, 40), 1e-5, 64e-5, 1.0)
    shapes = {"emb": (300, 128), "head": (300, 128), "key": (512, 128), "value": (128, 512)}
    ranks = dict(zip("wavg", sizes.ranks, strict=True))

    def matrix(name):
        word = name.removesuffix(".weight").split(".")[-1]
        if "ffn" in name or word in ("emb", "head"):
            shape = shapes[word]
        elif word[-1] in "12":
            rank = ranks[word[0]]
            shape = (128, rank) if word[-1] == "1" else (rank, 128)
        else:
            shape = (128, 128)
        turned = word[-1] in "12" or name.endswith(("att.output.weight", "ffn.value.weight"))
        rows = shape[1] if turned else shape[0]
        kind = format_of(dtype, matrix_of(name))
        scales = np.ones(rows, np.float32) if kind.memory == np.int8 else None
        columns = kind.stride(shape[1]) if kind.block > 1 else shape[1]
        return np.zeros((shape[0], columns), kind.memory), scales

    source = Source(matrix, lambda name: np.zeros(128, np.float32), lambda name: True)
    engine = Engine(card, sizes, dtype, source, lambda share, words: None, chunk=128)
    from goose_gpu.engine import Slot
    from goose_gpu.weights import weight_bytes

    layers = engine.weights.layers
    products = [p for layer in layers for p in layer if hasattr(p, "jobs")]
    jobs = sum(p.jobs.nbytes for p in [*products, engine.weights.head])
    assert weight_bytes(sizes, dtype) == engine.nbytes - jobs  # what is asked for is what is taken
    slot = Slot(engine)
    engine.feed([1], slot, False)
    engine.feed(list(range(100)), slot, True)
    engine.feed(list(range(10)), slot, False)
    engine.greedy(0, 1, slot)
    return [(kernel, *rest) for (kernel, _), rest in catcher.caught.items()]


@pytest.mark.parametrize(
    ("cc", "dtype"),
    [
        (cc, dtype)
        for cc in (ARCHITECTURES if COMPILER else [(0, 0)])
        for dtype in (FORMATS if COMPILER else ())
        if not FORMATS[dtype].whole or cc not in ((8, 0), (10, 0))  # between those looked at
    ],
)
def test_nothing_spills(cc, dtype):
    seen = set()
    for kernel, args, block, shared in launches(cc, dtype):
        name = kernel.py_func.__name__
        memory = FORMATS[dtype].memory
        typed = any(isinstance(a, np.ndarray) and a.dtype == memory for a in args)
        seen.add(name)
        if dtype != "bf16" and not typed:
            continue  # the same kernel for every weight type
        ptx = ptx_of(kernel, args, cc)
        _, usage = assemble(ptx, cc)
        where = f"{name} sm_{cc[0]}{cc[1]} {dtype}: {usage}"
        assert usage.stack == 0, where
        assert usage.spill_stores == usage.spill_loads == 0, where
        assert "ld.local" not in ptx, where
        assert "st.local" not in ptx, where
        assert (".f64" in ptx) == (name in DOUBLE), where
        more = 16 if (name, dtype) == ("_ffn_value", "int8") else 0  # twice the sums a thread
        assert usage.registers <= REGISTERS[name] + more, where
        assert usage.registers * block <= 65536, where
        static = usage.shared - (1024 if cc >= (9, 0) and usage.shared >= 1024 else 0)
        assert static + shared <= 49152, where
        if "ld.shared.v4" in ptx:
            assert static % 16 == 0, where  # dynamic shared memory begins behind it
        if name in WIDE_LOADS:
            assert "ld.global.nc.L1::no_allocate.v4.u32" in ptx, where
        if name == "_multiply_tensor":
            assert f".{'bf16' if dtype == 'bf16' else 'f16'}." in ptx, where
            assert "cp.async.cg.shared.global" in ptx, where
            assert "ldmatrix.sync" in ptx, where
    expected = set(REGISTERS)
    if FORMATS[dtype].memory.itemsize != 2 or cc < (8, 0):
        expected -= {"_multiply_tensor", "_split"}
    else:
        expected -= {"_multiply", "_activate"}
    assert seen == expected


def body(ptx):
    """PTX without what names the architecture, the compiler and the kernel."""
    ptx = re.sub(r"//.*|\.version.*|\.target.*", "", ptx)
    ptx = re.sub(r"\b_ZN\w+", "kernel", ptx)
    arrays = dict.fromkeys(re.findall(r"_cudapy_smem_\d+", ptx))  # numbered through all compiled
    for i, name in enumerate(arrays):
        ptx = re.sub(rf"{name}\b", f"array {i}", ptx)
    return re.sub(r"\$?L_*BB\w+", "label", ptx)


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_architectures_of_one_dialect(dtype):
    """Up to sm_90 the compiler speaks one, from sm_100 on another: what runs on one, runs on all.

    So the PTX machine need not run every kernel for every architecture.
    """
    seen = set()
    for kernel, args, _, _ in launches((9, 0), dtype):
        old = {body(ptx_of(kernel, args, cc)) for cc in ((7, 5), (9, 0))}
        new = (
            {body(ptx_of(kernel, args, cc)) for cc in ((10, 0), (12, 0))}
            if dtype == "bf16"
            else {""}
        )
        name = kernel.py_func.__name__
        if name == "_multiply_tensor":  # needs sm_80
            old = {body(ptx_of(kernel, args, cc)) for cc in ((8, 0), (9, 0))}
        assert len(old) == len(new) == 1, name
        seen.add(name)
    for kernel, args, _, _ in launches((7, 5), dtype):
        assert body(ptx_of(kernel, args, (7, 5))) == body(ptx_of(kernel, args, (9, 0)))
        seen.add(kernel.py_func.__name__)
    assert seen == set(REGISTERS) - ({"_multiply_tensor", "_split"} if dtype == "int8" else set())
