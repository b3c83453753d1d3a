"""What only a card can show: `make test-gpu`.  The other tests of kernels and engine run too.

Those that are not about speed or size also run with a driver made of Python, in `make test`.
"""

import gc
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from safetensors.numpy import save_file

import goose_viz as gv
from goose_viz.config import Config
from goose_viz.weights import expected_shapes
from tests.gpu.backends import FAKE_DRIVER, NAMES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif("card" not in NAMES, reason="no NVIDIA card that can be used"),
]


REAL = pytest.mark.skipif(FAKE_DRIVER, reason="Python would take hours")


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Four layers of the 0.1B shape; one head and two layers of it for the driver in Python."""
    path = tmp_path_factory.mktemp("wide") / "wide.safetensors"
    config = Config(4, 768, 12, 64, 3072, 5000, 64, 64, 32, 128, "safetensors")
    if FAKE_DRIVER:
        config = Config(2, 32, 2, 16, 70, 90, 8, 8, 5, 16, "safetensors")
    rng = np.random.default_rng(3)
    tensors = {}
    for name, shape in expected_shapes(config).items():
        scale = 0.5 / np.sqrt(shape[-1]) if len(shape) == 2 else 0.1
        x = scale * rng.standard_normal(shape, np.float32)
        tensors[name] = (x + 1 if "ln" in name and name.endswith("weight") else x).astype(
            np.float32
        )
    save_file(tensors, path)
    return path


@REAL
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", "int8"])
@pytest.mark.parametrize("portions", [(1,) * 12, (300,), (7, 600, 1)])
def test_real_shapes(wide, dtype, portions):
    tokens = np.random.default_rng(0).integers(0, 5000, sum(portions)).tolist()
    out = []
    for device in ("cuda", "cpu"):
        model = gv.load_model(wide, device=device, dtype=dtype)
        state, at, logits = model.new_state(), 0, None
        for n in portions:
            logits = model.forward(tokens[at : at + n], state)
            at += n
        out.append((logits, state.wkv))
    for found, expected in zip(*out, strict=True):
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@REAL
def test_ten_thousand_greedy_tokens():
    """Equal to the CPU's with float32 weights; where not, the first difference is named."""
    cuda, cpu = (gv.load_model(device=d, dtype="fp32") for d in ("cuda", "cpu"))
    state = cuda.new_state()
    found = cuda._engine.engine.greedy(0, 10_000, state.to_card())
    other, token = cpu.new_state(), 0
    for i, mine in enumerate(found.tolist()):
        logits = cpu.forward([token], other)
        token = int(np.argmax(logits))
        gap = float(logits[token] - logits[mine])
        assert mine == token, f"token {i}: {mine} here, {token} on the CPU, {gap:.1e} apart"


def test_a_recorded_token_is_the_launched_one(wide):
    out = []
    for fault in ("", "recording is off for this test"):
        model = gv.load_model(wide, device="cuda", dtype="bf16")
        model._engine.engine.card.recording_fault = fault
        state = model.new_state()
        logits = [model.forward([t], state) for t in (5, 89, 17, 4, 4, 80)]
        out.append((np.stack(logits), state.wkv.copy()))
        assert model._engine.engine.card.recording_fault == fault
    np.testing.assert_array_equal(out[0][0], out[1][0])
    np.testing.assert_array_equal(out[0][1], out[1][1])


def test_probing_everything_changes_no_logit(wide):
    model = gv.load_model(wide, device="cuda", dtype="bf16")
    plain, probed = model.new_state(), model.new_state()
    probe = gv.Probe(gv.OBSERVABLES)
    for portion in ([1], [2], [3], list(range(20)), [4]):
        a = model.forward(portion, plain)
        b = model.forward(portion, probed, probe=probe)
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(probe.frames[-1].wkv, probed.wkv)


@REAL
def test_a_million_tokens_in_constant_memory():
    model = gv.load_model(device="cuda")
    engine, state = model._engine.engine, model.new_state()
    slot = state.to_card()
    token = int(engine.greedy(0, 5000, slot)[-1])
    before = engine.card.memory()[0]
    token = int(engine.greedy(token, 1_000_000, slot)[-1])
    assert engine.card.memory()[0] == before
    state.advanced()
    assert np.isfinite(state.wkv).all()


