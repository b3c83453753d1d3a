"""Muon (Keller Jordan, 2024) in float32: momentum, made orthogonal by five Newton-Schulz steps."""

import torch


def orthogonal(G: torch.Tensor) -> torch.Tensor:
    """(n, rows, columns) -> nearly U V^T of each."""
    a, b, c = 3.4445, -4.7750, 2.0315
    X = G.mT if G.shape[1] > G.shape[2] else G
    X = X / (X.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        A = X @ X.mT
        B = torch.baddbmm(A, A, A, beta=b, alpha=c)
        X = torch.baddbmm(X, B, X, beta=a)
    return X.mT if G.shape[1] > G.shape[2] else X


class Muon(torch.optim.Optimizer):
    """For matrices; a step's root mean square is AdamW's usual one, 0.2 of the rate.

    That factor is from Liu et al. (2025), "Muon is scalable for LLM training".
    """

    def __init__(self, params, lr=0.0, momentum=0.95, weight_decay=0.1):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - group["momentum"])
                shapes.setdefault(p.shape, []).append((p, torch.lerp(p.grad, m, group["momentum"])))
            for shape, some in shapes.items():
                update = orthogonal(torch.stack([g for _, g in some]))
                for (p, _), u in zip(some, update, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(u, alpha=-group["lr"] * 0.2 * max(shape) ** 0.5)
