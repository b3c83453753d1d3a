import json
import subprocess
import sys

import numpy as np
import pytest

import goose_viz as gv
from goose_viz import cli, random_weights
from goose_viz.bench import random_model
from goose_viz.commands import writing
from goose_viz.model import DEFAULT_PROMPT, example_prompt


def run(capfd, *words):
    status = cli.run(list(words))
    out, err = capfd.readouterr()
    return status, out, err


def test_generate_streams_the_session(capfd, demo):
    status, out, err = run(capfd, "generate", "--prompt", "Once upon", "-n", "12", "--seed", "4")
    session = gv.Session(demo, gv.Sampler(seed=4))
    session.feed("Once upon")
    list(session.run(12))
    assert status == 0
    assert out == session.text + "\n"
    assert "tokens/s" in err
    assert "seed 4" in err


def test_each_model_inside_has_a_text_to_begin_with(capfd, tmp_path, demo):
    assert example_prompt(None) == example_prompt("stories-7M") == DEFAULT_PROMPT
    status, out, _ = run(capfd, "generate", "shell-game", "-n", "3", "--temperature", "0")
    assert (status, out.split()[:2]) == (0, ["ball", "3"])
    for name in set(gv.embedded_models()) - {"stories-7M"}:
        model = gv.load_model(name, device="cpu")
        assert model.tokenizer.encode(example_prompt(name))
        assert example_prompt(model.source) == example_prompt(name)
    (tmp_path / "prompt.txt").write_text("Mine.\n")
    assert example_prompt(tmp_path) == example_prompt(tmp_path / "m.gguf") == "Mine."
    assert example_prompt(tmp_path / "gone" / "m.gguf") == DEFAULT_PROMPT


def test_generate_stops(capfd):
    status, out, _ = run(capfd, "generate", "--stop", ".", "-n", "300", "--seed", "1",
                         "--prompt", "Once upon a time")  # fmt: skip
    assert status == 0
    assert out.endswith(".\n")
    assert out.count(".") == 1


def test_generate_with_a_template(capfd):
    status, out, _ = run(capfd, "generate", "--template", "chat", "--prompt", "Hi", "-n", "1")
    assert status == 0
    assert out.startswith("User: Hi\n\nAssistant:")
    status, _, err = run(capfd, "generate", "--template", "shout")
    assert status == 2
    assert "expected chat, think, fast" in err


def test_info(capfd, small):
    status, out, _ = run(capfd, "info")
    assert status == 0
    for words in ("stories-7M", "6", "4 of 64", "4096 (tokenizer.json)", "bf16"):
        assert words in out
    status, out, _ = run(capfd, "info", str(small.source))
    assert "61 (token ids)" in out


def test_check(capfd, small):
    status, out, _ = run(capfd, "check", str(small.source))
    assert status == 0
    assert out.count(" ok ") == 2 * 2 * (len(gv.OBSERVABLES) + 3)
    assert "1e-04" in out


def test_export(capfd, tmp_path):
    path = tmp_path / "a.npz"
    status, out, _ = run(capfd, "export", str(path), "--prompt", "Once upon a time", "-n", "5",
                         "--seed", "1", "--probe", "decay", "--probe", "iclr")  # fmt: skip
    assert status == 0
    snapshot = gv.load_snapshot(path)
    assert snapshot.position == 10
    assert snapshot.arrays["frame.iclr"].shape == (6, 256)
    assert "10 tokens" in out
    assert np.isfinite(snapshot.state.wkv).all()


def test_record(capfd, tmp_path):
    path = tmp_path / "a.zarr"
    words = ("record", str(path), "--prompt", "Once upon a time", "-n", "5", "--seed", "1")
    status, out, _ = run(capfd, *words, "--probe", "decay", "--probe", "wkv", "--layer", "2",
                         "--every", "2")  # fmt: skip
    assert status == 0
    assert "10 tokens, 0." in out
    trace = gv.open_trace(path)
    assert trace.observables == ("decay", "wkv")
    assert trace.dataset.wkv.shape == (5, 1, 4, 64, 64)
    assert trace.attributes["sampler"]["seed"] == 1
    status, _, err = run(capfd, *words)
    assert status == 2
    assert "is there already; choose another name" in err
    assert gv.open_trace(path).observables == ("decay", "wkv")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["record", "/nowhere/a.zarr", "-n", "1"], "there is no such folder"),
        (["record", "a.zarr", "--probe", "dekay"], "there are decay"),
        (["record", "a.zarr", "--layer", "6"], "layer 6 is not there; the model has 0 to 5"),
        (["generate", "/nowhere/model.pth"], "no such file"),
        (["generate", "--temperature", "-1"], "expected a number from 0.0"),
        (["generate", "--dtype", "int3"], "expected one of auto"),
        (["generate", "--device", "cuda"], "use device='cpu'"),
        (["export", "/nowhere/a.npz"], "/nowhere"),
        (["export", "a.txt"], "ends in .safetensors or .npz"),
        (["export", "a.npz", "--probe", "dekay"], "there are decay"),
        (["generate", "--bogus"], "No such option"),
        (["info", "a", "b"], "unexpected extra argument"),
    ],
)
def test_mistakes_are_one_line_and_status_2(capfd, words, sentence):
    status, out, err = run(capfd, *words)
    assert status == 2
    assert sentence in err
    assert "Traceback" not in out + err


