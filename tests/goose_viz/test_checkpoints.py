"""Files that people have: read, or refused with the right sentence."""

import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

import goose_viz as gv
from goose_viz.checkpoint import pth, read_checkpoint
from goose_viz.weights import check_weights

from .layout_files import PTH, TOKENS, bits, logits, to_fla, write_shards
from .pth_writer import Storage, View, contiguous, write, write_tensors

# -- what is read ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bf16", "fp32", "fp64"])
def test_pth_kinds(tmp_path, tensors, expected, kind):
    write_tensors(tmp_path / "m.pth", bits(tensors, kind))
    model = gv.load_model(tmp_path / "m.pth")
    assert model.dtype == {"fp64": "fp32"}.get(kind, kind)
    np.testing.assert_allclose(model.forward(TOKENS, model.new_state()), expected, atol=1e-6)


def test_pth_fp16(tmp_path, tensors, expected):
    write_tensors(tmp_path / "m.pth", bits(tensors, "fp16"))
    model = gv.load_model(tmp_path / "m.pth")
    assert model.dtype == "fp16"
    np.testing.assert_allclose(model.forward(TOKENS, model.new_state()), expected, atol=1e-4)


def test_pth_big_endian_and_wrapped(tmp_path, tensors, expected):
    write_tensors(
        tmp_path / "m.pth",
        bits(tensors),
        big_endian=True,
        wrap=lambda c: {"state_dict": c, "step": 7},
    )
    assert (logits(tmp_path / "m.pth") == expected).all()


def test_pth_views_of_shared_storages(tmp_path, tensors, expected):
    """Offsets, strides, parameters and two tensors in one storage."""
    views, storages = {}, {}
    for i, (name, array) in enumerate(tensors.items()):
        if array.ndim == 2:  # stored transposed behind seven numbers that belong to nobody
            flat = np.concatenate([np.full(7, np.nan, np.float32), array.T.ravel()])
            view = (7, array.shape, (1, array.shape[0]))
        else:
            flat, view = array.ravel(), (0, array.shape, contiguous(array.shape))
        storages[str(i)] = ("fp32", flat)
        views[name] = View(Storage(str(i), "fp32", flat.size), *view, parameter=i % 2 == 0)
    first = np.stack([tensors["blocks.0.ln1.weight"], tensors["blocks.0.ln1.bias"]])
    storages["pair"] = ("fp32", first)
    for row, part in enumerate(("weight", "bias")):
        storage = Storage("pair", "fp32", first.size)
        views[f"blocks.0.ln1.{part}"] = View(storage, row * 96, (96,), (1,))
    write(tmp_path / "m.pth", views, storages)
    assert (logits(tmp_path / "m.pth") == expected).all()


def test_pth_is_mapped_not_read():
    tensor = read_checkpoint(PTH).tensors["emb.weight"]
    base = tensor.bits
    while isinstance(base, np.ndarray):
        assert not base.flags.owndata
        base = base.base


def test_safetensors_and_other_vector_shapes(tmp_path, tensors, expected):
    reshaped = {}
    for i, (name, array) in enumerate(tensors.items()):
        vector = array.size == 96 and not name.endswith("r_k")
        reshaped[name] = array.reshape([(1, 1, 96), (1, 96), (96,)][i % 3]) if vector else array
    save_file(reshaped, tmp_path / "m.safetensors")
    assert (logits(tmp_path / "m.safetensors") == expected).all()
    (tmp_path / "m.safetensors").rename(tmp_path / "renamed.pth")  # the content decides
    assert (logits(tmp_path / "renamed.pth") == expected).all()


def test_a_safetensors_header_that_says_nothing_of_itself(tmp_path, tensors, expected):
    """Null for its metadata is what the library takes for none."""
    save_file(tensors, tmp_path / "m.safetensors")
    data = (tmp_path / "m.safetensors").read_bytes()
    n = int.from_bytes(data[:8], "little")
    header = json.dumps({"__metadata__": None} | json.loads(data[8 : 8 + n])).encode()
    whole = len(header).to_bytes(8, "little") + header + data[8 + n :]
    (tmp_path / "m.safetensors").write_bytes(whole)
    assert (logits(tmp_path / "m.safetensors") == expected).all()


