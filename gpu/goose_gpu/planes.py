"""What lies in which row of the arrays that every engine computes with: each order once.

D = n_embd, H heads.  Letters are the checkpoint's.
"""

from __future__ import annotations

#: Rows of ``vec`` (8, D): the observables of the time mix.
VECTORS = (
    "decay", "iclr", "removal_key", "replacement_key", "value", "receptance", "gate", "value_mix",
)  # fmt: skip
#: Rows of ``scalars`` (3, H).
SCALARS = ("bonus", "removed_norm", "written_norm")
#: Rows of ``mix`` (6, D), and of what a token is mixed into with them.
MIXES = "rwkvag"
#: Rows of ``att`` (8, D).
ATT = ("w0", "a0", "v0", "k_k", "k_a", "r_k", "ln_x.weight", "ln_x.bias")

#: The three matrices that are stacked first: what each meets, and where what comes out goes.  Keys
#: and values lie where the replacement key and the mixed value come to lie.
RKV = ("receptance", "key", "value")
RKV_MIX = tuple(MIXES.index(c) for c in "rkv")
RKV_PLANE = tuple(VECTORS.index(n) for n in ("receptance", "replacement_key", "value"))

#: The low-rank pairs, in the order in which they are stacked.
LOW = "wavg"
LOW_MIX = tuple(MIXES.index(c) for c in LOW)
LOW_PLANE = tuple(VECTORS.index(n) for n in ("decay", "iclr", "value_mix", "gate"))
