"""What a token should take on cards that people have: to hold the first measurement against.

    python benchmarks/card_model.py [--dtype bf16] [--gap 1.0] [--latency 600]

A launch takes the longest of three: its bytes at the card's bandwidth; what its busiest warp has to
read, a warp having four packets of 16 bytes a lane on their way and memory answering after
``latency``; and the bytes that all warps of the card have on their way at once, per latency.  Ahead
of that stand the gap to the launch before and the round trips until the first product: two for the
norm of x, one where there is none.  Multiprocessors and bandwidths are the makers' data sheets';
gap and latency are assumptions, to be replaced by what is measured.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

from gpu_peers import sizes_of

from goose_gpu.channelmix import slices, splits_of
from goose_gpu.formats import FORMATS, format_of
from goose_gpu.launch import cover
from goose_gpu.weights import matrix_bytes, padded_sizes
from goose_viz.random_weights import SHAPES

#: name -> (multiprocessors, bytes a second)
CARDS = {
    "A100 80 GB": (108, 2.04e12),
    "RTX 4090": (128, 1.01e12),
    "H100 SXM": (132, 3.35e12),
    "H200": (132, 4.8e12),
    "RTX 5090": (170, 1.79e12),
}
WARPS, BLOCKS = 10, 2  # of a block that shares a vector; blocks a multiprocessor
AHEAD = 4 * 16 * 32  # bytes that a warp has on their way
LIVE = 0.5  # of the channel mix, as random weights have it; trained models have 0.1 to 0.15


class Launch(NamedTuple):
    """One kernel of a token."""

    name: str
    bytes: float
    blocks: int
    busiest: float  # bytes that the busiest warp reads
    trips: int  # to memory, one behind the other, until the first product


#: The embedding's row, and the two that list what can be chosen.
SMALL = [Launch(name, 0, 1, 0, 1) for name in ("embed", "candidates", "candidates")]


def rows_launch(name: str, rows: int, nbytes: int, processors: int, trips: int) -> Launch:
    """A warp a row, rows cut so that two blocks a multiprocessor share them evenly."""
    each = cover(rows, WARPS * BLOCKS * processors)
    blocks = cover(rows, WARPS * each)
    return Launch(name, nbytes, blocks, each * nbytes / rows, trips)


def launches(sizes: Any, dtype: str, processors: int) -> tuple[list[Launch], Launch]:
    """(those of a layer, that of the head)."""
    ranks, _, F = padded_sizes(sizes, dtype)
    D, H, N, R = sizes.n_embd, sizes.n_head, sizes.head_size, sum(ranks)
    nbytes = matrix_bytes(sizes, dtype)
    pieces, _ = slices(D, format_of(dtype, "ffn_value").memory.itemsize)
    splits = splits_of(F, pieces, processors)
    head_bytes = nbytes["up"] / H + 8 * N * N  # low-rank halves, the state both ways
    value = LIVE * nbytes["ffn_value"]
    return [
        rows_launch("project", 3 * D + R, nbytes["rkv"] + nbytes["down"], processors, 3),
        Launch("advance", H * head_bytes, H, head_bytes / (N * 8 / 32), 3),
        rows_launch("add_product", D, nbytes["output"], processors, 2),
        rows_launch("ffn_key", F, nbytes["ffn_key"], processors, 3),
        Launch("ffn_value", value, pieces * splits, value / (pieces * splits * 8), 3),
    ], rows_launch("head", sizes.vocab_size, nbytes["head"], processors, 3)


def seconds(launch: Launch, card: tuple[int, float], gap: float, latency: float) -> float:
    """How long a launch takes."""
    processors, bandwidth = card
    resident = min(launch.blocks, BLOCKS * processors) * WARPS
    flying = resident * AHEAD / latency  # bytes a second that so many warps can ask for
    work = max(launch.bytes / min(bandwidth, flying), launch.busiest / AHEAD * latency)
    return gap + launch.trips * latency + work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="bf16", choices=sorted(FORMATS))
    parser.add_argument("--gap", type=float, default=1.0, help="microseconds between launches")
    parser.add_argument("--latency", type=float, default=600, help="nanoseconds of a round trip")
    args = parser.parse_args()
    gap, latency = args.gap * 1e-6, args.latency * 1e-9
    table(
        "shape", "card", "launches", "bytes", "at the data sheet", "expected",
        "of the data sheet", "tokens/s", "of the time in gaps and first trips",
    )  # fmt: skip
    for shape in SHAPES:
        sizes = sizes_of(shape)
        for name, card in CARDS.items():
            layer, head = launches(sizes, args.dtype, card[0])
            every = [*(layer * sizes.n_layer), head, *SMALL]
            total = sum(launch.bytes for launch in every)
            time = sum(seconds(launch, card, gap, latency) for launch in every)
            waits = sum(gap + launch.trips * latency for launch in every)
            best = total / card[1]
            print_row(
                shape, name, len(every), f"{total / 1e9:.2f} GB", f"{best * 1e3:.2f} ms",
                f"{time * 1e3:.2f} ms", f"{best / time:.0%}", f"{1 / time:.0f}",
                f"{waits / time:.0%}",
            )  # fmt: skip
    print()
    table(
        "card", "in flight at most", "latency × bandwidth",
        "blocks of project, add_product, ffn_value at 0.1B, of so many places",
    )  # fmt: skip
    small = sizes_of("0.1B")
    for name, (processors, bandwidth) in CARDS.items():
        layer, _ = launches(small, args.dtype, processors)
        blocks = ", ".join(str(layer[i].blocks) for i in (0, 2, 4))
        flying = BLOCKS * processors * WARPS * AHEAD
        print_row(
            name, f"{flying / 1e6:.1f} MB", f"{latency * bandwidth / 1e6:.1f} MB",
            f"{blocks} of {BLOCKS * processors}",
        )  # fmt: skip


def print_row(*cells: Any) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def table(*heads: str) -> None:
    print_row(*heads)
    print_row(*["---"] * len(heads))


if __name__ == "__main__":
    main()