# fla computes the group norm's epsilon as head_dim x norm_eps: 16 x 4e-5 = 64e-5 here
CONFIG = {"hidden_size": 96, "num_hidden_layers": 2, "head_dim": 16, "vocab_size": 61,
          "decay_low_rank_dim": 32, "norm_eps": 4e-5}  # fmt: skip


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("sharded", [False, True])
def test_fla_folders(tmp_path, tensors, stacked, sharded):
    fla = to_fla(tensors, stacked)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    if sharded:
        write_shards(tmp_path, fla, 3)
    else:
        save_file(fla, tmp_path / "model.safetensors")
    model = gv.load_model(tmp_path)
    assert model.config.source_format == "fla"
    assert model.config.group_norm_eps == pytest.approx(64e-5)
    assert model.config.layer_norm_eps == 4e-5
    plain = gv.load_model(PTH, dtype="fp32")
    plain._engine._prompt._eps = np.float32(4e-5), np.float32(64e-5)
    expected = plain.forward(TOKENS, plain.new_state())
    assert (model.forward(TOKENS, model.new_state()) == expected).all()
    if sharded:
        (tmp_path / "model-1.safetensors").unlink()
        with pytest.raises(gv.CheckpointError, match=r"model-1\.safetensors, which is missing"):
            gv.load_model(tmp_path)


def test_fla_tied_embeddings_and_other_dialect(tmp_path, tensors):
    fla = to_fla(tensors)
    del fla["lm_head.weight"]
    save_file(fla, tmp_path / "model.safetensors")
    other = {"hidden_size": 96, "num_hidden_layers": 2, "head_size": 16, "lora_rank_decay": 32}
    (tmp_path / "config.json").write_text(json.dumps(other))
    weights = check_weights(read_checkpoint(tmp_path), tmp_path)
    assert (weights["head.weight"].bits == weights["emb.weight"].bits).all()


def test_config_that_contradicts_the_shapes(tmp_path, tensors):
    save_file(to_fla(tensors), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": 12}))
    with pytest.raises(gv.CheckpointError, match=r"n_layer 12.*say 2"):
        gv.load_model(tmp_path)


# -- what is refused ---------------------------------------------------------------------------


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_that_wants_to_run_something(tmp_path, tensors):
    marker, path = tmp_path / "marker", tmp_path / "m.pth"
    views = {"evil": Evil(marker)}
    write(path, views, {})
    with pytest.raises(gv.CheckpointError, match=r"posix\.system.*nothing was run"):
        gv.load_model(path)
    assert not marker.exists()
    with zipfile.ZipFile(path) as z:  # the file does what it should do where nobody looks
        pickle.loads(z.read("archive/data.pkl"))
    assert marker.exists()


@pytest.mark.parametrize(
    "name", ["builtins.eval", "builtins.getattr", "torch.load", "torch._utils._rebuild_tensor",
             "collections.abc.Callable", "goose_viz.checkpoint.pth.read", "numpy.load"]
)  # fmt: skip
def test_any_other_name_is_refused(tmp_path, name):
    module, _, attribute = name.rpartition(".")
    stream = b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + b"."
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as z:
        z.writestr("archive/data.pkl", stream)
    with pytest.raises(gv.CheckpointError, match="its pickle asks for"):
        gv.load_model(tmp_path / "m.pth")


def test_the_stream_cannot_alter_what_stands_in_for_names(tmp_path):
    # GLOBAL _rebuild_tensor_v2, EMPTY_DICT, SETITEM "_name", BUILD
    stream = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}"
    stream += b"X\x05\x00\x00\x00_nameX\x01\x00\x00\x00xs\x86b."
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as z:
        z.writestr("archive/data.pkl", stream)
    with pytest.raises(gv.CheckpointError, match="damaged"):
        gv.load_model(tmp_path / "m.pth")


