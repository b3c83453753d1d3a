"""Kills, full disks, folders that are closed, files that change: nothing is lost, all is said."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import goose_viz as gv

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "random-L2-D96-N16.bf16.pth"
DRIVERS = "tests.goose_viz.fault_drivers"

posix = pytest.mark.skipif(os.name == "nt", reason="kill -9 and forks")


def driver(*words, ahead=(), env=None):
    done = subprocess.run(
        [*ahead, sys.executable, "-m", DRIVERS, *map(str, words)], cwd=ROOT, text=True,
        capture_output=True, timeout=280, env=os.environ | (env or {}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@posix
@pytest.mark.parametrize(
    "operation", ["snapshot", "export", "state", "session", "cache", "convert"]
)
def test_fifty_kills(tmp_path, operation):
    """The file is the old one or the new one, never half; the next writer finds no trouble."""
    (tmp_path / "cache").mkdir()
    said = driver("kill", tmp_path, operation, 50, 1)
    assert "'0'" in said
    assert "'1'" in said


MOUNT = ["unshare", "--mount", "--map-root-user", "--user"]


def mounted(tmp_path, options, inner):
    """Words that run a driver where a small disk is mounted, for it alone."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here")
    place = tmp_path / "disk"
    place.mkdir()
    script = f'mount -t tmpfs -o {options} tmpfs "{place}" && exec "$@"'
    for ahead in (["unshare", "--mount"], MOUNT):
        probe = subprocess.run([*ahead, "sh", "-c", script, "sh", "true"], capture_output=True)
        if probe.returncode == 0:
            return driver(inner, place, ahead=[*ahead, "sh", "-c", script, "sh"])
    pytest.skip("no disk can be mounted here")


@posix
@pytest.mark.parametrize("size", ["40k", "400k", "2m"])
def test_a_disk_that_is_full(tmp_path, size):
    """Nothing fits, some things do, all do at first."""
    said = mounted(tmp_path, f"size={size}", "full")
    assert said.count("stays") == 5


@posix
def test_a_folder_that_is_closed(tmp_path):
    (tmp_path / "ids.txt").write_text("1 2 3")
    assert "all said" in mounted(tmp_path, "ro", "closed")


@posix
def test_two_processes_on_one_file(tmp_path):
    """Both write the same names at once; whoever reads finds one of the contents, whole."""
    code = (
        "import sys; from pathlib import Path; from tests.goose_viz.fault_drivers import Writers\n"
        "w = Writers(Path(sys.argv[1])); print('begun', flush=True)\n"
        "for n in range(60):\n"
        "    for operation in ('session', 'cache', 'export'): w.write(operation, int(sys.argv[2]))"
    )
    (tmp_path / "cache").mkdir()
    from .fault_drivers import Writers

    writers = Writers(tmp_path)
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(n)], cwd=ROOT,
                         stdout=subprocess.PIPE)
        for n in range(2)
    ]  # fmt: skip
    for process in both:
        assert process.stdout.readline() == b"begun\n"
    seen = set()
    while any(process.poll() is None for process in both):
        seen |= {writers.whole(o) for o in ("session", "cache", "export")}
    for process in both:
        assert process.wait() == 0
        process.stdout.close()
    assert seen <= {"none", "0", "1"}
    assert not list(tmp_path.rglob("*.part"))


def test_two_recordings_of_one_name(demo, tmp_path):
    """The second is told; the first is whole."""
    done = []

    def progress(share, words):
        if not done:
            done.append(1)
            with pytest.raises(FileExistsError, match="is there already"):
                gv.record(demo, "b", 2, tmp_path / "a.zarr")

    trace = gv.record(demo, "a", 5, tmp_path / "a.zarr", progress=progress)
    assert trace.complete
    assert done


def test_two_processes_on_one_corpus(demo, tmp_path):
    """Both do every document; what is there is as if one had."""
    texts = tmp_path / "a.txt"
    texts.write_text("\n<|endoftext|>\n".join(f"A dog and {n} cats." for n in range(6)))
    found, errors = [], []

    def one():
        try:
            found.append(gv.record_corpus(demo, [texts], tmp_path / "store"))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    alone = gv.record_corpus(demo, [texts], tmp_path / "alone")
    assert [c.documents for c in found] == [alone.documents] * 2
    for name in alone:
        for file in (tmp_path / "alone" / name).rglob("*"):
            if file.is_file():
                other = tmp_path / "store" / file.relative_to(tmp_path / "alone")
                assert other.read_bytes() == file.read_bytes()
    assert not list((tmp_path / "store").glob(".*"))


# -- files that change -----------------------------------------------------------------------------


def test_a_file_that_is_replaced_or_removed_stays_what_it_was(tmp_path):
    """What is mapped is the file that was opened, as long as it is not written into."""
    path = tmp_path / "m.pth"
    shutil.copy(DATA, path)
    model = gv.load_model(path)
    before = model.numbers("head.weight")
    other = tmp_path / "other"
    other.write_bytes(b"nothing")
    other.replace(path)
    assert (model.numbers("head.weight") == before).all()
    path.unlink()
    assert (model.numbers("head.weight") == before).all()


def test_a_file_that_is_written_over_is_told(tmp_path):
    """In place, and shorter: looking behind its end would end the process."""
    path = tmp_path / "m.pth"
    shutil.copy(DATA, path)
    model = gv.load_model(path)
    logits = model.forward([1, 2], model.new_state())
    with path.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(gv.GooseError, match="written over since it was opened"):
        model.numbers("head.weight")
    assert (model.forward([1, 2], model.new_state()) == logits).all()


