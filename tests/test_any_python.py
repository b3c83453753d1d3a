"""What can differ from one Python to another: `make test-python` runs this on each that is here."""

import importlib
import os
import pkgutil
import subprocess
import sys

import numpy as np
import pytest

import goose_app
import goose_gpu
import goose_viz
import goose_viz as gv
from goose_gpu import CardError, choose_card

TOKENS = [3, 1, 4, 1, 5, 9, 2, 6]
CODE = """
import sys, numpy as np, goose_viz as gv
model = gv.load_model(sys.argv[1], device=sys.argv[2], dtype="fp32")
np.save(sys.argv[3], model.forward([3, 1, 4], model.new_state(), all_logits=True))
"""


def test_everything_imports():
    for package in (goose_viz, goose_gpu, goose_app):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


def test_the_engines_agree(tiny, tmp_path):
    """Reference and CPU; the CUDA kernels in the simulator, and on a card where there is one."""
    reference = gv.load_model(tiny, device="reference")
    expected = reference.forward(TOKENS, reference.new_state(), all_logits=True)
    model = gv.load_model(tiny, device="cpu")
    found = model.forward(TOKENS, model.new_state(), all_logits=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    out = tmp_path / "simulated.npy"
    command = [sys.executable, "-c", CODE, str(tiny), "cuda", str(out)]
    env = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    subprocess.run(command, env=env, check=True, timeout=100)
    np.testing.assert_allclose(np.load(out), expected[:3], atol=1e-5)
    try:
        choose_card()
    except CardError:
        return
    card = gv.load_model(tiny, device="cuda", dtype="fp32")
    found = card.forward(TOKENS, card.new_state(), all_logits=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_one_kernel_compiles_and_runs():
    """As PTX for a card, executed: NumPy 2.5 stopped the compiler here."""
    pytest.importorskip("numba_cuda", reason="numba-cuda has no wheels here")
    from goose_gpu import vocabulary
    from tests.gpu.virtual_card import VirtualCard

    card = VirtualCard((9, 0))
    rng = np.random.default_rng(0)
    table = rng.standard_normal((7, 32)).astype(np.float32)
    norm = np.ones(32, np.float32), np.zeros(32, np.float32)
    x, none = np.zeros((2, 32), np.float32), np.zeros(1, np.float32)
    tokens = np.array([3, 6], np.int32)
    vocabulary.embed(card.queue, tokens, table, none, norm, np.float32(1e-5), x, 2)
    rows = table[tokens].astype(np.float64)
    centred = rows - rows.mean(1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(x, expected, atol=1e-5)


def test_a_picture_of_the_window(tmp_path):
    picture = tmp_path / "window.png"
    code = "from goose_app.__main__ import main; main()"
    command = [sys.executable, "-c", code, "--screenshot", str(picture), "--run", "20"]
    env = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert picture.stat().st_size > 50_000


@pytest.mark.filterwarnings("error")
def test_a_run_is_recorded_and_read(tmp_path, tiny):
    """What Zarr and xarray make of our chunks differs from version to version."""
    import xarray

    model = gv.load_model(tiny, device="cpu")
    trace = gv.record(model, TOKENS, 5, tmp_path / "a.zarr", observables=gv.OBSERVABLES,
                      sampler=gv.Sampler(seed=1))  # fmt: skip
    session = gv.Session(model, gv.Sampler(seed=1), gv.Probe(gv.OBSERVABLES))
    session.feed(TOKENS)
    list(session.run(5))
    with xarray.open_zarr(tmp_path / "a.zarr") as found:
        for name in gv.OBSERVABLES:
            expected = np.stack([getattr(f, name) for f in session.probe.frames])
            assert (found[name].values == expected).all()
        assert "".join(found.text.values).strip() == session.text
    assert trace.complete
