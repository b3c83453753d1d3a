"""Every layout that people's files have: the same logits as the plain file, bit for bit."""

import argparse
import datetime
import json
import os
import pathlib
import zipfile
from collections import defaultdict

import numpy as np
import pytest
from safetensors.numpy import save_file

import goose_viz as gv
from goose_viz import cli
from goose_viz.checkpoint import gguf_file, read_checkpoint
from goose_viz.checkpoint.names import turn_low_rank
from goose_viz.checkpoint.tensor import Tensor
from goose_viz.weights import check_weights
from goose_viz.writing import write_gguf

from .pth_writer import write_tensors
from .test_checkpoints import DATA, PTH, TOKENS, bits, logits, to_fla, write_shards

#: Heads of 16: Transformers computes the group norm's epsilon as head size x norm_eps.
HF_CONFIG = {
    "model_type": "rwkv7", "architectures": ["Rwkv7ForCausalLM"], "hidden_size": 96,
    "num_hidden_layers": 2, "num_heads": 6, "head_dim": 16, "intermediate_size": 384,
    "vocab_size": 61, "decay_low_rank_dim": 32, "norm_eps": 4e-5, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def tensors():
    return {n: t.float32() for n, t in read_checkpoint(PTH).tensors.items()}


@pytest.fixture(scope="module")
def expected():
    return logits(PTH, dtype="fp32")


@pytest.fixture(scope="module")
def expected_at_4e_5():
    """With the layer norms' epsilon of HF_CONFIG, and the group norm's of RWKV-7."""
    plain = gv.load_model(PTH, dtype="fp32")
    plain._engine._prompt._eps = np.float32(4e-5), np.float32(64e-5)
    return plain.forward(TOKENS, plain.new_state())


def notes(path):
    return " ".join(gv.load_model(path).notes)


# -- Hugging Face's own ------------------------------------------------------------------------


def to_transformers(tensors):
    out = {}
    for name, a in tensors.items():
        vector = a.size == 96 and not name.endswith(("r_k", "weight", "bias"))
        out[name if name == "head.weight" else f"rwkv7.{name}"] = (
            a.reshape(1, 1, 96) if vector else a
        )
    for i in range(3):
        out[f"rwkv7.blocks.0.att.v{i}"] = out[f"rwkv7.blocks.1.att.v{i}"]
    return {n: np.ascontiguousarray(a) for n, a in out.items()}


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


# -- wrappers and prefixes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "_forward_module.", "module._orig_mod.", "net.rwkv.",
     "_forward_module.module.model."],
)  # fmt: skip
def test_prefixes(tmp_path, tensors, expected, prefix):
    save_file({prefix + n: a for n, a in tensors.items()}, tmp_path / "m.safetensors")
    assert (logits(tmp_path / "m.safetensors") == expected).all()


def test_a_compiled_block_and_a_head_outside(tmp_path, tensors, expected):
    named = {n.replace("blocks.1.", "blocks.1._orig_mod."): a for n, a in tensors.items()}
    named = {n if n == "head.weight" else f"module.model.{n}": a for n, a in named.items()}
    save_file(named, tmp_path / "m.safetensors")
    assert (logits(tmp_path / "m.safetensors") == expected).all()


def test_prefixes_before_flash_linear_attentions_names(tmp_path, tensors):
    save_file(to_fla(tensors), tmp_path / "a.safetensors")
    wrapped = {f"module.{n}": a for n, a in to_fla(tensors).items()}
    save_file(wrapped, tmp_path / "b.safetensors")
    assert (logits(tmp_path / "a.safetensors") == logits(tmp_path / "b.safetensors")).all()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda c: {"model": c},
        lambda c: {"state_dict": c, "epoch": 3},
        lambda c: {"module": {"state_dict": c}},
        lambda c: {"model_state_dict": c, "optimizer": {"state": {}, "param_groups": []}},
        lambda c: {"iteration": 7, "weights": {"model": c}},
        lambda c: {"some": {"other": {"words": c}}},
        lambda c: [{"lr": 1e-4}, c],
    ],
)
def test_wrappers(tmp_path, tensors, expected, wrap):
    write_tensors(tmp_path / "m.pth", bits(tensors), wrap=wrap)
    assert (logits(tmp_path / "m.pth") == expected).all()


def test_the_average_beside_the_model_is_left_alone(tmp_path, tensors, expected):
    both = {f"model.{n}": a for n, a in tensors.items()}
    both |= {f"ema.{n}": a + 1 for n, a in tensors.items()}
    save_file(both, tmp_path / "m.safetensors")
    assert (logits(tmp_path / "m.safetensors") == expected).all()
    save_file(both | {f"teacher.{n}": a for n, a in tensors.items()}, tmp_path / "m.safetensors")
    with pytest.raises(gv.CheckpointError, match=r"2 models, under 'model\.' and 'teacher\.'"):
        gv.load_model(tmp_path / "m.safetensors")