def test_memory_comes_back(wide):
    """At once, and on whatever thread a model is let go: no collection, no card current there."""
    import threading

    from goose_gpu.card import Card

    card = Card()

    def use():
        model = gv.load_model(wide, device="cuda", dtype="bf16")
        state = model.new_state()
        model.forward(list(range(9)), state)
        model.forward([1], state, probe=gv.Probe({"wkv"}))
        model._engine.engine.greedy(1, 2, state.to_card())
        return [model, state]

    use()
    before = card.memory()[0]
    for _ in range(2):
        kept = use()
        assert card.memory()[0] < before
        thread = threading.Thread(target=kept.clear)
        thread.start()
        thread.join()
        assert card.memory()[0] >= before - (4 << 20 if not FAKE_DRIVER else 0)


def test_memory_is_given_back_whichever_thread_collects_garbage():
    """A window's thread has no card current, and may be the one that does."""
    from numba import cuda

    from goose_gpu.card import Card

    card = Card()
    with card.active():
        pending = cuda.current_context().memory_manager.deallocations
        held = [cuda.device_array(1000, np.float32) for _ in range(30)]
    faults = []

    def collect():
        try:
            held.clear()
            gc.collect()
            pending.clear()
        except Exception as error:
            faults.append(error)

    thread = threading.Thread(target=collect)
    thread.start()
    thread.join()
    assert faults == []
    assert not pending._cons


@REAL
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck"])
def test_the_sanitizer_finds_nothing(tool):
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not here")
    code = (
        "import goose_viz as gv; m = gv.load_model(device='cuda', dtype='bf16'); "
        "s = m.new_state(); p = gv.Probe(gv.OBSERVABLES); "
        "m.forward(list(range(70)), s, probe=p); [m.forward([t], s, probe=p) for t in range(3)]"
    )
    command = [sanitizer, "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.skipif(not FAKE_DRIVER, reason="looks into the driver")
def test_a_token_is_one_launch(wide):
    """From the second one on, with probes too; and the streams wait as they must."""
    from tests.gpu.backends import DRIVER

    model = gv.load_model(wide, device="cuda", dtype="bf16")
    assert "Card of Python" in model.device_words
    state, probe = model.new_state(), gv.Probe({"decay", "wkv"})
    for token in (1, 2, 3):
        model.forward([token], state, probe=probe)
    assert model._engine.engine.card.recording_fault == ""
    kernels, graphs = len(DRIVER.launched), DRIVER.graph_launches
    model.forward([4], state, probe=probe)
    assert DRIVER.graph_launches == graphs + 1
    assert len(DRIVER.launched) == kernels + 5 * model.config.n_layer + 4  # docs/kernels.md
    reference = gv.load_model(wide, device="cpu", dtype="bf16")
    other, theirs = reference.new_state(), gv.Probe({"decay", "wkv"})
    for token in (1, 2, 3, 4):
        reference.forward([token], other, probe=theirs)
    for mine, frame in zip(probe.frames, theirs.frames, strict=True):
        np.testing.assert_allclose(mine.wkv, frame.wkv, atol=1e-5 * np.abs(frame.wkv).max())
        np.testing.assert_allclose(mine.decay, frame.decay, atol=1e-6)


@pytest.mark.skipif(not FAKE_DRIVER, reason="fills the card")
def test_a_full_card(wide):
    from goose_gpu.card import Card
    from goose_gpu.choice import CardError

    card = Card()
    with card.active(), pytest.raises(CardError, match=r"1\.\d\d GB free of 1\.07"):
        card.zeros(1 << 29, np.float32)


@pytest.mark.filterwarnings("ignore:.*Grid size")
@pytest.mark.skipif(not FAKE_DRIVER, reason="tests the driver made of Python")
def test_kernels_of_one_name_are_told_apart(monkeypatch):
    """As those are that other processes have compiled and kept: numba counts names anew in each."""
    from itertools import count

    from numba import cuda
    from numba.cuda.core.bytecode import FunctionIdentity

    def made(n):
        @cuda.jit
        def fill(x):
            x[0] = n

        return fill

    names = set()
    for n in (3, 4):
        monkeypatch.setattr(FunctionIdentity, "_unique_ids", count(10**6))
        kernel, x = made(n), cuda.device_array(1, np.float32)
        kernel[1, 1](x)
        cuda.synchronize()
        assert x.copy_to_host()[0] == n
        names |= {k.entry_name for k in kernel.overloads.values()}
    assert len(names) == 1
