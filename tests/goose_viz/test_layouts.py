"""Every layout that people's files have: the same logits as the plain file, bit for bit."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

import goose_viz as gv
from goose_viz.checkpoint import read_checkpoint
from goose_viz.checkpoint.names import turn_low_rank
from goose_viz.checkpoint.tensor import Tensor
from goose_viz.weights import check_weights

from .layout_files import HF_CONFIG, TOKENS, bits, logits, to_transformers, write_shards
from .pth_writer import write_tensors


def notes(path):
    return " ".join(gv.load_model(path).notes)


@pytest.mark.parametrize("shards", [1, 3])
def test_transformers_layout(tmp_path, tensors, expected_at_4e_5, shards):
    named = to_transformers(tensors)
    (tmp_path / "config.json").write_text(json.dumps(HF_CONFIG))
    if shards == 1:
        save_file(named, tmp_path / "model.safetensors")
    else:
        write_shards(tmp_path, named, shards)
    file = next(tmp_path.glob("*.safetensors"))
    for path in (tmp_path, file):
        model = gv.load_model(path)
        assert model.config.source_format == "hf"
        assert model.config.layer_norm_eps == 4e-5
        assert model.config.group_norm_eps == pytest.approx(64e-5)
        assert (model.forward(TOKENS, model.new_state()) == expected_at_4e_5).all()


def test_transformers_head_is_tied_only_where_it_says_so(tmp_path, tensors):
    named = to_transformers(tensors)
    del named["head.weight"]
    save_file(named, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(HF_CONFIG))
    with pytest.raises(gv.CheckpointError, match=r"head\.weight is missing"):
        gv.load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(HF_CONFIG | {"tie_word_embeddings": True}))
    weights = check_weights(read_checkpoint(tmp_path), tmp_path)
    assert (weights["head.weight"].bits == weights["emb.weight"].bits).all()


def test_transformers_norms_without_bias(tmp_path, tensors):
    named = to_transformers(tensors)
    plain = {n: a for n, a in named.items() if not n.endswith(".bias")}
    save_file(plain, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(HF_CONFIG | {"norm_bias": False}))
    weights = check_weights(read_checkpoint(tmp_path), tmp_path)
    assert not weights["blocks.1.ln2.bias"].float32().any()


def test_contradictions_name_both(tmp_path, tensors):
    save_file(to_transformers(tensors), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(HF_CONFIG | {"head_dim": 32}))
    with pytest.raises(gv.CheckpointError, match=r"config\.json says head_size 32.*say 16"):
        gv.load_model(tmp_path)


def test_a_stale_index_beside_a_whole_file(tmp_path, tensors, expected_at_4e_5):
    named = to_transformers(tensors)
    (tmp_path / "config.json").write_text(json.dumps(HF_CONFIG))
    save_file(named, tmp_path / "model.safetensors")
    gone = {"weight_map": dict.fromkeys(named, "model-00001-of-00002.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(gone))
    for path in (tmp_path, tmp_path / "model.safetensors"):
        assert (logits(path) == expected_at_4e_5).all()


def test_other_safetensors_in_the_folder(tmp_path, tensors, expected_at_4e_5):
    (tmp_path / "config.json").write_text(json.dumps(HF_CONFIG))
    save_file({"a": np.ones(3, np.float32)}, tmp_path / "adapter_model.safetensors")
    save_file(to_transformers(tensors), tmp_path / "model.safetensors")
    assert (logits(tmp_path) == expected_at_4e_5).all()
    (tmp_path / "model.safetensors").unlink()
    write_shards(tmp_path, to_transformers(tensors), 2)
    assert (logits(tmp_path) == expected_at_4e_5).all()


def test_pytorch_model_bin(tmp_path, tensors, expected_at_4e_5):
    """In one file beside a trainer's own, and in shards that lie in a folder of theirs."""
    named = bits(to_transformers(tensors))
    (tmp_path / "config.json").write_text(json.dumps(HF_CONFIG))
    write_tensors(tmp_path / "pytorch_model.bin", named)
    (tmp_path / "training_args.bin").write_bytes(b"PK")
    assert (logits(tmp_path) == expected_at_4e_5).all()
    (tmp_path / "pytorch_model.bin").unlink()
    (tmp_path / "parts").mkdir()
    where = {name: f"parts/pytorch_model-{i % 2}.bin" for i, name in enumerate(named)}
    for part in set(where.values()):
        write_tensors(tmp_path / part, {n: a for n, a in named.items() if where[n] == part})
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    assert (logits(tmp_path) == expected_at_4e_5).all()
    index.write_text(json.dumps({"weight_map": dict.fromkeys(named, "../elsewhere.bin")}))
    with pytest.raises(gv.CheckpointError, match=r"names \.\./elsewhere\.bin, which is outside"):
        gv.load_model(tmp_path)


