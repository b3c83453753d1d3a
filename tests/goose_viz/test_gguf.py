"""GGUF files: floats bit for bit, blocks as the gguf package widens them, damage in a sentence."""

import numpy as np
import pytest

import goose_viz as gv
from goose_viz.checkpoint import gguf_file, read_checkpoint
from goose_viz.convert import four_bits_of
from goose_viz.four_bits import widened
from goose_viz.weights import check_weights
from goose_viz.writing import write_gguf

from .layout_files import (
    DATA,
    PTH,
    TOKENS,
    logits,
)


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


def test_q4_0_enters_as_it_is():
    """Blocks of 32 with a float16 scale are int4's groups: not a number changes, in any portion."""
    import gguf

    rows = np.random.default_rng(0).standard_normal((6, 288)).astype(np.float32)
    number = gguf.GGMLQuantizationType.Q4_0
    raw = gguf.quants.quantize(rows, number)
    tensor = gguf_file.Blocks(raw, number, rows.shape)
    for begin, end in ((0, 6), (2, 5)):
        fours = four_bits_of(tensor.rows(begin, end))
        assert fours[0].shape == (end - begin, 512)
        meant = gguf.quants.dequantize(raw, number)[begin:end]
        np.testing.assert_array_equal(widened(*fours, 288), meant)
    assert tensor.transposed().fours is None
    assert gguf_file.Blocks(raw, gguf.GGMLQuantizationType.Q8_0, rows.shape).fours is None


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