# -- numbers that are none -------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_memory_that_is_no_number_any_more_is_named(demo, value):
    """The token, the layer, the head; the run stays, and goes on from before."""
    session = gv.Session(demo, gv.Sampler(seed=1))
    session.feed("Once upon a time")
    list(session.run(4))
    change = np.zeros_like(session.state.wkv)
    at = session.position
    good = session.state.copy()
    session.step()
    session.goto(at)
    change[3, 2] = 3e38  # overflows with the next token's doing
    session.apply(gv.Add(change))
    session.apply(gv.Add(change))
    with pytest.raises(gv.GooseError, match=r"layer 3, head 2 NaN or infinite") as told:
        list(session.run(10))
    assert "no token can be chosen" in str(told.value)
    assert session.position > at - 1
    session.switch(0)
    session.goto(at)
    assert (session.state.wkv == good.wkv).all()
    assert len(list(session.run(3))) == 3
    bad = good.copy()
    bad.wkv[0, 0, 0, 0] = value
    with pytest.raises(gv.StateError, match="NaN or infinite"):
        gv.Session(demo, initial=bad)


def test_the_token_that_did_it_is_named(demo):
    """Of a prompt that was read long after, the first is found."""
    session = gv.Session(demo, gv.Sampler(seed=1))
    session.feed("Once upon a time")
    fine = session.position
    session.apply(gv.Scale(1e38, layer=2, head=1))
    session.apply(gv.Scale(1e38, layer=2, head=1))
    session.feed(" there was a dog and a cat")
    with pytest.raises(gv.GooseError, match=r"token \d+ \('.+'\) made the memory of layer 2") as e:
        session.step()
    number = int(str(e.value).split()[1])
    assert fine - 1 <= number <= fine
    assert session.text.endswith("a cat")


# -- nothing goes out, nothing is run --------------------------------------------------------------

QUIET = """
import os, sys
LOCAL = ("/", "\\0")
def hook(event, args):
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"):
        address = args[1]
        if not isinstance(address, (str, bytes)):  # a pipe of this machine has a path
            print("SOCKET", event, address, flush=True); os._exit(7)
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr",
                 "urllib.Request", "http.client.connect"):
        print("SOCKET", event, args, flush=True); os._exit(7)
sys.addaudithook(hook)
"""


def test_no_command_opens_a_socket(tmp_path):
    """Every command but serve, and every model inside; of --scheduler there is none."""
    code = QUIET + (
        "from pathlib import Path\n"
        "from goose_viz import cli\n"
        "d = Path(sys.argv[1]); (d / 'a.txt').write_text('A dog.'); \n"
        "run = lambda *w: cli.run(list(map(str, w)))\n"
        "results = [\n"
        " run('generate', '-n', 3), run('info'), run('bench', '--rounds', 1),\n"
        " run('record', d / 'a.zarr', '-n', 3), run('export', d / 'a.npz', '--probe', 'all'),\n"
        " run('record', '--corpus', d / 'a.txt', '--out', d / 'store'),\n"
        " run('convert', 'recall', d / 'a.gguf'), run('eval', '--data', d / 'a.txt'),\n"
        " run('generate', '--after', d / 'a.txt', '-n', 2), run('check', 'recall'),\n"
        " *[run('generate', m, '-n', 2) for m in ('recall', 'shell-game', 'who-is-where')],\n"
        "]\n"
        "print('ALL', results)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=280,
        env=os.environ | {"GOOSE_VIZ_CACHE": str(tmp_path / "cache"), "PYTHONUTF8": "1"},
    )  # fmt: skip
    assert "SOCKET" not in done.stdout
    assert f"ALL {[0] * 13}" in done.stdout, done.stderr[-1000:]


def test_a_socket_would_be_seen():
    code = QUIET + "import socket; socket.create_connection(('127.0.0.1', 9))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "SOCKET" in done.stdout


RUNS = {
    "exec", "compile", "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn",
    "pickle.find_class", "marshal.load", "marshal.loads", "ctypes.dlopen", "code.__new__",
}  # fmt: skip
_heard: list[str] = []
_listening = [False]


def _hook(event, args):
    if event == "compile" and args[1] == "<unknown>":
        return  # `ast.literal_eval`, which parses a vocabulary's line and runs nothing
    if _listening[0] and event in RUNS:
        _heard.append(f"{event} {str(args)[:200]}")


def test_no_reader_runs_what_it_reads(tmp_path):
    """Whole files and damaged ones: nothing is compiled, run, imported or unpickled by name."""
    from tests.fuzz.harness import Fuzzer
    from tests.fuzz.readers import READERS

    sys.addaudithook(_hook)  # stays for the process; it listens here alone
    for name, reader in READERS.items():
        if name == "requests":  # a server imports as it goes
            continue
        folder = tmp_path / name.replace("/", "-").replace(" ", "-")
        folder.mkdir()
        fuzzer = Fuzzer(reader, folder)
        for k in range(5):  # what is imported late is imported
            fuzzer.fault(k)
        _listening[0] = True
        try:
            for k in range(5, 30):
                fuzzer.fault(k)
        finally:
            _listening[0] = False
        assert _heard == [], name
