"""Threads, tasks, converted weights: what is the CPU engine's own."""

import gc
import hashlib
import mmap
import multiprocessing
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import goose_viz as gv
from goose_viz.checkpoint import read_checkpoint
from goose_viz.config import Config
from goose_viz.convert import quantise
from goose_viz.cpu import decode, distances, engine, store
from goose_viz.cpu.arithmetic import exp, sigmoid
from goose_viz.cpu.distances import CANDIDATES
from goose_viz.cpu.pack import allocate
from goose_viz.cpu.reading import ReadRate
from goose_viz.cpu.team import TEAM, cores, quota
from tests.conftest import save_random

DATA = Path(__file__).parents[1] / "data"
PTH = DATA / "random-L3-D128-N64.bf16.pth"
TOKENS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]


def load(threads, dtype="bf16"):
    """The small model as if it were large enough for so many threads."""
    model = gv.load_model(PTH, device="cpu", dtype=dtype)
    model._engine._threads = model._engine._prompt._threads = threads
    return model


def everything(model, tokens=TOKENS):
    state, probe = model.new_state(), gv.Probe(gv.OBSERVABLES)
    logits = [model.forward([t], state, probe=probe) for t in tokens]
    logits += [model.forward(tokens, state, all_logits=True, probe=probe)]
    frames = [a for f in probe.frames for a in f.arrays().values()]
    return b"".join(a.tobytes() for a in [*logits, *state.arrays().values(), *frames])


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", "int8", "int4"])
def test_the_number_of_threads_changes_no_bit(dtype):
    alone = everything(load(1, dtype))
    for threads in (2, 3, 7):
        assert everything(load(threads, dtype)) == alone


def test_a_helper_that_never_comes_is_not_waited_for(monkeypatch):
    expected = everything(load(1))
    monkeypatch.setattr("goose_viz.cpu.team._Helper.wake", lambda self: None)
    assert everything(load(4)) == expected


def test_sessions_in_threads_do_not_disturb_each_other():
    models = [load(2, "fp32"), load(2, "bf16"), load(3, "int8"), load(2, "int4")]
    expected = [everything(m) for m in models]
    found = [[] for _ in range(6)]

    def work(i):
        for _ in range(5):
            found[i].append(everything(models[i % 3]) == expected[i % 3])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(all(f) and len(f) == 5 for f in found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_a_forked_process_goes_on():
    model = load(3)
    expected = hashlib.sha256(everything(model)).hexdigest()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put(hashlib.sha256(everything(model)).hexdigest()))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(10)


def test_processes_agree_bit_for_bit_also_the_one_that_compiles(tmp_path):
    program = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1]);"
        "from tests.goose_viz.test_cpu_engine import everything, load;"
        "print(hashlib.sha256(everything(load(2))).hexdigest())"
    )
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    hashes = [
        subprocess.run(
            [sys.executable, "-c", program, root], env=environment, cwd=root, capture_output=True,
            text=True, check=True,
        ).stdout
        for _ in range(2)
    ]  # fmt: skip
    assert hashes[0] == hashes[1]
    assert hashes[0].strip() == hashlib.sha256(everything(load(2))).hexdigest()


def test_a_sleeping_team_holds_no_model():
    model = load(3)
    everything(model)
    memory = weakref.ref(model._engine._m.emb)
    del model
    gc.collect()
    assert memory() is None


def test_an_interrupt_leaves_no_job_behind(monkeypatch):
    model = load(2)
    expected = everything(model)
    wake, calls = TEAM._wake, []

    def interrupted(*job):
        wake(*job)
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(TEAM, "_wake", interrupted)
    with pytest.raises(KeyboardInterrupt):
        everything(model)
    assert TEAM.job is None
    assert everything(model) == expected


