"""`goose-viz convert`: what it writes is what is read, and it destroys nothing."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

import goose_viz as gv
from goose_viz import cli
from goose_viz.checkpoint import read_checkpoint
from goose_viz.config import Config
from goose_viz.weights import check_weights
from tests.conftest import save_random

from .layout_files import (
    DATA,
    HF_CONFIG,
    PTH,
    TOKENS,
    logits,
    to_transformers,
    write_shards,
)


@pytest.mark.parametrize("name", ["random-L2-D96-N16", "random-L3-D128-N64"])
def test_round_trips(tmp_path, capfd, name):
    """Through every layout and back: the same numbers, hence the same bits."""
    source = DATA / f"{name}.bf16.pth"
    original = check_weights(read_checkpoint(source), source)
    path, expected = source, logits(source)
    eps_fit = name.endswith("64")
    for step, (to, file) in enumerate((("hf", "a"), ("fla", "b"), ("gguf", "c.gguf"),
                                       ("safetensors", "d.safetensors"))):  # fmt: skip
        out = tmp_path / file
        status = cli.run(["convert", str(path), str(out), "--to", to])
        said = capfd.readouterr()
        assert status == 0, said.err
        assert ("group_norm_eps" in said.out) == (not eps_fit and to in ("hf", "fla"))
        model = gv.load_model(out)
        assert model.config.source_format == to
        assert (model.forward(TOKENS, model.new_state()) == expected).all()
        found = check_weights(read_checkpoint(out), out)
        for tensor, there in original.tensors.items():
            assert (found[tensor].float64() == there.float64()).all(), (to, tensor)
            assert step >= 2 or found[tensor].kind == there.kind
        path = out


def test_a_model_of_one_layer(tmp_path, capfd):
    """It has no value mix, which every layout's header speaks of."""
    path = tmp_path / "one.safetensors"
    save_random(path, Config(1, 32, 2, 16, 40, 61, 5, 8, 0, 9, "safetensors"))
    expected = logits(path)
    for to, file in (("hf", "a"), ("fla", "b"), ("gguf", "c.gguf"), ("safetensors", "d.st")):
        assert cli.run(["convert", str(path), str(tmp_path / file), "--to", to]) == 0
        path = tmp_path / file
        assert (logits(path) == expected).all(), to
    capfd.readouterr()


def test_convert_types_and_tokenizers(tmp_path, capfd, demo):
    assert cli.run(["convert", "stories-7M", str(tmp_path / "hf"), "--to", "hf",
                    "--dtype", "fp32"]) == 0  # fmt: skip
    model = gv.load_model(tmp_path / "hf")
    assert model.dtype == "fp32"
    assert model.tokenizer.encode("Once upon") == demo.tokenizer.encode("Once upon")
    assert cli.run(["convert", str(tmp_path / "hf"), str(tmp_path / "q.gguf"),
                    "--dtype", "q8_0"]) == 0  # fmt: skip
    session = gv.Session(gv.load_model(tmp_path / "q.gguf"), gv.Sampler(temperature=0))
    session.feed([0, *demo.tokenizer.encode("Once upon a time, there was a little")])
    assert session.step().text in (" girl", " boy")
    capfd.readouterr()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["stories-7M", "out"], "which layout?"),
        (["stories-7M", "out", "--to", "onnx"], "expected one of safetensors, hf, fla, gguf"),
        (["stories-7M", "out.gguf", "--dtype", "int3"], "expected one of auto, fp32"),
        (["stories-7M", "out.safetensors", "--dtype", "q8_0"], "expected one of auto, fp32"),
        (["stories-7M", "/nowhere/out.gguf"], "no such folder"),
        (["nonsense", "out.gguf"], "embedded are"),
    ],
)
def test_convert_refuses(tmp_path, capfd, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["convert", *words]) == 2
    assert sentence in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_convert_writes_over_nothing_unasked(tmp_path, capfd):
    out = tmp_path / "m.gguf"
    out.write_text("mine")
    assert cli.run(["convert", "stories-7M", str(out)]) == 2
    assert "is there already" in capfd.readouterr().err
    assert out.read_text() == "mine"
    assert cli.run(["convert", "stories-7M", str(out), "--force"]) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


def test_an_epsilon_that_a_layout_cannot_say(tmp_path, capfd, tensors):
    save_file(to_transformers(tensors), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(HF_CONFIG))  # 4e-5, where RWKV-7 has 1e-5
    assert cli.run(["convert", str(tmp_path), str(tmp_path / "m.safetensors")]) == 2
    assert "write it as hf or fla" in capfd.readouterr().err


def test_a_folder_is_all_of_the_new_model(tmp_path, tensors, capfd):
    folder = tmp_path / "m"
    folder.mkdir()
    write_shards(folder, to_transformers({n: a * 2 for n, a in tensors.items()}), 2)
    (folder / "config.json").write_text(json.dumps(HF_CONFIG))
    (folder / "tokenizer.json").write_text("another model's")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert cli.run(["convert", str(PTH), str(folder), "--to", "hf"]) == 2
    assert "is there already" in capfd.readouterr().err
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert cli.run(["convert", str(PTH), str(folder), "--to", "hf", "--force"]) == 0
    assert (logits(folder) == logits(PTH)).all()
    assert not (folder / "tokenizer.json").exists()


def test_only_regular_files_are_written_over(tmp_path, capfd):
    pipe, link, target = tmp_path / "p.gguf", tmp_path / "l.gguf", tmp_path / "t.gguf"
    os.mkfifo(pipe)
    target.write_text("mine")
    link.symlink_to(target)
    assert cli.run(["convert", str(PTH), str(pipe), "--force"]) == 2
    assert "not a regular file" in capfd.readouterr().err
    assert pipe.is_fifo()
    assert cli.run(["convert", str(PTH), str(link), "--force"]) == 0
    assert link.is_symlink()
    assert (logits(target) == logits(PTH)).all()
    assert not list(tmp_path.glob(".*"))


def test_numbers_that_16_bits_cannot_hold(tmp_path, tensors, capfd):
    large = {n: a.copy() for n, a in tensors.items()}
    large["emb.weight"][0, 0] = 1e6
    save_file(large, tmp_path / "m.safetensors")
    for name in ("a.gguf", "b.safetensors"):
        words = ["convert", str(tmp_path / "m.safetensors"), str(tmp_path / name)]
        assert cli.run([*words, "--dtype", "fp16"]) == 0
        found = check_weights(read_checkpoint(tmp_path / name), tmp_path / name)
        assert found["emb.weight"].float32()[0, 0] == 65504
    large["emb.weight"][0, 0] = np.nan
    save_file(large, tmp_path / "m.safetensors")
    for name in ("c.gguf", "d.safetensors"):
        assert cli.run(["convert", str(tmp_path / "m.safetensors"), str(tmp_path / name)]) == 2
        assert "NaN or infinite" in capfd.readouterr().err
        assert not (tmp_path / name).exists()


def test_quantised_blocks_that_are_widened_are_told(tmp_path, capfd):
    source = str(DATA / "random-L3-D128-N64.bf16.pth")
    assert cli.run(["convert", source, str(tmp_path / "a.gguf"), "--dtype", "q8_0"]) == 0
    assert "widened" not in capfd.readouterr().out
    assert cli.run(["convert", str(tmp_path / "a.gguf"), str(tmp_path / "b.gguf")]) == 0
    assert "widened to fp16" in capfd.readouterr().out
