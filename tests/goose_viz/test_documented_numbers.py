"""The worked numbers of docs/how-rwkv-7-remembers.md."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

import goose_viz as gv
from goose_viz import analysis as ga
from goose_viz.model import example_prompt

PAGE = (Path(__file__).parents[2] / "docs" / "how-rwkv-7-remembers.md").read_text()


def said(number):
    assert f"**{number}**" in PAGE or f" {number} " in PAGE or f" {number}" in PAGE, number
    return float(number)


def test_what_is_left_after_three_tokens():
    assert math.prod((0.8, 0.95, 0.6)) == pytest.approx(said("0.456"), abs=1e-12)


def test_the_bounds_of_the_decay():
    assert math.exp(-math.exp(-0.5)) == pytest.approx(said("0.545"), abs=5e-4)
    half = math.log(0.5) / math.log(math.exp(-math.exp(-0.5)))
    assert half == pytest.approx(said("1.14"), abs=5e-3)
    assert math.log(0.5) / math.log(0.999) == pytest.approx(said("693"), abs=0.5)
    model = gv.load_model("who-is-where", device="reference")
    session = gv.Session(model, probe=gv.Probe({"decay"}))
    session.feed(example_prompt("who-is-where"))
    decay = np.stack([f.decay for f in session.probe.frames])
    assert math.exp(-math.exp(-0.5)) <= decay.min() < decay.max() <= 1


def test_a_weighted_mean():
    weights, values = (math.exp(0.2), math.exp(0.1)), (0.6, 0.5)
    above = sum(w * v for w, v in zip(weights, values, strict=True))
    assert above == pytest.approx(said("1.285"), abs=5e-4)
    assert sum(weights) == pytest.approx(said("2.327"), abs=5e-4)
    assert "1.285 / 2.327" in re.sub(r"\s+", " ", PAGE)
    assert above / sum(weights) == pytest.approx(said("0.552"), abs=5e-4)


def test_the_least_eigenvalue_of_released_models():
    """Of diag(w) - kappa (kappa a)^T: 0.545 - 1, were a 1 and w least; a real model's lie above."""
    assert "**−0.455**" in PAGE
    assert math.exp(-math.exp(-0.5)) - 1 == pytest.approx(-0.455, abs=5e-4)
    for name, c, least in (("stories-7M", 1, -0.455), ("who-is-where", 1, -0.455),
                           ("shell-game", 2, 0.545 - 2)):  # fmt: skip
        model = gv.load_model(name, device="cpu")
        assert model.config.removal_scale == c
        session = gv.Session(model, probe=gv.Probe({"decay", "iclr", "removal_key"}))
        session.feed(example_prompt(name))
        found = min(
            ga.spectrum(frame, layer, head)[0]
            for frame in session.probe.frames
            for layer in range(model.config.n_layer)
            for head in range(model.config.n_head)
        )
        assert least < found < (0.545 if c == 1 else -0.95)