def test_read_only_states_are_copied():
    model = load(2)
    state, other = model.new_state(), model.new_state()
    state.wkv.flags.writeable = False
    kept = state.wkv
    a, b = model.forward([5], state), model.forward([5], other)
    assert (a == b).all()
    assert not kept.any()
    assert (state.wkv == other.wkv).all()


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8", "int4"])
def test_a_model_of_one_layer(dtype, tmp_path):
    tensors = {n: t.float32() for n, t in read_checkpoint(PTH).tensors.items()}
    one = {n: a for n, a in tensors.items() if not n.startswith(("blocks.1.", "blocks.2."))}
    save_file({n: np.ascontiguousarray(a) for n, a in one.items()}, tmp_path / "m.safetensors")
    reference = gv.load_model(tmp_path / "m.safetensors", device="reference")
    model = gv.load_model(tmp_path / "m.safetensors", device="cpu", dtype=dtype)
    expected = reference.forward(TOKENS, reference.new_state(), all_logits=True)
    together = model.forward(TOKENS, model.new_state(), all_logits=True)
    state = model.new_state()
    singly = np.stack([model.forward([t], state) for t in TOKENS])
    allowed = {"fp32": 1e-5, "bf16": 1e-5, "int8": 0.05, "int4": 0.5}[dtype]
    assert np.abs(together - expected).max() <= allowed * np.abs(expected).max()
    # where weights are whole, so are vectors; a prompt's also those that are read by inputs
    close = 1e-4 if dtype.startswith("int") else 1e-5
    assert np.abs(singly - together).max() <= close * np.abs(expected).max()


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8", "int4"])
def test_an_odd_number_of_channels(dtype, tmp_path):
    path = tmp_path / "odd.safetensors"
    save_random(path, Config(2, 15, 3, 5, 41, 61, 5, 8, 3, 9, "safetensors"))
    model = gv.load_model(path, device="cpu", dtype=dtype)
    together = model.forward(TOKENS, model.new_state(), all_logits=True)
    state = model.new_state()
    singly = np.stack([model.forward([t], state) for t in TOKENS])
    close = 3e-4 if dtype.startswith("int") else 1e-5
    assert np.abs(singly - together).max() <= close * np.abs(singly).max()


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="no large pages here")
def test_weights_lie_in_private_memory():
    memory = allocate(8 << 20)
    memory[:] = b"\1" * len(memory)
    address = np.frombuffer(memory, np.uint8).ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(n, 16) for n in line.split()[0].split("-"))
        if begin <= address < end:
            assert line.split()[1].endswith("p"), "shared memory has no large pages"
            return
    pytest.fail("not mapped")


def test_small_models_run_on_one_core(monkeypatch):
    assert gv.load_model(PTH, device="cpu")._engine._threads == 1
    monkeypatch.setattr(engine, "_ONE_THREAD", 0)
    assert gv.load_model(PTH, device="cpu")._engine._threads == cores()
    monkeypatch.setenv("GOOSE_VIZ_THREADS", "5")
    assert gv.load_model(PTH, device="cpu")._engine._threads == 5


@pytest.mark.parametrize("count", [1, 3])
def test_the_plan_covers_every_row_once(count):
    config = gv.load_model(PTH, device="cpu").config
    plan = decode.plan(config, 2, count)
    R = config.rank_decay + config.rank_iclr + config.rank_value + config.rank_gate
    rows = {1: 3 * config.n_embd + R, 2: config.n_head, 3: config.n_ffn, 4: config.vocab_size}
    if count > 1:
        rows |= {5: count, 6: count}
    for kind, wanted in rows.items():
        for layer in range(config.n_layer if kind != 4 else 1):
            mine = plan[(plan[:, 0] == kind) & (plan[:, 1] == layer)]
            covered = np.concatenate([np.arange(a, b) for a, b in mine[:, 2:4]])
            np.testing.assert_array_equal(covered, np.arange(wanted))
            assert (mine[:, 6] == len(mine)).all()
    ends = plan[:, 5]
    assert (np.diff(ends) >= 0).all()
    assert ends[-1] == len(plan)


def test_an_idle_team_sleeps():
    model = load(2)
    state = model.new_state()
    for token in TOKENS:
        model.forward([token], state)
    threading.Event().wait(0.3)  # NumPy's threads, from other tests, take as long to fall asleep
    before = os.times()
    threading.Event().wait(0.5)
    after = os.times()
    assert after.user + after.system - before.user - before.system < 0.1
    assert TEAM.job is None


def test_zeros_of_the_channel_mix_are_not_read():
    model = load(2)
    model.forward([7], model.new_state())
    live = int(model._engine._scratch.live.sum())
    assert 0 < live < model.config.n_layer * model.config.n_ffn
    m = model._engine._m
    width = model.config.n_embd
    dead = 0
    before = model.forward([7], model.new_state())
    for layer in range(model.config.n_layer):
        for channel in range(model.config.n_ffn):
            row = m.ffn_value[layer, channel].copy()
            m.ffn_value[layer, channel] = 0x7F80  # infinity in bfloat16
            spoilt = not np.isfinite(model.forward([7], model.new_state())).all()
            m.ffn_value[layer, channel] = row
            dead += not spoilt
            if channel == 60:
                break
    assert dead > 0
    assert width == 128
    assert (model.forward([7], model.new_state()) == before).all()


def test_exponentials_are_exact_to_float32():
    x = np.linspace(-86, 86, 100_001, dtype=np.float32)
    found = np.array([exp(v) for v in x[::50]])
    expected = np.exp(x[::50].astype(np.float64))
    assert np.abs(found / expected - 1).max() < 3e-7
    found = np.array([sigmoid(v) for v in x[::50]])
    expected = 1 / (1 + np.exp(-x[::50].astype(np.float64)))
    assert np.abs(found / expected - 1).max() < 5e-7


