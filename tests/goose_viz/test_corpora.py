"""Corpora: every document once, whoever records it, whatever dies meanwhile."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xarray
import zarr

import goose_viz as gv
from goose_viz import cli
from goose_viz.evaluation import evaluate
from goose_viz.scheduling import each

STORIES = [f"Once upon a time there was a fox named {n}. She saw a ball." for n in
           ("Ann", "Bo", "Cy", "Di", "Ed", "Flo", "Gus", "Hal")]  # fmt: skip


@pytest.fixture
def texts(tmp_path):
    """Two files: of two documents, and of six as lines of JSON."""
    one, two = tmp_path / "two.txt", tmp_path / "six.jsonl"
    one.write_text("\n<|endoftext|>\n".join(STORIES[:2]) + "\n<|endoftext|>\n")
    two.write_text("".join(json.dumps({"text": s}) + "\n" for s in STORIES[2:]))
    return [one, two]


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_every_document_is_a_trace(demo, texts, tmp_path):
    shares = []
    corpus = gv.record_corpus(
        demo, texts, tmp_path / "store", tokens=3, progress=lambda s, w: shares.append(s)
    )
    assert len(corpus) == len(corpus.documents) == 8
    assert shares == [n / 8 for n in range(1, 9)]
    assert [d["file"] for d in corpus.documents] == ["six.jsonl"] * 6 + ["two.txt"] * 2
    assert [d["number"] for d in corpus.documents] == [*range(6), 0, 1]
    assert corpus.failed == {}
    for document, story in zip(corpus.documents, STORIES[2:] + STORIES[:2], strict=True):
        trace = corpus[document["name"]]
        alone = gv.record(demo, story, 3, tmp_path / document["name"], sampler=gv.Sampler(seed=0))
        recorded, expected = files_of(trace.path), files_of(alone.path)
        assert trace.attributes == alone.attributes | {
            "document": {n: document[n] for n in ("file", "number", "sha256")}
        }
        assert recorded | {"zarr.json": b""} == expected | {"zarr.json": b""}
        assert trace.text.startswith(story)
        assert document["tokens"] == len(trace) > 3
    group = zarr.open_group(tmp_path / "store", mode="r")
    assert sorted(group) == corpus.names


def test_what_is_finished_is_not_done_again(demo, texts, tmp_path, monkeypatch):
    store = tmp_path / "store"

    def stop(share, words):
        if share > 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gv.record_corpus(demo, texts, store, progress=stop)
    corpus = gv.open_corpus(store)
    assert len(corpus) == 4
    assert len(corpus.documents) == 4
    before = files_of(store)
    done = []
    plain = gv.corpus.record.record
    monkeypatch.setattr(
        gv.corpus.record,
        "record",
        lambda m, text, *a, **k: done.append(text) or plain(m, text, *a, **k),
    )
    corpus = gv.record_corpus(demo, texts, store)
    assert done == STORIES[4:]
    assert len(corpus.documents) == 8
    assert files_of(store).items() >= before.items()
    assert gv.record_corpus(demo, texts, store).documents == corpus.documents
    assert done == STORIES[4:]


def test_other_settings_and_other_weights_are_not_mixed_in(demo, small, texts, tmp_path):
    store, ids = tmp_path / "store", tmp_path / "ids.txt"
    ids.write_text("1 2 3")
    gv.record_corpus(demo, texts[:1], store)
    with pytest.raises(gv.GooseError, match=r"was recorded with tokens 0, not 2"):
        gv.record_corpus(demo, texts, store, tokens=2)
    with pytest.raises(gv.GooseError, match=r"with every 1, not 3"):
        gv.record_corpus(demo, texts, store, every=3)
    with pytest.raises(gv.GooseError, match=r"with dtype bf16, not int8"):
        gv.record_corpus(gv.load_model(dtype="int8"), texts, store)
    with pytest.raises(gv.GooseError, match=r"with model stories-7M, not recall"):
        gv.record_corpus(gv.load_model("recall", tokenizer="ids"), [ids], store)
    with pytest.raises(gv.GooseError, match=r"with tokenizer tokenizer.json, not bytes"):
        gv.record_corpus(gv.ModelSource(tokenizer="bytes"), texts, store)
    assert len(gv.open_corpus(store)) == 2  # nothing of another kind came in
    gv.record_corpus(demo, texts, store)  # as it was
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "file").write_text("mine")
    with pytest.raises(gv.GooseError, match=r"is there already and no corpus"):
        gv.record_corpus(demo, texts, tmp_path / "else")
    gv.record(demo, "a", 1, tmp_path / "run.zarr")
    with pytest.raises(gv.GooseError, match="is no corpus"):
        gv.record_corpus(demo, texts, tmp_path / "run.zarr")
    with pytest.raises(gv.GooseError, match="there is no corpus"):
        gv.open_corpus(tmp_path / "nowhere")
    with pytest.raises(gv.GooseError, match="no way to write there"):
        gv.open_corpus("wasistdas://a/b")


def test_a_document_that_will_not_do_costs_no_other(small, tmp_path):
    """The random model reads ids: a text of words is none."""
    path = tmp_path / "ids.txt"
    path.write_text("1 2 3\n<|endoftext|>\nword\n<|endoftext|>\n4 5")
    corpus = gv.record_corpus(small, [path], tmp_path / "store", observables=["decay"])
    assert len(corpus) == 2
    (sentence,) = corpus.failed.values()
    assert "word" in sentence


def test_any_address_of_fsspec(demo, texts, tmp_path):
    there = gv.record_corpus(demo, texts, "memory://corpora/a", observables=["decay"])
    here = gv.record_corpus(demo, texts, tmp_path / "store", observables=["decay"])
    assert there.names == here.names
    assert there.documents == here.documents
    for name in here:
        assert there.dataset(name).load().equals(here.dataset(name).load())
        bare = xarray.open_zarr(f"memory://corpora/a/{name}")
        assert (bare.decay.values == here[name].dataset.decay.values).all()
    with pytest.raises(gv.GooseError, match="no folder of this machine"):
        there[there.names[0]]
    with pytest.raises(gv.GooseError, match="has no document 'x'"):
        there.dataset("x")
    assert len(gv.record_corpus(demo, texts, "memory://corpora/a", observables=["decay"])) == 8
    fsspec.filesystem("memory").rm("/corpora", recursive=True)


def test_half_a_document_does_not_count_and_is_written_over(demo, texts, tmp_path):
    """As a worker leaves it that died while it wrote: with chunks and no zarr.json, or half."""
    corpus = gv.record_corpus(demo, texts, tmp_path / "store")
    whole = files_of(tmp_path / "store")
    one, two, *_ = corpus.names
    (tmp_path / "store" / one / "zarr.json").unlink()
    chunk = next(p for p in (tmp_path / "store" / one / "decay/c").rglob("*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:50])
    (tmp_path / "store" / two / "zarr.json").write_text('{"zarr_format": 3, "attr')
    assert len(corpus) == 6
    gv.record_corpus(demo, texts, tmp_path / "store")
    assert files_of(tmp_path / "store") == whole


def test_the_command(texts, tmp_path, capfd):
    store = tmp_path / "store"
    words = ["--corpus", *map(str, texts), "--out", str(store)]
    assert cli.run(["record", "stories-7M", *words, "--probe", "decay"]) == 0
    assert "8 documents" in capfd.readouterr().out
    assert cli.run(["record", *words, "--probe", "decay", "--probe", "iclr"]) == 2
    assert "was recorded with observables" in capfd.readouterr().err
    for wrong, sentence in (
        (["a.zarr", "stories-7M", "--out", str(store)], "both name what to write"),
        (["--tokens", "3"], "what to write is missing"),
        (["--corpus", "a.txt", "--out", "b", "--prompt", "c"], "exclude each other"),
        (["a.zarr", "--scheduler", "tcp://127.0.0.1:1"], "give them with --corpus"),
        (["--out", "b", "--corpus", str(tmp_path / "nowhere.txt")], "nowhere.txt cannot be read"),
        (["--out", "b", "--corpus"], "requires an argument"),
    ):
        assert cli.run(["record", *wrong]) == 2
        assert sentence in capfd.readouterr().err


def test_no_scheduler_there(texts, tmp_path, monkeypatch):
    monkeypatch.setattr("goose_viz.scheduling._CONNECT", 1.0)
    for address in ("tcp://127.0.0.1:1", "nonsense://x", ""):
        with pytest.raises(gv.GooseError, match="no dask scheduler answers"):
            gv.record_corpus(gv.ModelSource(), texts, tmp_path / "store", scheduler=address)


# -- a cluster of two processes ------------------------------------------------------------------

_SCHEDULER = """
import asyncio, sys
from distributed import Scheduler

