import json
import random
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

import goose_viz as gv
from goose_viz.tokenizer import (
    GreedyTokenizer,
    IdsTokenizer,
    WorldTokenizer,
    choose_tokenizer,
    named_tokenizer,
    read_tokenizer,
)
from goose_viz.tokenizer.base import byte_tokenizer
from goose_viz.writing.vocabulary_out import tokenizer_json
from tests.fuzz.readers import _tokenizer_json

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
    assert b"".join(world.table[t] for t in tokens) == data


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
    said = []  # a broken one beside a good model is worth a sentence, not the model
    assert choose_tokenizer(model, 4096, notes=said).name == "token ids"
    assert len(said) == 1
    assert "is not used" in said[0]
    assert "\n" not in said[0]
    assert named_tokenizer("world", 65536).name == "World"
    with pytest.raises(gv.TokenizerError, match="cannot read it"):
        named_tokenizer(str(tmp_path), 4096)
    (tmp_path / "tokenizer.json").write_text("{ not json")
    assert choose_tokenizer(model, 65536, notes=said).name == "World"
    assert "not readable as JSON" in said[1]
    inside = {"model": "rwkv", "tokens": ["<s>", *"abc"]}
    (tmp_path / "tokenizer.json").write_bytes(demo.read_bytes())
    said.clear()
    assert choose_tokenizer(model, 3, inside, said).name == "token ids"
    assert "vocabulary inside the file is not used: it has 4 tokens, the model 3" in said[0]
    assert "beside the model is not used: it knows 4096 tokens, the model 3" in said[1]


def test_another_vocabulary_beside_a_world_model_is_not_taken_in_silence(tmp_path, demo):
    (tmp_path / "tokenizer.json").write_text(demo.tokenizer.content)
    said = []
    assert choose_tokenizer(tmp_path / "m.pth", 65536, notes=said).name == "World"
    assert "another vocabulary than World" in said[0]
    (tmp_path / "tokenizer.json").write_text(tokenizer_json(WorldTokenizer()))
    said = []
    chosen = choose_tokenizer(tmp_path / "m.pth", 65536, notes=said)
    assert chosen.name == "World"
    assert chosen.encode("<|endoftext|>") == [0]
    assert not said


def test_pile_models(tmp_path, demo):
    said = []
    assert choose_tokenizer(tmp_path / "m.pth", 50304, notes=said).name == "token ids"
    assert "put 20B_tokenizer.json beside it" in said[0]
    (tmp_path / "20B_tokenizer.json").write_text(demo.tokenizer.content)
    chosen = choose_tokenizer(tmp_path / "m.pth", 50304, notes=said)
    assert chosen.encode("Once") == demo.tokenizer.encode("Once")
    assert len(said) == 1
    assert choose_tokenizer(tmp_path / "m.pth", 61).name == "token ids"


# -- Transformers' tokenizer.json: longest match, written as a WordPiece -----------------------


def test_world_as_word_piece(tmp_path, world):
    """What Transformers' RWKV-7 models bring: same ids as World, at our own speed."""
    (tmp_path / "tokenizer.json").write_text(tokenizer_json(world), encoding="utf-8")
    ours = read_tokenizer(tmp_path / "tokenizer.json")
    assert ours.name == "World"
    assert ours.end_token == 0
    assert ours.label(65535) == "⟨65535⟩"
    data = mixed_text(3_000_000).decode("utf-8", "ignore").replace("<|endoftext|>", "")
    ours.encode("warm")
    begin = time.perf_counter()
    tokens = ours.encode(data)
    rate = len(data.encode()) / (time.perf_counter() - begin) / 1e6
    assert tokens == world.encode(data)
    assert rate >= 1.0, f"{rate:.2f} MB/s"


def test_word_piece_has_the_ids_of_the_library(tmp_path):
    from tokenizers import Tokenizer

    pieces = [b"", *(bytes([b]) for b in range(256)), b"the", b"th", b" the", "é".encode(), b"\n\n"]
    ours = GreedyTokenizer([*pieces, b"", b"ther"], "small")
    (tmp_path / "tokenizer.json").write_text(tokenizer_json(ours), encoding="utf-8")
    library = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    read = read_tokenizer(tmp_path / "tokenizer.json")
    assert read.table == ours.table
    for text in ("the other there the\n\n\n é", "a<|endoftext|>b", "好 ther the ", "x" * 300):
        text = text.replace("\\n", "\n")
        expected = library.encode(text, add_special_tokens=False).ids
        assert read.encode(text) == expected
        assert read.decode(expected) == text.replace("<|endoftext|>", "")


# -- vocabularies in RWKV's form ---------------------------------------------------------------


def lines(pieces, end="\n"):
    rows = []
    for i, piece in pieces.items():
        try:
            literal = repr(piece.decode())
        except UnicodeDecodeError:
            literal = repr(piece)
        rows.append(f"{i} {literal} {len(piece)}")
    return end.join(rows) + end


SMALL = {1: b"a", 2: b" ", 3: b"\n\n", 4: b"\xff\xfe", 7: "好 x".encode(), 9: b"'\"", 10: b"\r"}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_vocabulary_text_files(tmp_path, end, bom):
    path = tmp_path / "vocab.txt"
    path.write_bytes(bom + lines(SMALL, end).encode())
    t = named_tokenizer(str(path), 61)
    assert {i: p for i, p in enumerate(t.table) if p} == SMALL
    assert t.encode("a 好 x\n\n'\"") == [1, 2, 7, 3, 9]
    assert t.decode([1, 7, 10]) == "a好 x\r"
    for wrong, byte in (("b", "0x62"), ("a é", "0xc3"), ("a\n", "0x0a")):
        with pytest.raises(gv.TokenizerError, match=f"cannot say .*{byte}") as caught:
            t.encode(wrong)
        assert repr(wrong[-1]) in str(caught.value)
    with pytest.raises(gv.TokenizerError, match="knows 11 tokens, the model 10"):
        named_tokenizer(str(path), 10)


