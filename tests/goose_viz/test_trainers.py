"""What trainers put around the weights and beside them."""

import argparse
import datetime
import json
import pathlib
import zipfile
from collections import defaultdict

import numpy as np
import pytest
from safetensors.numpy import save_file

import goose_viz as gv
from goose_viz.checkpoint import read_checkpoint

from .layout_files import (
    HF_CONFIG,
    PTH,
    bits,
    logits,
    to_fla,
    to_transformers,
)
from .pth_writer import write_tensors


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
    both |= {f"model_ema.{n}": a + 2 for n, a in tensors.items()}
    both |= {f"teacher.{n}": a + 3 for n, a in tensors.items()}
    save_file(both, tmp_path / "m.safetensors")
    assert (logits(tmp_path / "m.safetensors") == expected).all()
    two = {f"{who}.{n}": a for who in ("student", "teacher") for n, a in tensors.items()}
    save_file(two, tmp_path / "m.safetensors")
    with pytest.raises(gv.CheckpointError, match="2 models, under 'student' and 'teacher'"):
        gv.load_model(tmp_path / "m.safetensors")


def test_an_average_alone_is_the_model(tmp_path, tensors, expected):
    save_file({f"ema.{n}": a for n, a in tensors.items()}, tmp_path / "m.safetensors")
    assert (logits(tmp_path / "m.safetensors") == expected).all()
    write_tensors(tmp_path / "m.pth", bits(tensors), wrap=lambda c: {"ema_state_dict": c})
    assert (logits(tmp_path / "m.pth") == expected).all()


def test_weights_of_a_type_that_is_not_read(tmp_path):
    name = "blocks.0.att.key.weight"
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as z:
        z.writestr("archive/data.pkl", b"\x80\x02}" + text(name) + INERT["complex"] + b"s.")
    with pytest.raises(gv.CheckpointError, match=f"{name} is of a kind of number"):
        gv.load_model(tmp_path / "m.pth")


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
