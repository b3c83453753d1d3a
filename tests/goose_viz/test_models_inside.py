"""The models that ship do what their cards say."""

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import goose_viz as gv
from goose_viz import analysis as ga
from goose_viz.model import example_prompt

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "assets" / "models"
sys.path.insert(0, str(ROOT / "tools"))

import evaluate  # noqa: E402
import tasks  # noqa: E402
import telling  # noqa: E402

SMALL = {"who_is_where": "who-is-where", "shell_game": "shell-game", "recall": "recall"}


@pytest.fixture(scope="module", params=SMALL)
def small(request):
    """(task's module, model, figures of its card)."""
    folder = MODELS / SMALL[request.param]
    figures = json.loads((folder / "figures.json").read_text())
    return tasks.load(request.param), gv.load_model(folder.name, device="cpu"), figures


def load(name):
    return tasks.load(name), gv.load_model(SMALL[name], device="cpu")


def begun(model, text):
    session = gv.Session(model, gv.Sampler(temperature=0), gv.Probe(gv.OBSERVABLES))
    session.feed(text)
    return session


def likeliest(model, logits):
    return model.tokenizer.decode([int(np.argmax(logits))])


def without(model, text, *edits):
    """What comes next with edits of the memory ahead of the last token."""
    session = begun(model, text)
    for edit in edits:
        session.apply(edit, again=1)
    return likeliest(model, session.logits)


def places(session, word):
    """Where a word stands in a text."""
    decode = session.model.tokenizer.decode
    return [i for i, t in enumerate(session.tokens) if t and decode([t]).strip() == word]


def test_what_ships():
    folders = sorted(p.name for p in MODELS.iterdir())
    assert folders == gv.embedded_models() == sorted(["stories-7M", *SMALL.values()])
    for name in folders:
        card = (MODELS / name / "README.md").read_text()
        assert card.startswith(f"# {name}\n")
        assert "## Licence" in card
        assert "make train-" in card
        model = gv.load_model(name, device="cpu")
        assert f"{model.n_parameters:,}" in card
        assert model.tokenizer.encode(example_prompt(name))
    size = sum(p.stat().st_size for p in (ROOT / "assets").rglob("*"))
    assert size <= 40e6


def test_figures_hold(small):
    """At each level, on the first of the sequences that the card counts."""
    task, model, figures = small
    assert [int(n) for n in figures] == list(task.LEVELS)
    for size in task.LEVELS:
        count = 40 if size <= 128 else 8 if size <= 512 else 3
        said, found = figures[str(size)], evaluate.level(model, task, size, count)
        for key in ("whole", "answers"):
            if said[key] == 1:
                assert found[key] == 1, (size, key)
            spread = math.sqrt(said[key] * (1 - said[key]) / count)
            assert abs(found[key] - said[key]) <= 4 * spread + 1 / count, (size, key)


def test_how_full_the_memory_is():
    """Recall's card: ranks rise with the load and stop below the 32 channels of a head."""
    task, model = load("recall")
    figures = json.loads((MODELS / "recall" / "figures.json").read_text())
    for size in (4, 24, 64):
        found, said = evaluate.fullness(model, task, size), figures[str(size)]
        for key, value in found.items():
            assert value == pytest.approx(said[key], rel=0.01), (size, key)
    ranks = [f["effective_rank"] for f in figures.values()]
    assert ranks == sorted(ranks)
    assert ranks[-1] < 32


def test_the_card_says_the_figures(small):
    _, model, figures = small
    card = (MODELS / model.name / "README.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) % \| ([\d.]+) % \|$", card, re.M)
    assert rows == [
        (n, f"{100 * f['whole']:.1f}", f"{100 * f['answers']:.2f}") for n, f in figures.items()
    ]


def test_what_the_stories_take_from_where(demo):
    """The examples of the story model's card: every figure, and how often each thing holds."""
    said = json.loads((MODELS / "stories-7M" / "examples.json").read_text())
    found = [telling.look(demo, example) for example in telling.EXAMPLES]
    assert telling.counts(found) == said["counts"]
    for one, other in zip(found, said["examples"], strict=True):
        for key, value in one.items():
            expected = other[key]
            assert value == (
                pytest.approx(expected, abs=0.01) if isinstance(value, float) else expected
            ), key
    counts = said["counts"]
    card = " ".join((MODELS / "stories-7M" / "README.md").read_text().split())
    assert f"carries most of the lead in {counts['the right earlier word carries most']};" in card
    assert counts["forgetting the control changes it"] == 0


def test_its_words_are_tokens(small):
    task, model, _ = small
    words = task.VOCABULARY
    assert [model.tokenizer.decode([i]) for i in range(1, len(words))] == words[1:]
    text = example_prompt(model.name)
    assert model.tokenizer.decode(model.tokenizer.encode(text)) == text