def test_the_official_text_file(world):
    folder = Path(find_spec("rwkv").submodule_search_locations[0])
    t = named_tokenizer(str(folder / "rwkv_vocab_v20230424.txt"), 65536)
    assert t.table == world.table[: len(t.table)]


def test_vocabularies_of_web_rwkv(tmp_path):
    content = {"1": "a", "2": "\n", "5": [255, 254], "6": "é"}
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    t = named_tokenizer(str(path), 61)
    assert t.table == [b"", b"a", b"\n", b"", b"", b"\xff\xfe", "é".encode()]
    assert t.encode("aé\n") == [1, 6, 2]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("v.txt", "1 'a' 1\n2 'b'\n", "line 2 is no token"),
        ("v.txt", "1 'a' 2\n", "line 1 is no token"),
        ("v.txt", "1 __import__('os') 1\n", "line 1 is no token"),
        ("v.txt", "-1 'a' 1\n", "line 1 is no token"),
        ("v.txt", "", "no token inside"),
        ("v.json", '{"1": {"a": 1}}', "is no token"),
        ("v.json", '{"1": [300]}', "is no token"),
        ("v.json", '{"1": 99999999999999}', "is no token"),
        ("v.json", '{"1": true}', "is no token"),
        ("v.txt", "1 3 3\n", "line 1 is no token"),
        ("v.json", "[1]", "expected an object"),
        ("v.json", '{"1": "a"', "not readable as JSON"),
        ("v.json", '{"hello": "a"}', "cannot read it"),
    ],
)
def test_vocabularies_that_will_not_do(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(gv.TokenizerError, match=words) as caught:
        named_tokenizer(str(tmp_path / name), 61)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text(world):
    """As a file or a terminal in another encoding gives them: they are what they were."""
    text = b"a\xff\xfe \x80b".decode("utf-8", "surrogateescape")
    assert world.encode(text) == world.encode_bytes(b"a\xff\xfe \x80b")
    assert byte_tokenizer().encode(text) == list(b"a\xff\xfe \x80b")
    assert byte_tokenizer().encode("\ud83d") == list(b"\xed\xa0\xbd")


@pytest.mark.parametrize(
    "damage",
    [
        {"added_tokens": [{"content": "x"}]},
        {"added_tokens": ["x"]},
        {"added_tokens": [{"id": "7", "content": "x"}]},
        {"added_tokens": [{"id": 2**31, "content": "x"}]},
        {"added_tokens": [{"id": -5, "content": "x"}]},
        {"decoder": [1]},
        {"pre_tokenizer": {"pretokenizers": ["x"]}},
    ],
)
def test_a_word_piece_whose_parts_do_not_fit(tmp_path, damage):
    plain = json.loads(tokenizer_json(GreedyTokenizer([b"", b"a", b"b"], "small")))
    (tmp_path / "tokenizer.json").write_text(json.dumps(plain | damage))
    with pytest.raises(gv.TokenizerError):
        read_tokenizer(tmp_path / "tokenizer.json")
    said = []
    assert choose_tokenizer(tmp_path / "m.pth", 65536, notes=said).name == "World"
    assert "is not used" in said[0]


@pytest.mark.parametrize("name", ["v.json", "v.txt", "tokenizer.json"])
def test_one_id_far_beyond_the_others_takes_no_memory(name, tmp_path):
    content = {
        "v.json": '{"1": "a", "16000000": "b"}',
        "v.txt": "1 'a' 1\n16000000 'b' 1\n",
        "tokenizer.json": json.dumps({
            "version": "1.0", "added_tokens": [], "pre_tokenizer": None, "normalizer": None,
            "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": True,
            "trim_offsets": True, "use_regex": True}, "model": {"type": "BPE",
            "vocab": {"a": 0, "b": 4_000_000_000}, "merges": []},
        }),
    }[name]  # fmt: skip
    (tmp_path / name).write_text(content)
    with pytest.raises(gv.TokenizerError, match=r"its highest id is .*, of 2 tokens"):
        named_tokenizer(str(tmp_path / name), 1 << 24)


def test_what_the_library_panics_at_is_told(monkeypatch, tmp_path):
    class PanicException(BaseException):  # as pyo3 has it: no Exception
        pass

    def panics(content):
        raise PanicException("range end index 18446744073709551615 out of range")

    monkeypatch.setattr("goose_viz.tokenizer.hf.tokenizers.Tokenizer.from_str", panics)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(gv.TokenizerError, match=r"cannot read it .range end index"):
        named_tokenizer(str(tmp_path / "tokenizer.json"), 10)


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.update(decoder=[1]),
        lambda d: d.update(added_tokens=[{"id": 0, "content": True, "special": True}]),
        lambda d: d.update(added_tokens=[{"id": 0, "content": 3, "special": True}]),
        lambda d: d.update(decoder="ByteLevel"),
        lambda d: d.update(added_tokens={"id": 0}),
    ],
)
@pytest.mark.parametrize("kind", ["bpe", "greedy"])
def test_fields_of_other_kinds_are_told(tmp_path, damage, kind):
    """What the library lets pass is not taken for what it should be either."""
    whole = _tokenizer_json(tmp_path)[("bpe", "greedy").index(kind)]
    description = json.loads(whole)
    damage(description)
    (tmp_path / "tokenizer.json").write_text(json.dumps(description))
    try:
        tokenizer = named_tokenizer(str(tmp_path / "tokenizer.json"), 1 << 20)
    except gv.TokenizerError:
        return
    tokenizer.encode("a a")
