"""RWKV-7 (x070) in PyTorch, for training; parameters carry the checkpoint's names.

Initialisation: the values published with RWKV-7 (BlinkDL/RWKV-LM, RWKV-v7/train_temp).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wkv_numba import Wkv


@dataclass(frozen=True)
class Shape:
    """L layers of width D with heads of N; c before the removal, 1 as released, 0 for none."""

    layers: int
    width: int
    head_size: int = 64
    removal_scale: float = 1.0


def _rank(width: int, factor: float) -> int:
    """A low-rank width as the published models choose it: a multiple of 32, at least 32."""
    return max(32, round(factor * math.sqrt(width) / 32) * 32)


def _orthogonal(rows: int, cols: int, scale: float) -> Tensor:
    gain = math.sqrt(rows / cols) if rows > cols else 1.0
    return nn.init.orthogonal_(torch.empty(rows, cols), gain * scale)


def _linear(n_in: int, n_out: int, bound: float) -> nn.Linear:
    layer = nn.Linear(n_in, n_out, bias=False)
    nn.init.uniform_(layer.weight, -bound, bound)
    return layer


def _shift(x: Tensor) -> Tensor:
    """The previous token's x minus this one's; zeros stand before the first.  (B, T, D)."""
    return F.pad(x, (0, 0, 1, -1)) - x


class TimeMix(nn.Module):
    def __init__(self, layer: int, shape: Shape) -> None:
        super().__init__()
        n_layer, D, N = shape.layers, shape.width, shape.head_size
        H = D // N
        self.head_size, self.removal_scale = N, shape.removal_scale
        depth = layer / max(n_layer - 1, 1)  # 0 .. 1
        left = 1.0 - layer / n_layer  # 1 .. almost 0
        i = torch.arange(D) / D
        for name, power in {"r": 0.2, "w": 0.9, "k": 0.7, "v": 0.7, "a": 0.9, "g": 0.2}.items():
            self.register_parameter(
                f"x_{name}", nn.Parameter((1 - i ** (power * left)).view(1, 1, D))
            )

        linear = torch.arange(D) / (D - 1) - 0.5
        zigzag = (torch.arange(D) % N - (N - 1) / 2) / ((N - 1) / 2)
        zigzag = zigzag * zigzag.abs()
        ramp = -6 + 6 * (torch.arange(D) / (D - 1)) ** (1 + depth**0.3)
        starts = {
            "w": (ramp + 0.5 + 2.5 * zigzag, 2.5),
            "a": (-0.19 + 0.3 * zigzag + 0.4 * linear, 2.5),
            "v": (0.73 - 0.4 * linear, 1.7),
        }
        if layer == 0:
            del starts["v"]
        for name, (bias, factor) in starts.items():
            rank = _rank(D, factor)
            self.register_parameter(f"{name}0", nn.Parameter(bias.view(1, 1, D)))
            self.register_parameter(f"{name}1", nn.Parameter(torch.zeros(D, rank)))
            self.register_parameter(f"{name}2", nn.Parameter(_orthogonal(rank, D, 0.1)))
        rank = _rank(D, 5.0)
        self.g1 = nn.Parameter(torch.zeros(D, rank))
        self.g2 = nn.Parameter(_orthogonal(rank, D, 0.1))
        self.k_k = nn.Parameter((0.71 - 0.1 * linear).view(1, 1, D))
        self.k_a = nn.Parameter(torch.full((1, 1, D), 1.02))
        self.r_k = nn.Parameter(torch.full((H, N), -0.04))

        bound = D**-0.5
        self.receptance = _linear(D, D, 0.5 * bound)
        self.key = _linear(D, D, 0.05 * bound)
        self.value = _linear(D, D, 0.5 * bound)
        self.output = _linear(D, D, 0.0)
        self.ln_x = nn.GroupNorm(H, D, eps=64e-5)
        nn.init.constant_(self.ln_x.weight, ((1 + layer) / n_layer) ** 0.7)
        self.layer = layer

    def forward(self, x: Tensor, v_first: Tensor | None) -> tuple[Tensor, Tensor]:
        B, T, D = x.shape
        N = self.head_size
        H = D // N
        d = _shift(x)
        xr, xw, xk, xv, xa, xg = (x + d * getattr(self, f"x_{c}") for c in "rwkvag")
        r, k, v = self.receptance(xr), self.key(xk), self.value(xv)
        w = torch.exp(-math.exp(-0.5) * torch.sigmoid(self.w0 + torch.tanh(xw @ self.w1) @ self.w2))
        a = torch.sigmoid(self.a0 + (xa @ self.a1) @ self.a2)
        g = torch.sigmoid(xg @ self.g1) @ self.g2
        if v_first is None:
            v_first = v
        else:
            v = v + (v_first - v) * torch.sigmoid(self.v0 + (xv @ self.v1) @ self.v2)

        kappa = F.normalize((k * self.k_k).view(B, T, H, N), dim=-1)
        self.spread = kappa.abs().sum(-1).mean()  # 1 along an axis, sqrt(N) along all alike
        k = k * (1 + (a - 1) * self.k_a)
        self.written = (k.view(B, T, H, N).norm(dim=-1) * v.view(B, T, H, N).norm(dim=-1)).mean()
        heads = (B, T, H, N)
        r, w, k, vh, a = (z.view(heads) for z in (r, w, k, v, a))
        y = Wkv.apply(r, w, k, vh, -kappa, self.removal_scale * kappa * a)
        y = self.ln_x(y.view(B * T, D)).view(B, T, D)
        y = y + ((r * k * self.r_k).sum(-1, keepdim=True) * vh).view(B, T, D)
        return self.output(y * g), v_first


class ChannelMix(nn.Module):
    def __init__(self, layer: int, n_layer: int, D: int) -> None:
        super().__init__()
        power = (1.0 - layer / n_layer) ** 4
        self.x_k = nn.Parameter((1 - (torch.arange(D) / D) ** power).view(1, 1, D))
        self.key = _linear(D, 4 * D, 0.5 * D**-0.5)
        self.value = _linear(4 * D, D, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        k = torch.relu(self.key(x + _shift(x) * self.x_k))
        return self.value(k * k)


class Block(nn.Module):
    def __init__(self, layer: int, shape: Shape) -> None:
        super().__init__()
        D = shape.width
        if layer == 0:
            self.ln0 = nn.LayerNorm(D)
        self.ln1, self.ln2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.att, self.ffn = TimeMix(layer, shape), ChannelMix(layer, shape.layers, D)

    def forward(self, x: Tensor, v_first: Tensor | None) -> tuple[Tensor, Tensor]:
        y, v_first = self.att(self.ln1(x), v_first)
        x = x + y
        return x + self.ffn(self.ln2(x)), v_first


class Rwkv7(nn.Module):
    """tokens (B, T) int64 -> logits (B, T, V)."""

    def __init__(self, shape: Shape, vocab_size: int) -> None:
        super().__init__()
        n_embd = shape.width
        self.emb = nn.Embedding(vocab_size, n_embd)
        nn.init.uniform_(self.emb.weight, -1e-4, 1e-4)
        self.blocks = nn.ModuleList(Block(i, shape) for i in range(shape.layers))
        self.ln_out = nn.LayerNorm(n_embd)
        self.head = nn.Linear(n_embd, vocab_size, bias=False)
        gain = 0.5 * math.sqrt(vocab_size / n_embd) if vocab_size > n_embd else 0.5
        nn.init.orthogonal_(self.head.weight, gain=gain)

    @property
    def spread(self) -> Tensor:
        """How far the removal keys of the last call lie from the axes: the mean |kappa|_1."""
        return torch.stack([block.att.spread for block in self.blocks]).mean()

    @property
    def written(self) -> Tensor:
        """How much the last call wrote into the memory: the mean norm of v k~^T."""
        return torch.stack([block.att.written for block in self.blocks]).mean()

    def without_shift(self) -> None:
        """Let a token see itself alone: it takes nothing of the one before, and learns not to."""
        for name, p in self.named_parameters():
            if name.rpartition(".")[2].startswith("x_"):
                nn.init.zeros_(p).requires_grad_(False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.blocks[0].ln0(self.emb(tokens))
        v_first = None
        for block in self.blocks:
            x, v_first = block(x, v_first)
        return self.head(self.ln_out(x))