def test_truncated_empty_and_foreign_files(tmp_path):
    whole = PTH.read_bytes()
    cases = {
        "empty.pth": (b"", "is empty"),
        "short.pth": (whole[: len(whole) // 2], "not a complete zip archive"),
        "legacy.pth": (pickle.dumps({"a": 1}, protocol=2), "does not begin like a zip"),
        "page.pth": (b"<!DOCTYPE html><html>404</html>", "a web page"),
        "page2.safetensors": (b"\n<html>login</html>", "a web page"),
        "lfs.safetensors": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS"),
        "model.gguf": (b"GGUF" + bytes(64), "GGUF"),
        "short.safetensors": (b"\x10\x00\x00", "does not begin like a safetensors"),
        "header.safetensors": ((1000).to_bytes(8, "little") + b'{"a":', "not a complete"),
        "notes.txt": (b"hello, I am no model at all", "neither a .pth nor"),
    }
    for name, (content, words) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(gv.CheckpointError, match=words) as caught:
            gv.load_model(path)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(gv.CheckpointError, match="no such file"):
        gv.load_model(tmp_path / "nowhere.pth")
    with pytest.raises(gv.GooseError, match="embedded are recall, shell-game, stories-7M"):
        gv.load_model("nonsense")
    (tmp_path / "folder").mkdir()
    with pytest.raises(gv.CheckpointError, match="found no model file"):
        gv.load_model(tmp_path / "folder")


def test_a_safetensors_cut_short(tmp_path, tensors):
    save_file(tensors, tmp_path / "m.safetensors")
    whole = (tmp_path / "m.safetensors").read_bytes()
    (tmp_path / "m.safetensors").write_bytes(whole[:-1000])
    with pytest.raises(gv.CheckpointError, match=r"m\.safetensors: not a complete"):
        gv.load_model(tmp_path / "m.safetensors")


def test_zip_bombs(tmp_path, tensors):
    write_tensors(tmp_path / "m.pth", {"emb.weight": ("fp32", np.zeros((4096, 1024), np.float32))},
                  compress=True)  # fmt: skip
    assert (tmp_path / "m.pth").stat().st_size < 100_000
    with pytest.raises(gv.CheckpointError, match="is compressed"):
        gv.load_model(tmp_path / "m.pth")
    with zipfile.ZipFile(tmp_path / "big.pth", "w") as z:
        z.writestr("archive/data.pkl", bytes(pth._MAX_PICKLE + 1))
    with pytest.raises(gv.CheckpointError, match="more than the 64 MB"):
        gv.load_model(tmp_path / "big.pth")


def test_a_zip_that_is_no_checkpoint(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as z:
        z.writestr("readme.txt", "hello")
    with pytest.raises(gv.CheckpointError, match=r"0 data\.pkl inside"):
        gv.load_model(tmp_path / "m.pth")


def test_tensors_that_reach_past_their_storage(tmp_path):
    for size, stride, offset in (((9,), (1,), 0), ((2, 2), (8, 1), 0), ((8,), (1,), 1)):
        view = View(Storage("0", "fp32", 8), offset, size, stride)
        write(tmp_path / "m.pth", {"a": view}, {"0": ("fp32", np.zeros(8, np.float32))})
        with pytest.raises(gv.CheckpointError, match="claims more than"):
            gv.load_model(tmp_path / "m.pth")
    view = View(Storage("0", "fp32", 80), 0, (80,), (1,))
    write(tmp_path / "m.pth", {"a": view}, {"0": ("fp32", np.zeros(8, np.float32))})
    with pytest.raises(gv.CheckpointError, match="should hold 80 numbers"):
        gv.load_model(tmp_path / "m.pth")
    view = View(Storage("0", "fp32", 8), 0, (8,), (-1,))
    write(tmp_path / "m.pth", {"a": view}, {"0": ("fp32", np.zeros(8, np.float32))})
    with pytest.raises(gv.CheckpointError, match="impossible shape"):
        gv.load_model(tmp_path / "m.pth")


OTHERS = {
    "RWKV-4": ["blocks.0.att.time_first", "blocks.0.att.time_mix_k"],
    "RWKV-5": ["blocks.0.att.time_faaaa", "blocks.0.att.gate.weight", "blocks.0.att.time_mix_k"],
    "RWKV-5,": ["blocks.0.att.time_first", "blocks.0.att.time_mix_k", "blocks.0.att.ln_x.weight"],
    "RWKV-6": ["blocks.0.att.time_maa_x", "blocks.0.att.time_faaaa"],
    "RWKV-7a": ["blocks.0.att.w1", "blocks.0.att.g1", "blocks.0.ffn.s_emb.weight"],
    "RWKV-7b": ["blocks.0.att.w1", "blocks.0.att.g1", "blocks.0.qkv.q_emb.weight"],
    "RWKV-8": ["blocks.0.rosa.weight"],
    "gateless relative": ["blocks.0.att.w1", "blocks.0.att.w2"],
    "LoRA": ["blocks.0.att.key.lora_A", "blocks.0.att.key.lora_B"],
    "initial state": ["blocks.0.att.time_state"],
    "attention": ["model.layers.0.self_attn.q_proj.weight"],
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_generations(tmp_path, what):
    named = {n: ("fp32", np.zeros(4, np.float32)) for n in OTHERS[what]}
    write_tensors(tmp_path / "m.pth", named)
    with pytest.raises(gv.CheckpointError, match=what) as caught:
        gv.load_model(tmp_path / "m.pth")
    assert "expected RWKV-7" in str(caught.value)


def test_wrong_shapes_missing_unknown_and_nan(tmp_path, tensors):
    def refused(changed, words):
        save_file(changed, tmp_path / "m.safetensors")
        with pytest.raises(gv.CheckpointError, match=words):
            gv.load_model(tmp_path / "m.safetensors")

    refused(tensors | {"blocks.1.att.key.weight": np.zeros((96, 95), np.float32)}, "key.weight has")
    refused(tensors | {"blocks.1.att.w1": np.zeros((96, 16), np.float32)}, "needs 96×32")
    refused(tensors | {"blocks.1.extra": np.zeros(3, np.float32)}, "not part of RWKV-7")
    refused({k: v for k, v in tensors.items() if k != "ln_out.bias"}, "ln_out.bias is missing")
    refused({k: v for k, v in tensors.items() if "blocks.0." not in k}, "block 0 is missing")
    for bad in (np.nan, np.inf):
        damaged = tensors["blocks.1.ffn.key.weight"].copy()
        damaged[3, 4] = bad
        refused(tensors | {"blocks.1.ffn.key.weight": damaged}, "NaN or infinite")
    refused(tensors | {"blocks.0.att.r_k": np.zeros((5, 16), np.float32)}, "5 heads of 16")
    refused({"foo": np.zeros(3, np.float32)}, r"no tensor named blocks\.0")


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_nan_in_sixteen_bits(tmp_path, tensors, kind):
    damaged = bits(tensors, kind)
    raw = damaged["head.weight"][1].view(np.uint16).copy()
    raw[0, 0] = 0x7FC0 if kind == "bf16" else 0x7E00
    damaged["head.weight"] = (kind, raw)
    write_tensors(tmp_path / "m.pth", damaged)
    with pytest.raises(gv.CheckpointError, match=r"head\.weight holds NaN"):
        gv.load_model(tmp_path / "m.pth")


def test_block_zero_may_carry_unused_value_mixes(tmp_path, tensors, expected):
    extra = {f"blocks.0.att.v{i}": tensors[f"blocks.1.att.v{i}"] for i in range(3)}
    save_file(tensors | extra, tmp_path / "m.safetensors")
    assert (logits(tmp_path / "m.safetensors") == expected).all()


def test_random_damage_never_escapes_as_another_error(tmp_path):
    """Flip bytes all over the description: every outcome is a model or a sentence."""
    whole = bytearray(PTH.read_bytes())
    with zipfile.ZipFile(io.BytesIO(bytes(whole))) as z:
        info = next(i for i in z.infolist() if i.filename.endswith("data.pkl"))
    rng = np.random.default_rng(0)
    path = tmp_path / "m.pth"
    refused = []
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(3):
            place = info.header_offset + int(rng.integers(0, info.file_size))
            damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            check_weights(read_checkpoint(path), path)
        except gv.GooseError as error:
            refused.append(str(error))
    assert len(refused) > 150
    assert not any("\n" in words for words in refused)


def test_unknown_options():
    for options, words in (
        ({"device": "tpu"}, "expected auto, cpu, cuda"),
        ({"device": "cuda:x"}, "expected auto, cpu, cuda"),
        ({"device": "cuda"}, "use device='cpu'"),
        ({"dtype": "fp8"}, "expected one of auto, fp32"),
        ({"tokenizer": "klingon"}, "no such tokenizer"),
    ):
        with pytest.raises(gv.GooseError, match=words):
            gv.load_model(**options)


def test_pickles_that_would_hang_or_fill_the_memory(tmp_path):
    huge_memo = b"\x80\x02}r\xff\xff\xff\x7f."  # LONG_BINPUT 2^31 - 1
    doubling = b"\x80\x02})q\x00" + b"".join(
        b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) + b"0" for i in range(60)
    )
    doubling += b"h" + bytes([60]) + b"K\x01s."  # as a key of the dictionary
    for stream, words in ((huge_memo, "none has so many"), (doubling, "tuples 13 deep")):
        with zipfile.ZipFile(tmp_path / "m.pth", "w") as z:
            z.writestr("archive/data.pkl", stream)
        with pytest.raises(gv.CheckpointError, match=words):
            gv.load_model(tmp_path / "m.pth")
    view = View(Storage("0", "fp32", 8), 0, (10**9, 64), (0, 0))
    write(tmp_path / "m.pth", {"emb.weight": view}, {"0": ("fp32", np.zeros(8, np.float32))})
    with pytest.raises(gv.CheckpointError, match="claims more than"):
        gv.load_model(tmp_path / "m.pth")


def test_a_file_inside_an_fla_folder_knows_its_config(tmp_path, tensors):
    save_file(to_fla(tensors), tmp_path / "model.safetensors")
    alone = gv.load_model(tmp_path / "model.safetensors")
    assert alone.config.group_norm_eps == pytest.approx(16 * 1e-5)  # fla's rule, its default eps
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for path in (tmp_path, tmp_path / "model.safetensors"):
        assert gv.load_model(path).config.layer_norm_eps == 4e-5


def test_a_shard_stands_for_its_folder(tmp_path, tensors):
    write_shards(tmp_path, to_fla(tensors), 2)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert gv.load_model(tmp_path / "model-0.safetensors").config.n_layer == 2


def test_memory_that_does_not_suffice(monkeypatch):
    monkeypatch.setattr(
        "goose_viz.model.build_engine", lambda *_: (_ for _ in ()).throw(MemoryError)
    )
    with pytest.raises(gv.GooseError, match="does not fit into the free memory"):
        gv.load_model(PTH)
