"""Evaluating a model on files, against the same sums written out with the float64 reference."""

import json
import math

import numpy as np
import pytest

import goose_viz as gv
from goose_viz import cli
from goose_viz.evaluation import PORTION, evaluate

STORIES = [
    "Once upon a time, there was a little girl named Lily. She had a red ball.",
    'Tom was sad. He lost his toy. Mom said, "Do not cry, Tom."\n\nThey found the toy.',
    "One day, a big dog and a cat sat in the sun — and they were friends. " * 20,
]
PASSAGES = [
    "Lily has a red ball. Tom has a blue car. Lily likes her red ball",
    "Once upon a time",
    "Tom was sad because he lost his toy",
]


@pytest.fixture(scope="module")
def reference():
    return gv.load_model(device="reference")


def nats_by_hand(reference, tokens, of):
    """-log p of the last ``of`` of tokens, and whether each was the likeliest."""
    state, logits = reference.new_state(), []
    for token in tokens[:-1]:
        logits.append(reference.forward([token], state))
    nats, right = 0.0, True
    for row, token in zip(logits[-of:], tokens[-of:], strict=True):
        nats += math.log(np.exp(row - row.max()).sum()) + row.max() - row[token]
        right &= int(row.argmax()) == token
    return nats, right


def texts_file(folder, stories=STORIES):
    path = folder / "stories.txt"
    path.write_text("\n<|endoftext|>\n".join(stories) + "\n<|endoftext|>\n", encoding="utf-8")
    return path


def passages_file(folder):
    path = folder / "passages.jsonl"
    path.write_text("\n".join(json.dumps({"text": p}) for p in PASSAGES) + "\n\n")
    return path


def test_a_text(demo, reference, tmp_path):
    found = evaluate(demo, texts_file(tmp_path))
    tokens = [demo.tokenizer.encode(s.strip()) for s in STORIES]
    assert max(map(len, tokens)) > PORTION  # a document of several portions
    nats = sum(nats_by_hand(reference, [0, *t], len(t))[0] for t in tokens)
    figures = found.figures()
    size = sum(len(s.strip().encode()) for s in STORIES)
    assert figures["bytes"] == size
    assert figures["tokens"] == sum(map(len, tokens))
    assert figures["documents"] == 3
    np.testing.assert_allclose(figures["bits per byte"], nats / math.log(2) / size, rtol=1e-5)
    np.testing.assert_allclose(
        figures["perplexity per token"], math.exp(nats / figures["tokens"]), rtol=1e-5
    )


def test_last_words(demo, reference, tmp_path):
    figures = evaluate(demo, passages_file(tmp_path)).figures()
    total, right = 0.0, 0
    for passage in PASSAGES:
        before, word = passage.rsplit(" ", 1)
        wanted = demo.tokenizer.encode(" " + word)
        tokens = [0, *demo.tokenizer.encode(before), *wanted]
        nats, correct = nats_by_hand(reference, tokens, len(wanted))
        total, right = total + nats, right + correct
    assert 0 < right < 3
    assert figures["accuracy"] == right / 3
    assert figures["passages"] == 3
    np.testing.assert_allclose(figures["perplexity per word"], math.exp(total / 3), rtol=1e-4)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("make", [texts_file, passages_file])
def test_going_on(demo, tmp_path, monkeypatch, make):
    monkeypatch.setattr("goose_viz.evaluation._KEEP_EVERY", -1.0)
    data, out = make(tmp_path), tmp_path / "result.json"

    def stop(share):
        if share > 0.5:
            raise Stopped

    with pytest.raises(Stopped):
        evaluate(demo, data, out, stop)
    kept = json.loads(out.read_text())
    assert kept["sums"]["documents"] == 2
    assert not kept["whole"]
    shares = []
    resumed = evaluate(demo, data, out, shares.append)
    assert len(shares) == 1  # the others are not done again
    assert resumed.figures() == evaluate(demo, data).figures()
    kept = json.loads(out.read_text())
    assert kept["whole"]
    assert kept["figures"] == resumed.figures()
    assert evaluate(demo, data, out, stop).figures() == resumed.figures()  # nothing is left to do


def test_results_of_something_else(demo, small, tmp_path):
    data, out = texts_file(tmp_path, STORIES[:1]), tmp_path / "result.json"
    evaluate(demo, data, out)
    before = out.read_bytes()
    with pytest.raises(gv.GooseError, match="is of another data"):
        evaluate(demo, texts_file(tmp_path, STORIES[1:2]), out)
    ids = tmp_path / "ids.txt"
    ids.write_text("1 2 3")
    with pytest.raises(gv.GooseError, match="is of another model"):
        evaluate(small, ids, out)
    assert out.read_bytes() == before
    content = json.loads(before)
    for sums in (
        None,
        {},
        {"documents": 99, "tokens": 1, "size": 1, "nats": 1.0},
        [1],
        {"nats": ""},
    ):
        out.write_text(json.dumps(content | {"sums": sums}))
        with pytest.raises(gv.GooseError, match=r"holds no sums|is of another data"):
            evaluate(demo, texts_file(tmp_path, STORIES[:1]), out)
    out.write_text("{")
    with pytest.raises(gv.GooseError, match="not readable as JSON"):
        evaluate(demo, data, out)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b" \n<|endoftext|>\n", "holds no text"),
        ("a.txt", b"caf\xe9", "not UTF-8 text: byte 3"),
        ("a.jsonl", b'{"text": "two words"}\n{"words": "x"}\n', "line 2: expected an object"),
        ("a.jsonl", b'["text"]\n', "line 1: expected an object"),
        ("a.jsonl", b'{"text": 3}\n', "line 1: expected an object"),
        ("a.jsonl", b'{"text": "alone"}\n', "line 1: 'alone' has no last word"),
        ("a.jsonl", b"\n", "holds no text"),
    ],
)
def test_files_that_hold_nothing_to_evaluate(demo, tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(gv.GooseError, match=words):
        evaluate(demo, path)


def test_the_command(capfd, tmp_path):
    data, out = texts_file(tmp_path, STORIES[:2]), tmp_path / "result.json"
    assert cli.run(["eval", "--data", str(data), "--out", str(out), "--json"]) == 0
    figures = json.loads(capfd.readouterr().out)
    assert figures == json.loads(out.read_text())["figures"]
    assert 0.3 < figures["bits per byte"] < 2
    assert cli.run(["eval", "--data", str(passages_file(tmp_path))]) == 0
    shown = capfd.readouterr().out
    assert "accuracy" in shown
    assert "perplexity per word" in shown
    assert cli.run(["eval"]) == 2
    assert "--data is missing" in capfd.readouterr().err
    assert cli.run(["eval", "--data", str(tmp_path / "nowhere.txt")]) == 2
    assert "nowhere.txt cannot be read" in capfd.readouterr().err
