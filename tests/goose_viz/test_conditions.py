"""Conditions are read as they are written, and nothing else is."""

import numpy as np
import pytest

import goose_viz as gv
from goose_viz.conditions import FIGURES


@pytest.fixture
def session(small):
    session = gv.Session(small, gv.Sampler(seed=3), gv.Probe(gv.OBSERVABLES))
    session.feed([5, 6, 7, 8])
    for _ in range(12):
        session.step()
    return session


def figures(session):
    """Of every token, by hand: what conditions may ask for."""
    expected = [None, *(logits for _, logits in session.expected())]
    for i, frame in enumerate(session.probe.frames):
        p = None if expected[i] is None else np.exp(expected[i] - expected[i].max())
        nxt = np.exp(expected[i + 1].astype(np.float64) - expected[i + 1].max())
        nxt /= nxt.sum()
        token = session.tokens[i]
        yield (
            i + 1,
            {
                "removed_norm[1,2]": frame.removed_norm[1, 2],
                "max(written_norm)": frame.written_norm.max(),
                "min(decay[1])": frame.decay[1].min(),
                "mean(iclr)": frame.iclr.mean(),
                "norm(read[0,1])": np.linalg.norm(frame.read[0, 1]),
                "wkv[1,0,3,2]": frame.wkv[1, 0, 3, 2],
                "rms[0,1]": np.sqrt((frame.wkv[0, 1] ** 2).mean()),
                "entropy": -(nxt * np.log2(nxt)).sum(),
                "top": nxt.max(),
                "probability": np.nan if p is None else p[token] / p.sum(),
                "surprisal": np.nan if p is None else -np.log2(p[token] / p.sum()),
                "rank": np.nan if p is None else 1 + (p > p[token]).sum(),
                "position": i + 1,
            },
        )


def test_every_figure_is_the_one_by_hand(session):
    by_hand = list(figures(session))
    for name in by_hand[0][1]:
        values = np.array([v[name] for _, v in by_hand], np.float64)
        middle = float(np.nanmedian(values)) * (1 + 1e-6)
        expected = [position for position, v in by_hand if v[name] > middle]
        assert 0 < len(expected) < 16, name
        assert list(session.find(f"{name} > {middle!r}")) == expected, name
        below = [p for p, v in by_hand if v[name] <= middle]
        assert list(session.find(f"{name} <= {middle!r}")) == below, name
    assert FIGURES.keys() <= by_hand[0][1].keys()


def test_how_conditions_are_put_together(session):
    def where(words):
        return list(session.find(words))

    def is_(words):
        return where(words) == list(range(1, 17))

    assert is_(
        "1 + 2 * 3 == 7 and (1 + 2) * 3 == 9 and 10 / 4 == 2.5 and -2 < -1 and 8 - 2 - 1 == 5"
    )
    assert where("position == 3 or position > 14 and position != 16") == [3, 15]
    assert where("(position == 3 or position > 14) and position != 16") == [3, 15]
    assert where("not position > 2") == [1, 2]
    assert where("not (position < 15 or (position) == 16)") == [15]
    assert where("((position + 1) * 2 >= 32)") == [15, 16]
    assert where(" position>=.15e2 ") == [15, 16]
    assert where("position / 0 > 1") == list(range(1, 17))
    assert where("probability / 0 < 1") == [], "what is no number is never so"
    assert where("not rank > 5")[0] > 1, "nor is its contrary, for want of a number"
    assert 1 not in where("probability != 2")
    assert 1 not in where("not (rank > 5 and position > 0)")
    assert where("position == 1 and not (rank > 5 and position > 3)") == [1]
    assert where("rank > 5 or position == 1")[0] == 1
    assert list(session.find("position > 0", 4, 6)) == [5, 6]
    rank = [p for p in where("rank == 1") if p > 5]
    assert list(session.find("rank == 1", 5)) == rank


def test_tokens_and_text(demo):
    session = gv.Session(demo, gv.Sampler(seed=1, temperature=0))
    session.feed("Tom had a red ball. Sue had a blue cup.")
    assert session.tokens[0] == 0
    labels = [demo.tokenizer.label(t) for t in session.tokens]
    ball = labels.index(" ball") + 1
    assert list(session.find('token == " ball"')) == [ball]
    assert list(session.find(f"token == {session.tokens[ball - 1]}")) == [ball]
    assert len(list(session.find('token != " ball"'))) == len(labels) - 1
    assert list(session.find('"red ball"')) == [ball]
    assert len(list(session.find("'had a'"))) == 2
    assert list(session.find(r"'\"'")) == []
    assert [s.position for s in session.run(50, '"blue"')][-1] > ball
    assert "blue" in session.text or session.position == len(labels) + 50