async def work():
    async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler:
        print(scheduler.address, flush=True)
        await scheduler.finished()

asyncio.run(work())
"""

_WORKER = """
import asyncio, os, sys
from distributed import Worker

async def work():
    async with Worker(sys.argv[1], nthreads=1, local_directory=sys.argv[2]) as worker:
        print(os.getpid(), flush=True)
        await worker.finished()

asyncio.run(work())
"""


def _start(code, *words):
    environment = os.environ | {"DASK_DISTRIBUTED__WORKER__DAEMON": "False"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True, env=environment
    )
    return process, process.stdout.readline().strip()


@pytest.fixture
def cluster(tmp_path):
    """Address of a scheduler, and its two workers' processes."""
    scheduler, address = _start(_SCHEDULER)
    workers = [_start(_WORKER, address, str(tmp_path / f"worker-{n}"))[0] for n in range(2)]
    yield address, workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.filterwarnings("ignore")  # distributed's own, at the end of its loops
def test_a_cluster_has_the_single_process_bits_though_a_worker_dies(cluster, demo, texts, tmp_path):
    address, workers = cluster
    many = [f"{s} {' '.join(STORIES)}" for s in STORIES] + STORIES
    texts[0].write_text("\n<|endoftext|>\n".join(many))
    alone = gv.record_corpus(demo, texts, tmp_path / "alone", tokens=20)
    killed = threading.Event()

    def kill(share, words):
        if not killed.is_set():
            killed.set()
            time.sleep(0.3)  # in the midst of its next document
            os.kill(workers[0].pid, signal.SIGKILL)

    shared = gv.record_corpus(
        gv.ModelSource(), texts, tmp_path / "shared", tokens=20, scheduler=address, progress=kill
    )
    assert killed.is_set()
    assert workers[0].wait(10) == -signal.SIGKILL
    assert workers[1].poll() is None
    assert shared.failed == {}
    assert shared.documents == alone.documents
    assert files_of(tmp_path / "shared") == files_of(tmp_path / "alone")
    # what the other one left is done; a cluster that is gone on with does nothing again
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "shared").rglob("c/*/*")}
    gv.record_corpus(gv.ModelSource(), texts, tmp_path / "shared", tokens=20, scheduler=address)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "shared").rglob("c/*/*")} == before

    lines, out = tmp_path / "eval.txt", tmp_path / "out.json"
    lines.write_text("\n<|endoftext|>\n".join(many))
    found = evaluate(gv.ModelSource(), lines, out, scheduler=address)
    assert found == evaluate(demo, lines)
    assert json.loads(out.read_text())["figures"] == found.figures()
    with pytest.raises(gv.GooseError, match="there is no such file"):
        gv.record_corpus(gv.ModelSource("nowhere.pth"), texts, tmp_path / "none", scheduler=address)


