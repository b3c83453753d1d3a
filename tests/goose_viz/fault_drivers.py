"""Run in processes of their own by test_faults: what writes, over and over, until it is killed.

    python -m tests.goose_viz.fault_drivers kill FOLDER OPERATION KILLS SEED
    python -m tests.goose_viz.fault_drivers full FOLDER
    python -m tests.goose_viz.fault_drivers closed FOLDER

The reference computes: nothing is compiled, and no thread of an engine is lost in a fork.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import goose_viz as gv
from goose_viz import state_cache
from goose_viz.checkpoint import read_checkpoint
from goose_viz.writing import write_model

MODEL = Path(__file__).parents[1] / "data" / "random-L2-D96-N16.bf16.pth"


def failure(do: Callable[[], object]) -> OSError:
    """What the system said when it failed; an error of our own if it did not."""
    try:
        do()
    except OSError as error:
        return error
    raise AssertionError("it did not fail")


class Writers:
    """Operations that write a file, each of two contents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = gv.load_model(MODEL, device="reference")
        self.sessions = []
        for token in (1, 2):
            session = gv.Session(self.model, gv.Sampler(seed=token))
            session.feed([token] * 5)
            session.apply(gv.Scale(0.5))
            list(session.run(3))
            self.sessions.append(session)

    def write(self, operation: str, which: int) -> None:
        """Write one of the contents."""
        session = self.sessions[which]
        match operation:
            case "snapshot":
                gv.save_snapshot(self.folder / "a.npz", session)
            case "export":
                gv.save_snapshot(self.folder / "a.safetensors", session)
            case "state":
                session.state.save(self.folder / "a.state")
            case "session":
                gv.save_session(self.folder / "a.goose", session)
            case "cache":
                state_cache._keep(self.folder / "cache" / "a.safetensors", session.state, 1 + which)
            case "convert":
                dtype = ("bf16", "fp32")[which]
                write_model(str(MODEL), self.folder / "a.gguf", None, dtype, None, True, _quiet)

    def whole(self, operation: str) -> str:
        """What is there: "none", "0" or "1"; raises where it is neither."""
        names = {
            "snapshot": "a.npz", "export": "a.safetensors", "state": "a.state",
            "session": "a.goose", "cache": "cache/a.safetensors", "convert": "a.gguf",
        }  # fmt: skip
        path = self.folder / names[operation]
        if not path.exists():
            return "none"
        if operation == "convert":
            kinds = {t.bits.dtype.itemsize for n, t in read_checkpoint(path).tensors.items()
                     if n == "emb.weight"}  # fmt: skip
            return {2: "0", 4: "1"}[kinds.pop()]
        if operation in ("snapshot", "export"):
            found = gv.load_snapshot(path).state
        elif operation == "session":
            found = gv.load_session(path).open(self.model).state
        elif operation == "cache":
            _, found = state_cache._kept(path, self.model, 9)
            assert found is not None, "the cache is not whole"
        else:
            found = gv.State.load(path)
        same = [k for k, s in enumerate(self.sessions) if (found.wkv == s.state.wkv).all()]
        assert len(same) == 1, "it is neither of the two"
        return str(same[0])


def _quiet(*_: object) -> None:
    pass


def kill(folder: Path, operation: str, kills: int, seed: int) -> None:
    """Kill a writer at random moments; what is there is whole each time, and can be written."""
    writers, rng = Writers(folder), random.Random(seed)
    begin = time.perf_counter()
    writers.write(operation, 0)
    took, seen = time.perf_counter() - begin, set()
    for _ in range(kills):
        child = os.fork()
        if not child:
            n = 0
            while True:
                n += 1
                writers.write(operation, n % 2)
        time.sleep(rng.uniform(0, 4 * took + 0.01))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen.add(writers.whole(operation))
    writers.write(operation, 1)
    assert writers.whole(operation) == "1"
    left = [p for p in folder.rglob("*.part")]
    print(f"seen {sorted(seen)}, {len(left)} halves left", flush=True)
    day_ago = time.time() - 2 * 86400
    for half in left:
        os.utime(half, (day_ago, day_ago))
    if operation != "cache":  # which tidies up by itself when it needs room
        writers.write(operation, 0)
        assert not list(folder.rglob("*.part")), "the next writer left a day-old half there"


def fill(path: Path) -> None:
    """Until nothing more goes onto the disk."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def full(folder: Path) -> None:
    """A disk that is full: the sentence, the old file, and nothing left behind."""
    writers = Writers(folder)
    for operation in ("snapshot", "export", "state", "session", "convert"):
        for path in folder.iterdir():
            if path.is_file():
                path.unlink()
        old = "none"
        try:
            writers.write(operation, 0)
            old = writers.whole(operation)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        fill(folder / "filler")
        error = failure(lambda operation=operation: writers.write(operation, 1))
        assert error.errno == errno.ENOSPC, error
        assert writers.whole(operation) == old, operation
        assert not list(folder.rglob("*.part")), operation
        (folder / "filler").unlink()
        print(f"{operation}: {old} stays", flush=True)
    fill(folder / "filler")
    state_cache._keep(folder / "cache" / "b.safetensors", writers.sessions[0].state, 1)
    assert not (folder / "cache" / "b.safetensors").exists()
    assert not list(folder.rglob("*.part"))


def closed(folder: Path) -> None:
    """A folder that nobody may write to: a sentence that names it; caches cost only time."""
    os.environ["GOOSE_VIZ_CACHE"] = str(folder / "weights")
    writers = Writers(folder)
    texts = [folder.parent / "ids.txt"]
    for write in (
        *(functools.partial(writers.write, operation, 0)
          for operation in ("snapshot", "export", "state", "session", "convert")),
        lambda: gv.record(writers.model, [1, 2], 2, folder / "a.zarr"),
        lambda: gv.record_corpus(writers.model, texts, folder / "store"),
    ):  # fmt: skip
        error = failure(write)
        assert error.errno in (errno.EROFS, errno.EACCES, errno.EPERM), error
        assert str(folder) in str(error), error
    assert gv.state_after(writers.model, [1, 2, 3]).wkv.any()
    print("all said", flush=True)


def main() -> None:
    """What the command line names."""
    what, folder, *rest = sys.argv[1:]
    if what == "kill":
        operation, kills, seed = rest
        kill(Path(folder), operation, int(kills), int(seed))
    else:
        {"full": full, "closed": closed}[what](Path(folder))


if __name__ == "__main__":
    main()