def test_text_of_which_a_character_takes_several_tokens(demo):
    session = gv.Session(demo)
    text = "A 日本語 word 🙂🙂 end"
    session.feed(text)
    for words in ("日本語", "🙂🙂", "語 w"):
        (at,) = session.find(f'"{words}"')
        read = demo.tokenizer.decode(session.tokens[:at])
        assert words in read
        assert words not in demo.tokenizer.decode(session.tokens[: at - 1])


def test_what_a_probe_asked_for_is_not_lost_by_a_condition(small):
    for layers in (None, (1,)):
        session = gv.Session(small, gv.Sampler(seed=3), gv.Probe(("decay",), layers))
        session.feed([5, 6])
        list(session.run(5, "removed_norm[1,2] > 1e9"))
        other = gv.Session(small, gv.Sampler(seed=3), gv.Probe(("decay",), layers))
        other.feed([5, 6])
        list(other.run(5))
        assert len(session.probe.frames) == 7
        for mine, theirs in zip(session.probe.frames, other.probe.frames, strict=True):
            assert mine.arrays().keys() == {"decay"}
            assert (mine.layers, mine.token) == (theirs.layers, theirs.token)
            assert (mine.decay == theirs.decay).all()


def test_a_run_stops_there(small):
    for probe in (None, gv.Probe(("decay",)), gv.Probe(("decay",), (1,))):
        session = gv.Session(small, gv.Sampler(seed=3), probe)
        session.feed([5, 6, 7, 8])
        free = session.twin()
        list(free.run(30))
        values = [s.frame.removed_norm[1, 2] for s in _again(free)]
        limit = float(np.sort(values[5:])[-4])
        steps = list(session.run(30, f"removed_norm[1,2] >= {limit!r}"))
        first = next(i for i, v in enumerate(values) if v >= limit)
        assert session.position == 5 + first
        free.goto(5 + first)
        assert (session.logits == free.logits).all()
        assert session.probe is probe
        assert len(steps) == first + 1
        assert next(iter(session.find(f"removed_norm[1,2] >= {limit!r}", 4))) == 5 + first


def _again(session):
    other = gv.Session(session.model, session.sampler, gv.Probe(("removed_norm",)))
    other.feed(session.tokens[:4])
    return list(other.run(30))


@pytest.mark.parametrize(("words", "says"), [
    ("", "there is no condition"),
    ("entropy", "a comparison is missing"),
    ("entropy <", "a number or a name is missing"),
    ("entropy < 0.1 0.2", "“0.2” is one too many"),
    ("entropi < 1", "entropi is not known; there are position, probability"),
    ("__import__('os').system('x') > 1", "“.system('x')” is not understood"),
    ("__import__ > 1", "__import__ is not known"),
    ("removed_norm > 1", "removed_norm is many numbers (layer × head not named)"),
    ("removed_norm[2,0] > 1", "there is no layer 2; the model has 0 to 1"),
    ("removed_norm[0,9] > 1", "there is no head 9; the model has 0 to 5"),
    ("removed_norm[0,1,2] > 1", "removed_norm has 2 axes: layer, head"),
    ("decay[0] > 1", "decay is many numbers (channel not named)"),
    ("max(decay[0,1]) > 1", "max needs several numbers"),
    ("max(entropy) > 1", "entropy is not known"),
    ("max(1) > 1", "the name of an observable is missing"),
    ("removed_norm[1 > 1", "a “]” is missing"),
    ("removed_norm[-1,0] > 1", "between [ and ] are whole numbers"),
    ("(entropy < 1", "a “)” is missing"),
    ("token < 3", "behind “token” comes == or !="),
    ("token == entropy", "a token is a text in quotes"),
    ("token == 99999", "there is no token 99999"),
    ("entropy < 1 && top > 1", "“&& top > 1” is not understood"),
    ('"open', "“\"open” is not understood"),
    ('""', "nothing between the quotes"),
    ("lambda: 1", "“: 1” is not understood"),
    ("(" * 200 + "1" + ")" * 200 + " > 0", "too many brackets"),
    ("-" * 200 + "1 > 0", "too many brackets"),
    ("not " * 200 + "1 > 0", "too many brackets"),
], ids=lambda w: w[:24])  # fmt: skip
def test_what_cannot_be_read_is_said(small, words, says):
    with pytest.raises(gv.ConditionError) as found:
        gv.Condition(words, small.config)
    assert says in str(found.value)
    assert "\n" not in str(found.value)
