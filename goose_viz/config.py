"""The shape of a model, read off its tensors."""

from __future__ import annotations

from dataclasses import dataclass

LAYER_NORM_EPS = 1e-5
GROUP_NORM_EPS = 64e-5  # whatever the head size is: x070 fixes it


@dataclass(frozen=True)
class Config:
    """Sizes of an RWKV-7 model.

    Attributes
    ----------
    n_layer, n_embd, n_head, head_size : int
        L, D, H and N; D = H * N.
    n_ffn : int
        Width of the channel mix; 4 D in the released models.
    vocab_size : int
        Rows of the embedding and of the head.
    rank_decay, rank_iclr, rank_value, rank_gate : int
        Inner widths of the four low-rank projections; rank_value is 0 in a model of one layer.
    source_format : str
        Where the tensors came from: ``"pth"``, ``"safetensors"`` or ``"fla"``.
    removal_scale : float
        c of S diag(w) - c (S kappa)(kappa a)^T: 1 in every released model.  At 2, where w and a
        are 1, a direction of the memory is turned round, and two things change places.
    """

    n_layer: int
    n_embd: int
    n_head: int
    head_size: int
    n_ffn: int
    vocab_size: int
    rank_decay: int
    rank_iclr: int
    rank_value: int
    rank_gate: int
    source_format: str
    layer_norm_eps: float = LAYER_NORM_EPS
    group_norm_eps: float = GROUP_NORM_EPS
    removal_scale: float = 1.0

    @property
    def shape(self) -> str:
        """The shape in one breath, as people write it: ``L6 D256 H4×64 V4096``."""
        return f"L{self.n_layer} D{self.n_embd} H{self.n_head}×{self.head_size} V{self.vocab_size}"
