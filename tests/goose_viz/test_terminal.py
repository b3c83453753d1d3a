"""How the program behaves between pipes, signals and encodings: as a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import goose_viz as gv
from goose_viz import cli
from goose_viz.commands import base

DATA = Path(__file__).parents[1] / "data"
COMMAND = [sys.executable, "-c", "from goose_app.__main__ import main; main()"]


@pytest.fixture
def env(tmp_path):
    return os.environ | {"XDG_STATE_HOME": str(tmp_path / "state"), "QT_QPA_PLATFORM": "offscreen"}


def start(env, *words, **options):
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*COMMAND, *words], env=env, **pipes | options)


def finished(env, *words, data=None, **options):
    process = start(env, *words, stdin=subprocess.PIPE, **options)
    out, err = process.communicate(data, timeout=120)
    return process.returncode, out, err


def test_ctrl_c(env):
    process = start(env, "generate", "-n", "1000000", "--no-stop-at-end")
    assert process.stdout.read(100)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"interrupted" in err
    assert b"Traceback" not in err


def test_a_reader_that_goes(env):
    process = start(env, "generate", "-n", "1000000", "--no-stop-at-end")
    assert process.stdout.read(100)
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(60) == 0


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_any_encoding(env, encoding, tmp_path):
    status, out, err = finished(
        env | {"PYTHONIOENCODING": encoding}, "generate", "--prompt", "好 Größe — “x”", "-n", "3",
        "--seed", "1",
    )  # fmt: skip
    assert status == 0, err
    assert "Größe".encode(encoding, "replace") in out
    assert (b"?" in out) == (encoding != "utf-8")
    status, out, err = finished(env | {"PYTHONIOENCODING": encoding}, "info", "好.pth")
    assert status == 2
    assert b"no such file" in err
    status, out, _ = finished(env | {"PYTHONIOENCODING": encoding}, "info")
    assert status == 0
    assert b"stories-7M" in out


def test_what_the_prompt_is(env, tmp_path):
    """Standard input and files byte for byte; nothing at all is an empty prompt."""
    text = b"Once upon a time\r\n  there was\n\n"
    (tmp_path / "prompt.txt").write_bytes(text)
    words = ("generate", "-n", "0")
    assert finished(env, *words, "--prompt", "-", data=text)[1] == text + b"\n"
    assert finished(env, *words, "--prompt-file", str(tmp_path / "prompt.txt"))[1] == text + b"\n"
    assert finished(env, *words, "--prompt-file", "-", data=text)[1] == text + b"\n"
    status, out, _ = finished(env, "generate", "-n", "5", "--seed", "1", "--prompt", "-", data=b"")
    assert status == 0
    session = gv.Session(gv.load_model(), gv.Sampler(seed=1))
    session.feed("")
    list(session.run(5))
    assert out.decode() == session.text + "\n"
    status, _, err = finished(env, *words, "--prompt", "a", "--prompt-file", "b")
    assert status == 2
    assert b"exclude each other" in err
    status, _, err = finished(env, *words, "--prompt-file", "/nowhere/p.txt")
    assert status == 2
    assert b"/nowhere/p.txt" in err
    out = tmp_path / "a.npz"
    assert finished(env, "export", str(out), "--prompt", "-", data=text)[0] == 0
    assert gv.load_snapshot(out).text.encode() == text


def test_an_empty_prompt_of_a_model_without_a_start(capfd, tmp_path):
    """A document's end is what such a model saw before a text's first token."""
    import numpy as np
    from safetensors.numpy import save_file

    from goose_viz.checkpoint import read_checkpoint

    path = DATA / "random-L2-D96-N16.bf16.pth"
    tensors = {n: t.float32() for n, t in read_checkpoint(path).tensors.items()}
    rows = np.zeros((256 + 1, 96), np.float32)
    save_file(tensors | {"emb.weight": rows, "head.weight": rows}, tmp_path / "m.safetensors")
    lines = "".join(f"{i + 1} {bytes([i])!r} 1\n" for i in range(256))
    (tmp_path / "vocab.txt").write_text(lines)
    words = [
        "generate",
        str(tmp_path / "m.safetensors"),
        "--tokenizer",
        str(tmp_path / "vocab.txt"),
    ]
    assert cli.run([*words, "--prompt", "", "-n", "3", "--no-stop-at-end", "--seed", "1"]) == 0
    assert "tokens/s" in capfd.readouterr().err
    status = cli.run(["generate", str(path), "--prompt", "", "-n", "3"])
    assert status == 2
    assert "nothing to continue" in capfd.readouterr().err


def test_the_end_of_a_document(capfd, monkeypatch):
    """Token 0 ends a text; other tokens do if asked to."""

    def write(*words):
        command = ["generate", "--prompt", "Once upon a time", "--seed", "5", "-n", "400", *words]
        assert cli.run(command) == 0
        return capfd.readouterr().out

    short, long = write(), write("--no-stop-at-end")
    model = gv.load_model()
    session = gv.Session(model, gv.Sampler(seed=5))
    session.feed("Once upon a time")
    steps = list(session.run(400))
    tokens = [s.token for s in steps]
    assert 0 in tokens, "choose a seed whose story ends"
    end = tokens.index(0)
    assert short == "Once upon a time" + "".join(s.text for s in steps[: end + 1]) + "\n"
    assert long == "Once upon a time" + "".join(s.text for s in steps) + "\n"
    stop = tokens[10]
    first = tokens.index(stop)
    text = "Once upon a time" + "".join(s.text for s in steps[: first + 1]) + "\n"
    assert write("--stop-id", str(stop)) == text
    assert cli.run(["generate", "--stop-id", "4096"]) == 2
    assert "the model has 4096 tokens, the last is 4095" in capfd.readouterr().err


def test_a_fault_of_the_program_is_not_a_persons(env, capfd, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for error in (ValueError("shapes do not match"), EOFError(), KeyError("x"), AssertionError()):

        def broken(*_, error=error, **__):
            raise error

        monkeypatch.setattr(base, "load_model", broken)
        assert cli.run(["generate"]) == 1
        out, err = capfd.readouterr()
        assert f"internal error ({type(error).__name__}" in err
        path = Path(err.strip().rpartition("with the file ")[2])
        assert path.is_relative_to(tmp_path)
        assert "Traceback" in path.read_text()
        assert type(error).__name__ in path.read_text()
        assert "Traceback" not in out + err
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    assert cli.run(["generate"]) == 1
    assert "with the lines above" in capfd.readouterr().err


def test_info_compiles_nothing(env, tmp_path):
    """Half a second after its imports, on a machine where nothing was compiled yet."""
    code = """