# -- what lies beside the weights --------------------------------------------------------------


def test_training_checkpoints(tmp_path, tensors, expected):
    """Optimizer state, sizes, scalars of NumPy, a Namespace, complex and sparse tensors."""
    path = tmp_path / "m.pth"
    beside = {
        "args": argparse.Namespace(lr=1e-3, betas=(0.9, 0.99), out=pathlib.Path("/tmp/x")),
        "loss": np.float64(2.5),
        "history": np.arange(5, dtype=np.float32),
        "flags": {1, 2, 3},
        "when": datetime.datetime(2026, 1, 1),
        "counts": defaultdict(list, {"a": [1]}),
        "phase": 1 + 2j,
        "blob": b"bytes",
    }
    write_tensors(path, bits(tensors), wrap=lambda c: {"state_dict": c, **beside})
    assert (logits(path) == expected).all()


def text(words):
    return b"X" + len(words).to_bytes(4, "little") + words.encode()


def called(name, *arguments):
    """A global called with arguments, as pickle writes it."""
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode() + b"(" + b"".join(arguments) + b"tR"


INERT = {
    "size": called("torch.Size", b"(K\x02K\x03t"),
    "dtype": b"ctorch\nfloat32\n",
    "float8": b"ctorch\nfloat8_e4m3fn\n",
    "qscheme": b"ctorch\nper_tensor_affine\n",
    "path": called("pathlib.PosixPath", text("x")),
    "path of 3.13": called("pathlib._local.PosixPath", text("x")),
    "device": called("torch.device", text("cuda"), b"K\x00"),
    "scalar": called("numpy._core.multiarray.scalar", called("numpy.dtype", text("f8")), text("a")),
    "sparse": called(
        "torch._utils._rebuild_sparse_tensor",
        called("torch.serialization._get_layout", text("torch.sparse_coo")),
        b")",
    ),
    "complex": called(
        "torch._utils._rebuild_tensor_v2",
        b"(" + text("storage") + b"ctorch\nComplexFloatStorage\n" + text("9") + text("cpu")
        + b"K\x04tQ",
        b"K\x00", b"(K\x04t", b"(K\x01t", b"\x89", called("collections.OrderedDict"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", INERT)
def test_inert_things_of_torch(tmp_path, what):
    """As PyTorch writes them; each is one value of a dictionary without weights."""
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as z:
        z.writestr("archive/data.pkl", b"\x80\x02}" + text("other") + INERT[what] + b"s.")
    with pytest.raises(gv.CheckpointError, match="holds no float tensors"):
        gv.load_model(tmp_path / "m.pth")


def test_only_what_could_run_code_is_called_unsafe(tmp_path):
    for name, unsafe in (
        ("os.system", True), ("subprocess.Popen", True), ("builtins.exec", True),
        ("transformers.training_args.TrainingArguments", False), ("mylib.Config", False),
    ):  # fmt: skip
        module, _, attribute = name.rpartition(".")
        stream = b"\x80\x02}X\x01\x00\x00\x00ac" + f"{module}\n{attribute}\n".encode() + b"s."
        with zipfile.ZipFile(tmp_path / "m.pth", "w") as z:
            z.writestr("archive/data.pkl", stream)
        with pytest.raises(gv.CheckpointError, match="its pickle asks for") as caught:
            gv.load_model(tmp_path / "m.pth")
        assert name in str(caught.value)
        assert ("do not trust" in str(caught.value)) == unsafe
        assert ("torch.save(model.state_dict()" in str(caught.value)) != unsafe


def test_skipped_things_are_never_built(tmp_path, tensors, monkeypatch):
    built = []
    monkeypatch.setattr(argparse, "Namespace", lambda **k: built.append(k))
    stream = b"\x80\x02}X\x01\x00\x00\x00acargparse\nNamespace\n)\x81}X\x02\x00\x00\x00lrK\x01sbs."
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as z:
        z.writestr("archive/data.pkl", stream)
    with pytest.raises(gv.CheckpointError, match="holds no float tensors"):
        gv.load_model(tmp_path / "m.pth")
    assert not built


def test_bookkeeping_tensors(tmp_path, tensors, expected):
    beside = {"optimizer.state.0.exp_avg": np.ones((3, 3), np.float32),
              "loss": np.ones(1, np.float32), "global_step": np.array(3.0, np.float32)}  # fmt: skip
    save_file(tensors | beside, tmp_path / "m.safetensors")
    assert (logits(tmp_path / "m.safetensors") == expected).all()


# -- folders -----------------------------------------------------------------------------------


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


# -- stray keys --------------------------------------------------------------------------------


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


# -- web-rwkv ----------------------------------------------------------------------------------


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


# -- GGUF --------------------------------------------------------------------------------------


def write(path, source, dtype, tokenizer=None):
    checkpoint = read_checkpoint(source)
    weights = check_weights(checkpoint, source)
    write_gguf(weights, tokenizer or gv.load_model(source).tokenizer, path, dtype, lambda *_: None)
    return weights


@pytest.mark.parametrize("name", ["random-L2-D96-N16", "random-L3-D128-N64"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_gguf(tmp_path, name, dtype):
    source = DATA / f"{name}.bf16.pth"
    write(tmp_path / "m.gguf", source, dtype)
    model = gv.load_model(tmp_path / "m.gguf")
    assert model.config.source_format == "gguf"
    assert model.dtype == dtype
    plain = gv.load_model(source, dtype=dtype)
    found, expected = (m.forward(TOKENS, m.new_state()) for m in (model, plain))
    assert (found == expected).all()
    stored = read_checkpoint(tmp_path / "m.gguf").stored
    assert {"fp32": "F32", "bf16": "BF16", "fp16": "F16"}[dtype] in stored
    assert not model.notes


@pytest.mark.parametrize(
    "kind", ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q6_K", "Q2_K", "IQ4_NL"]
)
def test_quantised_blocks(tmp_path, kind):
    """What the package widens them to, in rows and in columns; random bytes are blocks too."""
    import gguf

    number = gguf.GGMLQuantizationType[kind]
    block, nbytes = gguf.GGML_QUANT_SIZES[number]
    raw = np.random.default_rng(0).integers(0, 60, (6, 2 * nbytes), np.uint8)
    tensor = gguf_file.Blocks(raw, number, (6, 2 * block))
    whole = gguf.quants.dequantize(raw, number)
    assert tensor.shape == (6, 2 * block)
    np.testing.assert_array_equal(tensor.float32(), whole)
    np.testing.assert_array_equal(tensor.rows(2, 5).float32(), whole[2:5])
    columns = tensor.transposed()
    assert columns.whole
    assert columns.shape == (2 * block, 6)
    np.testing.assert_array_equal(columns.rows(3, 40).float32(), whole.T[3:40])
    np.testing.assert_array_equal(columns.transposed().float32(), whole)


def test_q8_0(tmp_path):
    source = DATA / "random-L3-D128-N64.bf16.pth"
    weights = write(tmp_path / "m.gguf", source, "q8_0")
    model = gv.load_model(tmp_path / "m.gguf")
    assert model.dtype == "fp16"
    assert (tmp_path / "m.gguf").stat().st_size < 0.7 * source.stat().st_size
    widened = check_weights(read_checkpoint(tmp_path / "m.gguf"), tmp_path / "m.gguf")
    for name in ("emb.weight", "blocks.1.ffn.value.weight", "blocks.2.att.output.weight"):
        a, b = widened[name].float32(), weights[name].float32()
        scale = np.abs(b.reshape(-1, 32)).max(1) / 127  # half of it, and its own rounding
        assert (np.abs(a - b).reshape(-1, 32) <= 0.6 * scale[:, None] + 1e-9).all()
    plain = gv.load_model(source, dtype="fp32")
    for dtype in ("fp32", "fp16", "bf16", "int8"):
        other = gv.load_model(tmp_path / "m.gguf", dtype=dtype)
        found = other.forward(TOKENS, other.new_state())
        reference = plain.forward(TOKENS, plain.new_state())
        assert np.abs(found - reference).max() < 0.05 * np.abs(reference).max()


def test_gguf_vocabularies(tmp_path, demo):
    write(tmp_path / "stories.gguf", demo.source, "auto", demo.tokenizer)
    model = gv.load_model(tmp_path / "stories.gguf")
    text = "Once upon a time, Größe 好\n\n  1234"
    assert model.tokenizer.encode(text) == demo.tokenizer.encode(text)
    assert model.tokenizer.decode(model.tokenizer.encode(text)) == text
    assert model.tokenizer.end_token == 0
    assert (logits(tmp_path / "stories.gguf") == logits(demo.source)).all()

    from goose_viz.tokenizer import GreedyTokenizer

    table = [b"", b"a", b"\n", b"\\x", b"'\"", b"\xff\x00", "é".encode(), b"[PAD3]", b"", b"<s>"]
    inside = GreedyTokenizer(table, "GGUF")
    write(tmp_path / "rwkv.gguf", PTH, "auto", inside)
    model = gv.load_model(tmp_path / "rwkv.gguf")
    assert model.tokenizer.table[:10] == table
    assert not any(model.tokenizer.table[10:])
    assert model.tokenizer.encode("aé\n") == [1, 6, 2]


def test_gguf_that_will_not_do(tmp_path):
    write(tmp_path / "m.gguf", PTH, "fp16")
    whole = (tmp_path / "m.gguf").read_bytes()
    cases = {
        "cut within the numbers": (whole[:-5000], "should end at byte"),
        "cut within the header": (whole[:700], "header"),
        "an old version": (whole[:4] + b"\x01\0\0\0" + whole[8:], "version 1"),
        "big-endian": (whole[:4] + b"\0\0\0\x03" + whole[8:], "big-endian"),
        "a list without end": (whole[:16] + b"\xff" * 8 + whole[24:], "header"),
        "another": (whole.replace(b"rwkv7", b"llama", 1), "llama"),
    }
    for words, (content, sentence) in cases.items():
        (tmp_path / "n.gguf").write_bytes(content)
        with pytest.raises(gv.CheckpointError, match=sentence) as caught:
            gv.load_model(tmp_path / "n.gguf")
        assert "n.gguf" in str(caught.value), words
        assert "\n" not in str(caught.value)


def test_damaged_gguf_never_escapes_as_another_error(tmp_path):
    write(tmp_path / "m.gguf", PTH, "fp32")
    whole = (tmp_path / "m.gguf").read_bytes()
    rng = np.random.default_rng(0)
    refused = []
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, 6000, 3):
            damaged[place] ^= 1 << rng.integers(8)
        (tmp_path / "n.gguf").write_bytes(damaged)
        try:
            check_weights(read_checkpoint(tmp_path / "n.gguf"), tmp_path)
        except gv.GooseError as error:
            refused.append(str(error))
    assert len(refused) > 75
    assert not any("\n" in words for words in refused)


# -- convert -----------------------------------------------------------------------------------


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


# -- what a stranger would try next ------------------------------------------------------------


@pytest.mark.parametrize("beside", ["ema_model", "model_ema", "shadow_params", "opt_state", "swa"])
def test_what_a_trainer_derives_is_not_taken_for_the_weights(tmp_path, tensors, expected, beside):
    half = {n: t.float32() * 2 for n, t in read_checkpoint(PTH).tensors.items()}
    both = {f"{beside}|{n}": b for n, b in bits(half).items()}
    both |= {f"net|{n}": b for n, b in bits(tensors).items()}

    def nested(flat):
        out = {}
        for name, view in flat.items():
            key, _, rest = name.partition("|")
            out.setdefault(key, {})[rest] = view
        return out

    write_tensors(tmp_path / "m.pth", both, wrap=nested)
    assert (logits(tmp_path / "m.pth") == expected).all()
    equal = {n.replace(f"{beside}|", "best|").replace("net|", "last|"): b for n, b in both.items()}
    write_tensors(tmp_path / "m.pth", equal, wrap=nested)
    with pytest.raises(gv.CheckpointError, match="2 models, under 'best' and 'last'"):
        gv.load_model(tmp_path / "m.pth")


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


def test_a_gguf_without_tensors(tmp_path):
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "rwkv7")
    writer.add_block_count(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(gv.CheckpointError, match="holds no float tensors"):
        gv.load_model(tmp_path / "m.gguf")


def test_a_range_beside_the_weights(tmp_path, tensors, expected):
    write_tensors(tmp_path / "m.pth", bits(tensors), wrap=lambda c: {"model": c, "x": range(3)})
    assert (logits(tmp_path / "m.pth") == expected).all()


def test_a_schedulers_counter_and_a_config_with_a_byte_order_mark(
    tmp_path, tensors, expected, expected_at_4e_5
):
    from collections import Counter

    wrap = lambda c: {"model": c, "lr_scheduler": {"milestones": Counter([3, 4])}}  # noqa: E731
    write_tensors(tmp_path / "m.pth", bits(tensors), wrap=wrap)
    assert (logits(tmp_path / "m.pth") == expected).all()
    save_file(to_transformers(tensors), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(HF_CONFIG), encoding="utf-8-sig")
    assert (logits(tmp_path) == expected_at_4e_5).all()


def test_a_bonus_with_axes_of_one(tmp_path, tensors, expected):
    named = {n: a.reshape(1, 1, 6, 16) if n.endswith("r_k") else a for n, a in tensors.items()}
    save_file(named, tmp_path / "m.safetensors")
    assert (logits(tmp_path / "m.safetensors") == expected).all()
