import random
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

import goose_viz as gv
from goose_viz.tokenizer import IdsTokenizer, WorldTokenizer, choose_tokenizer, named_tokenizer
from goose_viz.tokenizer.base import byte_tokenizer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def world():
    return WorldTokenizer()


def mixed_text(n_bytes):
    """English, source code, Chinese, emoji and random bytes, cut and shuffled."""
    rng = random.Random(0)
    code = "".join(p.read_text() for p in sorted((ROOT / "goose_viz").rglob("*.py")))
    stories = sorted((ROOT.parent / "shared" / "data" / "stories").glob("*.txt"))
    english = stories[0].read_text()[:4_000_000] if stories else code
    chinese = "".join(chr(rng.randrange(0x4E00, 0x9FA5)) for _ in range(20_000))
    chinese += "你好，世界！今天天气很好。" * 500
    emoji = "".join(chr(rng.randrange(0x1F300, 0x1FAFF)) + rng.choice(" ‍️") for _ in range(9000))
    sources = [
        english.encode(),
        code.encode(),
        chinese.encode(),
        emoji.encode(),
        rng.randbytes(200_000),
    ]
    out = bytearray()
    while len(out) < n_bytes:
        source = rng.choice(sources)
        at = rng.randrange(len(source))
        out += source[at : at + rng.randrange(1, 20_000)]
    return bytes(out[:n_bytes])


def test_world_equals_the_official_package(world):
    from rwkv.rwkv_tokenizer import TRIE_TOKENIZER

    folder = Path(find_spec("rwkv").submodule_search_locations[0])
    official = TRIE_TOKENIZER(str(folder / "rwkv_vocab_v20230424.txt"))
    data = mixed_text(10_000_000)
    world.encode_bytes(data[:1000])
    begin = time.perf_counter()
    tokens = world.encode_bytes(data)
    rate = len(data) / (time.perf_counter() - begin) / 1e6
    assert tokens == official.encodeBytes(data)
    assert rate >= 1.0, f"{rate:.2f} MB/s"
    assert b"".join(world._table[t] for t in tokens) == data


def test_world_published_example(world):
    tokens = [7334, 21676, 41943, 41, 111, 501, 28352]
    assert world.encode("def fibonacci(n):\n    ") == tokens
    assert world.decode(tokens) == "def fibonacci(n):\n    "
    assert world.encode("") == []
    assert world.encode("\n\n") == [261]
    assert world.decode([0, 65535]) == ""
    assert world.vocab_size == 65536


@pytest.mark.parametrize(
    "make", [WorldTokenizer, byte_tokenizer, lambda: gv.load_model().tokenizer]
)
def test_a_stream_never_shows_half_a_character(make):
    tokenizer = make()
    text = "Größe 你好 👩‍🚀 naïve — 𝔘 end"
    stream, shown = tokenizer.stream(), []
    for token in tokenizer.encode(text):
        piece = stream.push(token)
        assert "�" not in piece
        shown.append(piece)
        assert text.startswith("".join(shown))
    assert "".join(shown) + stream.flush() == text
    assert tokenizer.decode(tokenizer.encode(text)) == text
    stream.push(tokenizer.encode("好")[0])
    halves = tokenizer.encode("好")
    stream = tokenizer.stream()
    if len(halves) > 1:
        assert stream.push(halves[0]) == ""
        assert stream.flush() == "�"
        assert stream.push(tokenizer.encode("a")[0]) == "a"


def test_demo_tokenizer(demo):
    t = demo.tokenizer
    assert t.vocab_size == 4096
    assert t.start_token == 0
    assert t.label(0) == "<|endoftext|>"
    assert t.decode([0]) == ""
    assert 0 not in t.encode("Once upon a time")
    assert t.encode("<|endoftext|>") == [0]
    for text in ("Once upon a time", " leading", "a\n\nb\t c", "äöü 好"):
        assert t.decode(t.encode(text)) == text
        assert t.decode(t.encode(text)) == t._tokenizer.decode(t.encode(text))


def test_a_vocabulary_that_is_not_byte_level(tmp_path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = {"[UNK]": 0, "▁hello": 1, "▁world": 2, "!": 3}
    tokenizer = Tokenizer(models.WordLevel(words, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    ours = named_tokenizer(str(tmp_path), 4)
    assert ours.decode([1, 2]) == "hello world"
    stream = ours.stream()
    assert "".join(stream.push(t) for t in (1, 2, 2)) == "hello world world"
    assert ours.label(3) == "!"


def test_ids():
    t = IdsTokenizer(50)
    assert t.encode("17, 4\n4") == [17, 4, 4]
    assert t.decode([17, 4]) == "17 4"
    stream = t.stream()
    assert stream.push(3) + stream.push(4) == "3 4 "
    for bad in ("50", "-1", "hello"):
        with pytest.raises(gv.TokenizerError, match="ids from 0 to 49"):
            t.encode(bad)


def test_which_tokenizer_a_model_gets(tmp_path):
    model = tmp_path / "m.safetensors"
    assert choose_tokenizer(model, 65536).name == "World"
    assert choose_tokenizer(model, 256).name == "bytes"
    assert choose_tokenizer(model, 61).name == "token ids"
    demo = ROOT / "assets" / "models" / "stories-7M" / "tokenizer.json"
    (tmp_path / "tokenizer.json").write_bytes(demo.read_bytes())
    assert choose_tokenizer(model, 4096).name == "tokenizer.json"
    assert choose_tokenizer(model, 4100).name == "tokenizer.json"  # padded rows are common
    assert choose_tokenizer(model, 256).name == "bytes"  # a stranger's file in the same folder
    with pytest.raises(gv.TokenizerError, match="do not belong together"):
        choose_tokenizer(tmp_path, 256)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(gv.TokenizerError, match="cannot read it"):
        choose_tokenizer(model, 4096)