import json, sys, time
import numba.core.dispatcher as d
from goose_viz import cli
from goose_app.__main__ import main
begin = time.perf_counter()
for words in (["info"], ["info", sys.argv[1]]):
    assert cli.run(words) == 0
seconds = (time.perf_counter() - begin) / 2
import gc
dispatchers = [o for o in gc.get_objects() if isinstance(o, d.Dispatcher)]
print(json.dumps([seconds, sum(len(o.signatures) for o in dispatchers)]), file=sys.stderr)
"""
    path = DATA / "random-L3-D128-N64.bf16.pth"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], env=env | {"NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds, compiled = json.loads(done.stderr.strip().splitlines()[-1])
    assert compiled == 0
    assert seconds < 0.5
    assert "97 (token ids)" in done.stdout


def test_another_programs_choice_of_qt(env, tmp_path):
    picture = tmp_path / "a.png"
    status, _, err = finished(
        env | {"PYQTGRAPH_QT_LIB": "PyQt5"}, "--screenshot", str(picture), "--run", "3"
    )
    assert status == 0, err
    assert picture.stat().st_size > 10_000


def test_damaged_compiled_code_is_compiled_again(env, tmp_path):
    """A power cut, a full disk, `kill -9`: the next start must not end there."""
    env = env | {"NUMBA_CACHE_DIR": str(tmp_path / "compiled")}
    code = (
        "import goose_viz as gv, numpy as np; from goose_viz.ranking import rank; "
        "print(rank(np.arange(9.0), 2)[0][0].tolist())"
    )

    def run():
        return subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        ).stdout

    assert run() == "[8, 7]\n"
    files = list((tmp_path / "compiled").rglob("*.nbc"))
    assert files
    for size in (0, 40, 1000):
        for file in files:
            file.write_bytes(file.read_bytes()[:size])
        assert run() == "[8, 7]\n"
        assert all(f.stat().st_size > 1000 for f in files)


def test_killed_while_it_starts(env, tmp_path):
    """`kill -9` at moments of a first start, then a start that must succeed."""
    env = env | {"NUMBA_CACHE_DIR": str(tmp_path / "compiled")}
    for seconds in (1.2, 2.0, 3.1):
        process = start(env, "generate", str(DATA / "random-L2-D96-N16.bf16.pth"), "-n", "2")
        time.sleep(seconds)
        process.kill()
        process.communicate()
    code = (
        "import numpy as np; from goose_viz.ranking import rank; from goose_viz.tokenizer import "
        "WorldTokenizer; print(rank(np.arange(9.0), 2)[0][0].tolist(), "
        "WorldTokenizer().encode('\\n\\n'))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout == "[8, 7] [261]\n", done.stderr


@pytest.mark.parametrize("words", [["info"], ["generate", "--help"], ["check"]])
def test_a_reader_that_was_never_there(env, words):
    read, write = os.pipe()
    os.close(read)
    process = start(env, *words, stdout=write)
    os.close(write)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert err == b""


def test_an_output_that_is_closed(env):
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "generate", "-n", "2"], env=env,
        stderr=subprocess.PIPE, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0
    assert b"internal error" not in done.stderr


@pytest.mark.parametrize("words", [["--prompt-file", "~nobody-here/x"],
                                   ["--tokenizer", "~nobody-here/x"]])  # fmt: skip
def test_a_home_that_is_not_there(capfd, words):
    assert cli.run(["generate", "-n", "1", *words]) == 2
    assert "no such home folder" in capfd.readouterr().err