def test_endings_in_capitals(tmp_path, tensors, expected):
    save_file(tensors, tmp_path / "RWKV.SafeTensors")
    assert (logits(tmp_path) == expected).all()


def test_a_folder_that_does_not_say_which(tmp_path, tensors):
    for name in ("a.safetensors", "b.safetensors"):
        save_file(tensors, tmp_path / name)
    with pytest.raises(gv.CheckpointError, match=r"found a\.safetensors, b\.safetensors"):
        gv.load_model(tmp_path)


def hub(tmp_path, tensors):
    """A model in Hugging Face's cache: files are links into a folder of blobs."""
    root = tmp_path / "models--someone--goose-0.1B"
    for revision, scale in (("old", 2), ("new", 1)):
        snapshot = root / "snapshots" / revision
        snapshot.mkdir(parents=True)
        (root / "blobs").mkdir(exist_ok=True)
        save_file({n: a * scale for n, a in to_transformers(tensors).items()},
                  root / "blobs" / revision)  # fmt: skip
        (root / "blobs" / f"{revision}c").write_text(json.dumps(HF_CONFIG))
        (snapshot / "model.safetensors").symlink_to(root / "blobs" / revision)
        (snapshot / "config.json").symlink_to(root / "blobs" / f"{revision}c")
        os.utime(snapshot, (1e9 + (scale == 1), 1e9 + (scale == 1)))
    (root / "snapshots" / "begun").mkdir()
    return root


def test_hugging_faces_cache(tmp_path, tensors, expected_at_4e_5):
    root = hub(tmp_path, tensors)
    for path in (root, root / "snapshots" / "new", root / "snapshots/new/model.safetensors"):
        model = gv.load_model(path)
        assert model.source == path, "a link's own path is what to come back to"
        assert model.name == "goose-0.1B"
        assert (model.forward(TOKENS, model.new_state()) == expected_at_4e_5).all()
    (root / "blobs" / "new").unlink()
    for path in (root / "snapshots" / "new", root / "snapshots/new/model.safetensors"):
        with pytest.raises(gv.CheckpointError, match="a link to a file that is gone"):
            gv.load_model(path)
    for snapshot in ("old", "new"):
        (root / "snapshots" / snapshot / "model.safetensors").unlink()
    with pytest.raises(gv.CheckpointError, match="none of its snapshots holds a model"):
        gv.load_model(root)


def test_names_of_files_that_many_models_have(tmp_path, tensors):
    folder = tmp_path / "my-model"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    assert gv.load_model(folder).name == "my-model"
    assert gv.load_model(folder / "model.safetensors").name == "my-model"
    save_file(tensors, folder / "special-v1.5.safetensors")
    assert gv.load_model(folder / "special-v1.5.safetensors").name == "special-v1.5"


@pytest.mark.parametrize("block", [2, 24])
def test_stray_tensors_of_a_block_that_is_not_there(tmp_path, tensors, expected, block):
    stray = {f"blocks.{block}.att.{n}": tensors[f"blocks.1.att.{n}"] for n in ("w0", "x_r")}
    save_file(tensors | stray, tmp_path / "m.safetensors")
    assert (logits(tmp_path / "m.safetensors") == expected).all()
    assert f"2 stray tensors under blocks.{block}" in notes(tmp_path / "m.safetensors")


def test_a_block_that_is_missing_is_no_stray(tmp_path, tensors):
    def refused(named, words):
        save_file(named, tmp_path / "m.safetensors")
        with pytest.raises(gv.CheckpointError, match=words):
            gv.load_model(tmp_path / "m.safetensors")

    third = {n.replace("blocks.1.", "blocks.3."): a for n, a in tensors.items() if "blocks.1." in n}
    refused(tensors | third, "block 2 is missing of 4")
    most = {n: a for n, a in tensors.items() if "blocks.1.ffn" not in n}
    refused(most, r"blocks\.1\.ffn\.x_k is missing")