def test_results_that_come_out_of_order_are_kept(demo, tmp_path, monkeypatch):
    """What is done behind a gap is in the file, and is not done again; the bits are the same."""
    data, out = tmp_path / "a.txt", tmp_path / "out.json"
    data.write_text("\n<|endoftext|>\n".join(STORIES))
    whole = evaluate(demo, data)
    monkeypatch.setattr("goose_viz.evaluation._KEEP_EVERY", -1.0)
    plain, done = gv.evaluation.each, []

    def shuffled(function, items, scheduler=None):
        order = np.random.default_rng(0).permutation(len(items))
        for index in order.tolist():
            if len(items) > 1:
                done.append(items[index])
            yield index, function(items[index])

    monkeypatch.setattr("goose_viz.evaluation.each", shuffled)

    def stop(share):
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(demo, data, out, stop)
    assert json.loads(out.read_text())["ahead"]
    assert evaluate(demo, data, out) == whole
    assert sorted(done) == sorted(STORIES)
    assert json.loads(out.read_text())["ahead"] == {}
    monkeypatch.setattr("goose_viz.evaluation.each", plain)
    assert evaluate(demo, data, out) == whole


@pytest.mark.parametrize(
    "name", ["notes[1].txt", ".hidden.txt", "what?*.txt", "x" * 240 + ".txt", "naïve 好.jsonl"]
)
def test_files_of_any_name(small, tmp_path, name):
    """None vanishes, and none makes the others vanish."""
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "plain.txt").write_text("1 2 3")
    words = '\ufeff{"text": "4 5 6"}\n' if name.endswith("jsonl") else "\ufeff4 5 6"
    (texts / name).write_text(words, encoding="utf-8")
    corpus = gv.record_corpus(small, [texts], tmp_path / "store", observables=["decay"])
    assert len(corpus) == len(corpus.documents) == 2
    assert {d["file"] for d in corpus.documents} == {"plain.txt", name}
    for document in corpus.documents:
        assert len(corpus[document["name"]]) == 3