def test_the_runtime_imports_no_qt_and_no_torch():
    code = (
        "import sys, goose_viz, goose_gpu, goose_viz.cpu, goose_viz.cli;"
        "goose_viz.load_model();"
        "barred = {'PySide6', 'torch', 'pyqtgraph', 'numba.cuda.cudadrv.driver'};"
        "assert not barred & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_text_from_a_terminal_in_another_encoding(capfd):
    status, out, _ = run(capfd, "generate", "--prompt", "a\udcffb", "-n", "2", "--seed", "1")
    assert status == 0
    assert out.startswith("a�b")


def test_export_finds_out_before_it_works(capfd, monkeypatch):
    monkeypatch.setattr(writing, "load", lambda *_: pytest.fail("it has begun to work"))
    for path in ("/nowhere/a.npz", "a.txt"):
        status, _, err = run(capfd, "export", path)
        assert status == 2
        assert path.rpartition("/")[2] in err


def test_bench(capfd, small):
    status, out, _ = run(capfd, "bench", str(small.source), "--rounds", "1", "--json",
                         "--dtype", "int8", "--device", "cpu")  # fmt: skip
    assert status == 0
    found = json.loads(out)
    assert found["dtype"] == "int8"
    assert found["cost"]["nothing"] == 1
    assert set(found["decode"]) == set(found["cost"]) >= {"decay and iclr", "everything"}
    c = small.config
    matrices = 12 * c.n_embd**2 + 2 * c.n_embd * (
        c.rank_decay + c.rank_iclr + c.rank_value + c.rank_gate
    )
    least = c.n_layer * (matrices - 4 * c.n_embd**2)  # if no channel were alive
    state = 8 * c.n_layer * c.n_embd * c.head_size
    assert least + state < found["bytes_per_token"] < 2 * (c.n_layer * matrices + state)
    assert 0 < found["share"] < 1
    assert found["prefill"] > 0

    status, out, _ = run(
        capfd, "bench", str(small.source), "--rounds", "1", "--device", "reference"
    )
    assert status == 0
    assert "GB/s" not in out, "the reference is not held against memory"
    assert "tokens/s" in out


def test_bench_of_the_analyses(capfd, small, monkeypatch):
    monkeypatch.setattr("goose_viz.bench_analysis.TOKENS", (40, 40))
    status, out, _ = run(capfd, "bench", str(small.source), "--analysis", "--rounds", "1", "--json")
    assert status == 0
    found = json.loads(out)
    assert found["tokens"] == 40
    assert found["milliseconds"]["attribution of a word against another"] > 0
    status, out, _ = run(capfd, "bench", str(small.source), "--analysis", "--rounds", "1")
    assert status == 0
    assert "forget a token, half-way" in out


def test_bench_refuses(capfd, small):
    status, _, err = run(capfd, "bench", "--shape", "3B")
    assert status == 2
    assert "expected one of 0.1B, 0.4B" in err
    status, _, err = run(capfd, "bench", str(small.source), "--shape", "0.1B")
    assert status == 2
    assert "exclude each other" in err


def test_random_weights_are_a_models(monkeypatch):
    monkeypatch.setitem(random_weights.SHAPES, "tiny", (2, 128, 8, 8, 8, 16))
    model = random_model("tiny", "cpu", "bf16", lambda share, words: None)
    assert model.name == "random tiny"
    state = model.new_state()
    for token in range(40):
        logits = model.forward([token], state)
    assert np.isfinite(logits).all()
    live = model._engine._scratch.live.sum() / (model.config.n_layer * model.config.n_ffn)
    assert 0.3 < live < 0.7