def turned(tensors):
    return {
        n: np.ascontiguousarray(a.T) if n[-2:] in {f"{c}{i}" for c in "wavg" for i in "12"} else a
        for n, a in tensors.items()
    }


@pytest.mark.parametrize("ending", ["st", "safetensors"])
def test_web_rwkv_files(tmp_path, tensors, ending):
    half = {n: a.astype(np.float16) for n, a in tensors.items()}
    save_file(half, tmp_path / "plain.safetensors")
    expected = logits(tmp_path / "plain.safetensors")
    save_file(turned(half), tmp_path / f"m.{ending}")
    model = gv.load_model(tmp_path / f"m.{ending}")
    assert model.config.source_format == "web-rwkv"
    assert model.dtype == "fp16"
    assert (model.forward(TOKENS, model.new_state()) == expected).all()
    assert "transposed" in read_checkpoint(tmp_path / f"m.{ending}").stored
    assert not model.notes
    save_file(half, tmp_path / "newer.st")  # newer tools write them as BlinkDL has them
    assert gv.load_model(tmp_path / "newer.st").config.source_format == "safetensors"
    assert (logits(tmp_path / "newer.st") == expected).all()


def test_where_a_rank_equals_the_width():
    def tensor(*shape):
        return Tensor(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), "fp32")

    square = {"emb.weight": tensor(9, 8), "blocks.0.att.w1": tensor(8, 8)}
    out, _, words = turn_low_rank(square, ".st")
    assert (out["blocks.0.att.w1"].bits == square["blocks.0.att.w1"].bits.T).all()
    assert "the ending .st does" in words
    assert turn_low_rank(square, ".safetensors") == (square, "", "")
    by_others = square | {"blocks.0.att.a1": tensor(8, 4)}  # as BlinkDL has it, so all are
    assert turn_low_rank(by_others, ".st") == (by_others, "", "")
    by_others = square | {"blocks.0.att.a1": tensor(4, 8)}
    out, stored, words = turn_low_rank(by_others, ".safetensors")
    assert (out["blocks.0.att.w1"].bits == square["blocks.0.att.w1"].bits.T).all()
    assert stored
    assert not words


def test_each_tensor_comes_from_the_shard_that_the_index_names(tmp_path, tensors, expected_at_4e_5):
    named = to_transformers(tensors)
    (tmp_path / "config.json").write_text(json.dumps(HF_CONFIG))
    write_shards(tmp_path, named, 2)
    last = sorted(tmp_path.glob("*.safetensors"))[-1]
    held = {n: a for i, (n, a) in enumerate(named.items()) if i % 2 == 1}
    other = next(iter(named))
    save_file(held | {other: named[other] + 1}, last)
    assert (logits(tmp_path) == expected_at_4e_5).all()


def test_the_cache_is_opened_where_its_main_points(tmp_path, tensors, expected_at_4e_5):
    root = hub(tmp_path, tensors)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("new")
    os.utime(root / "snapshots" / "old", (2e9, 2e9))
    assert (logits(root) == expected_at_4e_5).all()
    (root / "refs" / "main").write_text("begun")  # without a model: the newest that has one
    assert not (logits(root) == expected_at_4e_5).all()


@pytest.mark.parametrize("value", [float("nan"), -1.0, 0, True, "4e-5", [1]])
def test_numbers_of_a_config_that_are_none(tmp_path, tensors, value):
    save_file(to_transformers(tensors), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(HF_CONFIG | {"norm_eps": value}))
    with pytest.raises(
        gv.CheckpointError, match=r"config\.json says norm_eps .* expected a number"
    ):
        gv.load_model(tmp_path)


def test_a_bonus_with_axes_of_one(tmp_path, tensors, expected):
    named = {n: a.reshape(1, 1, 6, 16) if n.endswith("r_k") else a for n, a in tensors.items()}
    save_file(named, tmp_path / "m.safetensors")
    assert (logits(tmp_path / "m.safetensors") == expected).all()