def test_addresses_keep_what_they_name():
    """A host, a chain: an address is passed on as it was given, but that paths become absolute."""
    from goose_viz.corpus.store import Store

    assert Store("simplecache::memory://q/r").url == "simplecache::memory://q/r"
    assert Store("memory://q").url == "memory://q"
    assert Store("relative").url == f"file://{Path('relative').absolute()}"
    assert Store("relative").local == Path("relative").absolute()


def test_a_store_that_would_be_gone_is_refused(texts, capfd):
    assert cli.run(["record", "--corpus", str(texts[0]), "--out", "memory://q"]) == 2
    assert "would be gone with this command" in capfd.readouterr().err
    with pytest.raises(gv.GooseError, match="this process's own memory"):
        gv.record_corpus(gv.ModelSource(), texts, "memory://q", scheduler="tcp://127.0.0.1:1")


@pytest.mark.parametrize("words", [["--corpus=A", "B"], ["--corpus", "A", "B"],
                                   ["--corpus", "A", "--corpus", "B"]])  # fmt: skip
def test_files_behind_the_option(words):
    assert cli._spread(["record", "M", *words, "--out", "S"]) in (
        ["record", "M", "--corpus", "A", "--corpus", "B", "--out", "S"],
        ["record", "M", "--corpus=A", "--corpus", "B", "--out", "S"],
    )


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_has_no_worker_or_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("goose_viz.scheduling._WORKERS", 1.0)
    scheduler, address = _start(_SCHEDULER)
    try:
        with pytest.raises(gv.GooseError, match="no worker came to the scheduler"):
            list(each(len, ["a"], address))
        worker, _ = _start(_WORKER, address, str(tmp_path))
        try:
            found = each(time.sleep, [0.2] * 100, address)
            assert next(found) == (0, None)
            scheduler.kill()
            with pytest.raises(gv.GooseError, match="has gone"):
                list(found)
        finally:
            worker.kill()
            worker.wait()
            worker.stdout.close()
    finally:
        scheduler.kill()
        scheduler.wait()
        scheduler.stdout.close()