def test_a_fading_state_meets_no_denormals():
    model = load(1)
    state = model.new_state()
    state.wkv[:] = 2e-38
    model.forward([7], state)
    assert not ((state.wkv != 0) & (np.abs(state.wkv) < np.finfo(np.float32).tiny)).any()
    tiny = np.float32(1e-30) * np.float32(1e-10)
    assert tiny > 0, "the caller's own arithmetic keeps its denormals"


def test_quantised_rows():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((50, 33)).astype(np.float32)
    rows[7] = 0
    rows[8] = 1e-42
    rows[9] = 3e38
    numbers, scales = quantise(rows)
    assert numbers.dtype == np.int8
    assert np.isfinite(scales).all()
    assert (np.abs(numbers * scales[:, None] - rows) <= scales[:, None] * 0.5001).all()
    regular = [i for i in range(50) if i not in (7, 8)]
    assert (np.abs(numbers[regular]).max(1) == 127).all()


def test_prompts_report_and_stop():
    model, shares = load(1), []
    model.forward(TOKENS * 60, model.new_state(), progress=shares.append)
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert 0.9 < shares[-1] < 1

    def stop(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.forward(TOKENS, model.new_state(), progress=stop)
    assert TEAM.lock.acquire(timeout=1)
    TEAM.lock.release()
    everything(model)


def test_a_probe_names_a_layer_once():
    with pytest.raises(ValueError, match="asks for a layer twice"):
        gv.Probe({"decay"}, layers=(1, 1))
    model = load(2)
    probe = gv.Probe({"wkv", "decay"}, layers=(2, 0))
    whole = gv.Probe({"wkv", "decay"})
    for tokens in ([5], TOKENS):
        model.forward(tokens, model.new_state(), probe=probe)
        model.forward(tokens, model.new_state(), probe=whole)
    for some, every in zip(probe.frames, whole.frames, strict=True):
        assert (some.wkv == every.wkv[[2, 0]]).all()
        assert (some.decay == every.decay[[2, 0]]).all()


def test_the_read_rate_is_a_rate():
    rate = ReadRate()
    rate.measure()
    assert 1e8 < rate.median < 2e12


# -- converted weights on disk ---------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GOOSE_VIZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "_WORTH", 0)
    return tmp_path / "cache"


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8", "int4"])
def test_the_second_load_reads_what_the_first_converted(cache, dtype, monkeypatch):
    first = everything(load(1, dtype))
    (file,) = cache.glob("*.bin")
    monkeypatch.setattr(engine, "pack", lambda *a: pytest.fail("converted again"))
    assert everything(load(1, dtype)) == first
    assert [f.name for f in cache.iterdir()] == [file.name]


def test_another_file_or_a_damaged_one_is_converted_anew(cache, tmp_path):
    path = tmp_path / "m.pth"
    path.write_bytes(PTH.read_bytes())
    expected = everything(load(1))
    assert everything(gv.load_model(path, device="cpu")) == expected
    assert len(list(cache.glob("*.bin"))) == 2  # that of PTH, and of its copy
    os.utime(path, (1, 1))  # written at another time: another file
    gv.load_model(path, device="cpu")
    assert len(list(cache.glob("*.bin"))) == 3
    for file in cache.glob("*.bin"):
        os.truncate(file, file.stat().st_size - 1)
    assert everything(load(1)) == expected
    for file in cache.glob("*.bin"):
        content = bytearray(file.read_bytes())
        content[40] ^= 1  # in the header
        file.write_bytes(content)
    assert everything(load(1)) == expected


def test_nothing_is_kept_when_nobody_wants_it_or_nothing_can_be_written(cache, monkeypatch):
    monkeypatch.setenv("GOOSE_VIZ_CACHE", "off")
    load(1)
    assert not cache.exists()
    cache.write_text("a file where the folder should be")
    monkeypatch.setenv("GOOSE_VIZ_CACHE", str(cache))
    load(1)
    assert cache.read_text().startswith("a file")


def test_the_cache_has_a_bound(cache, monkeypatch):
    for dtype in ("fp32", "bf16", "int8"):
        load(1, dtype)
    sizes = {f.name.split("-")[-2]: f.stat().st_size for f in cache.glob("*.bin")}
    load(1, "fp32")  # used again: bf16 is now the oldest
    monkeypatch.setattr(store, "_BOUND", sum(sizes.values()) + 1000)
    load(1, "fp16")
    assert {f.name.split("-")[-2] for f in cache.glob("*.bin")} == {"fp32", "int8", "fp16"}


def test_what_suits_the_machine_is_measured_once(cache, monkeypatch):
    measured = []

    def measure():
        measured.append(1)
        return CANDIDATES[3]

    monkeypatch.setattr(distances, "measure", measure)
    monkeypatch.setattr(distances, "processor", lambda: "one")

    def found():
        distances.distances.cache_clear()  # as in another process
        return distances.distances()

    assert [found(), found()] == [CANDIDATES[3]] * 2
    monkeypatch.setattr(distances, "processor", lambda: "another")
    assert found() == CANDIDATES[3]
    monkeypatch.setattr(distances, "processor", lambda: "one")
    assert found() == CANDIDATES[3]
    assert len(measured) == 2, "two machines that share a folder keep what each has found"
    for content in ("", "[1]", '{"one, 2 cores": 7}', f'{{"one, {cores()} cores": [5, 5]}}'):
        (cache / "machine.json").write_text(content)
        assert found() == CANDIDATES[3]
    assert len(measured) == 6
    monkeypatch.setenv("GOOSE_VIZ_CACHE", "off")
    assert found() == distances.USUAL
    assert len(measured) == 6
    distances.distances.cache_clear()


def test_a_measurement_ends_with_a_candidate(monkeypatch):
    monkeypatch.setattr(distances, "_ROWS", 4096)
    assert distances.measure() in CANDIDATES


def test_a_cancelled_load_leaves_nothing_behind(cache):
    def stop(share, words):
        if "keeping" in words:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gv.load_model(PTH, device="cpu", progress=stop)
    assert not list(cache.iterdir())


def test_damage_is_found_while_converting(tmp_path):
    tensors = {n: t.float32() for n, t in read_checkpoint(PTH).tensors.items()}
    tensors["blocks.1.ffn.value.weight"][5, 7] = np.inf
    save_file(tensors, tmp_path / "m.safetensors")
    for device in ("cpu", "reference"):
        with pytest.raises(gv.CheckpointError, match=r"blocks\.1\.ffn\.value\.weight holds NaN or"):
            gv.load_model(tmp_path / "m.safetensors", device=device)


# -- what whole numbers cost -----------------------------------------------------------------------


def log_softmax(logits):
    z = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def stories(model, source):
    """2,000 tokens: of stories that the demo model was not trained on, or of its own."""
    if source == "its own":
        session = gv.Session(model, gv.Sampler(seed=8), history_bytes=0)
        session.feed("One day, a cat")
        for _ in session.run(1995):
            pass
        return session.tokens[:2000]
    folder = Path(__file__).parents[2].parent / "shared" / "data" / "stories"
    if not folder.exists():
        pytest.skip("the story texts do not lie beside this checkout")
    documents = (folder / "tinystories.txt").read_text(encoding="utf-8").split("<|endoftext|>")
    ids = []
    for document in reversed(documents):  # the last two percent were held out
        if document.strip():
            ids += [0, *model.tokenizer.encode(document.strip())]
        if len(ids) >= 2000:
            return ids[:2000]


@pytest.mark.parametrize(
    ("dtype", "divergence", "agreement"), [("int8", 0.0005, 0.99), ("int4", 0.0053, 0.963)]
)
@pytest.mark.parametrize("source", ["held out", "its own"])
def test_whole_numbers_keep_the_demo_models_opinions(source, dtype, divergence, agreement):
    """int4 no worse than llama.cpp's Q4_K_M of the same weights on the held-out tokens."""
    exact = gv.load_model(device="cpu", dtype="fp32")
    ids = stories(exact, source)
    assert len(ids) == 2000
    rough = gv.load_model(device="cpu", dtype=dtype)
    p, q = (log_softmax(m.forward(ids, m.new_state(), all_logits=True)) for m in (exact, rough))
    assert (np.exp(p) * (p - q)).sum(1).mean() <= divergence
    assert (p.argmax(1) == q.argmax(1)).mean() >= agreement


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 1 << 20),
        ({"proc/self/cgroup": "0::/\n"}, 1 << 20),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000"}, 1 << 20),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000"}, 0),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000",
                "sys/fs/cgroup/a/cpu.max": "300000 100000",
                "sys/fs/cgroup/cpu.max": "900000 100000",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "3:memory:/m\n4:cpu,cpuacct:/c\n",
                "sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us": "400000",
                "sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            4,
        ),
    ],
)
def test_a_containers_share_of_the_processor(tmp_path, monkeypatch, files, expected):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert quota(tmp_path) == expected
    monkeypatch.setattr("goose_viz.cpu.team.quota", lambda: expected)
    monkeypatch.delenv("GOOSE_VIZ_THREADS", raising=False)
    assert 1 <= cores() <= max(1, expected)