def test_the_sequences_ask_what_they_say():
    """What the figures are counted on, read as words, with the answers worked out anew."""
    rng = np.random.default_rng(0)
    task = tasks.load("who_is_where")
    for tokens, asked in (task.sequence(rng, 60) for _ in range(20)):
        words, where = [task.VOCABULARY[t].strip() for t in tokens[1:]], {}
        for i, word in enumerate(words):
            moves = word in task.PEOPLE and (i == 0 or words[i - 1] != "?")
            if moves and i + 1 < len(words):
                where[word] = words[i + 1]
            is_answer = i > 1 and words[i - 2] == "?"
            assert asked[i + 1] == is_answer
            assert not is_answer or word == where.get(words[i - 1], "nowhere")
    task = tasks.load("shell_game")
    batch = task.batch_of(rng, 20, 30, 0.5)
    said = 0
    for tokens, targets, asked in zip(batch.tokens, batch.targets, batch.asked, strict=True):
        words = [task.VOCABULARY[t].split() for t in tokens]
        assert words[:2] == [[], ["ball"]]
        cup = words[2][0]
        for i, word in enumerate(words[3:], 3):
            if word[0] == "swap":
                cup = {word[1]: word[2], word[2]: word[1]}.get(cup, cup)
                assert task.VOCABULARY[targets[i]].strip() == cup
            else:
                assert word == [cup]
                said += 1
            assert asked[i] == (word[0] == "swap")
    assert said > 10
    task = tasks.load("recall")
    strange = 0
    for tokens in task.batch_of(rng, 20, 9).tokens:
        words = [task.VOCABULARY[t].strip() for t in tokens[1:]]
        pairs = dict(zip(words[:18:2], words[1:18:2], strict=True))
        assert len(pairs) == 9
        questions = words[18:]
        for i in range(0, len(questions) - 2, 3):
            assert questions[i] == "?"
            assert questions[i + 2] == pairs.get(questions[i + 1], "nothing")
            strange += questions[i + 1] not in pairs
    assert strange > 3


def test_what_it_writes_is_right():
    """Left to itself, who-is-where asks and answers its own questions."""
    task, model = load("who_is_where")
    session = gv.Session(model, gv.Sampler(seed=3))
    session.feed("Ann kitchen Bob garden")
    text = session.text + "".join(step.text for step in session.run(150))
    where, right, words = {}, 0, text.split()
    i = 0
    while i + 1 < len(words):
        if words[i] == "?" and i + 2 < len(words):
            right += words[i + 2] == where.get(words[i + 1], "nowhere")
            i += 3
        else:
            assert words[i] in task.PEOPLE
            where[words[i]] = words[i + 1]
            i += 2
    questions = text.count("?") - text.rstrip().endswith("?") - (words[-2] == "?")
    assert right == questions > 5


def moves(task, rng):
    """Three people's moves, the first person's two rooms, and where these stand in the text."""
    (who, other, third), rooms = rng.permutation(task.PEOPLE)[:3], task.ROOMS
    before, now = rng.permutation(rooms)[:2]
    words = [who, before, other, rng.choice(rooms), who, now]
    for _ in range(rng.integers(3)):
        words += [third, rng.choice(rooms)]
    return f"{' '.join(words)} ? {who}", str(before), str(now)


def test_forgetting_a_move():
    """The room before is gone already: only the last move's room matters."""
    task, model = load("who_is_where")
    rng, nowhere = np.random.default_rng(5), 0
    for _ in range(40):
        text, before, now = moves(task, rng)
        first, second = 2, 6  # token 0 begins the text
        session = begun(model, text)
        assert likeliest(model, session.logits) == f" {now}"
        assert without(model, text, gv.Forget(first)) == f" {now}"
        said = without(model, text, gv.Forget(second))
        assert said in (" nowhere", f" {before}")
        nowhere += said == " nowhere"
        room = str(rng.choice(task.ROOMS))
        assert without(model, text, gv.Replace(second, second + 1, f" {room}")) == f" {room}"
        lead = ga.attribution(
            model, session.frames(), session.tokens[second], session.tokens[first]
        )
        assert int(np.argmax(lead.by_token)) == second
        assert abs(lead.by_token[first]) < 0.5 * lead.by_token[second]
    assert nowhere >= 32, "the card says 53 of 60"


def test_a_swap_turns_the_memory_round():
    """In head 1 the ball is one column, every swap has an eigenvalue of -1, and writes nothing."""
    _, model = load("shell_game")
    assert model.config.removal_scale == 2
    session, columns, cup = begun(model, "ball 3"), {}, 3
    for i, j in ((2, 4), (1, 3), (4, 1), (5, 2), (4, 5), (5, 3), (3, 2), (2, 1), (1, 5)):
        session.feed(f" swap {i} {j}")
        cup = {i: j, j: i}.get(cup, cup)
        assert likeliest(model, session.logits) == f" {cup}"
        frame = session.probe.frames[-1]
        for head in (0, 1):
            assert ga.spectrum(frame, 0, head)[0] == pytest.approx(-1, abs=0.02)
            assert frame.written_norm[0, head] < 0.05 * np.linalg.norm(frame.wkv[0, head])
        sizes = np.linalg.norm(frame.wkv[0, 1], axis=0)
        column = int(sizes.argmax())
        assert sizes[column] > 0.8 * np.linalg.norm(sizes)
        assert columns.setdefault(cup, column) == column
    assert len(set(columns.values())) == len(columns) == 5


def test_forgetting_a_pair():
    """Exactly that question fails."""
    _, model = load("recall")
    text = "fox red owl blue wolf grey hen gold seal pink yak white crab teal dove green"
    pairs = list(zip(*[iter(text.split())] * 2, strict=True))
    for forgotten, colour in pairs[::3]:
        for key, value in pairs:
            asked = f"{text} ? {key}"
            session = begun(model, asked)
            (place,) = places(session, colour)
            said = without(model, asked, gv.Forget(place))
            assert said == (" nothing" if key == forgotten else f" {value}"), (forgotten, key)
