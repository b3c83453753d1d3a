"""What the window knows, tested without a window."""

from pathlib import Path

import numpy as np
import pytest

import goose_viz as gv
from goose_app import messages as m
from goose_app.actions import ACTIONS, TRANSPORT, help_page
from goose_app.cells import Cells
from goose_app.flow import Flow, shown_text
from goose_app.panels.heads import thumbnail_sheet
from goose_app.selection import Selection
from goose_app.series import HIGH, LOW, MEAN, MEDIAN, Series, summary
from goose_app.worker import Worker

RECORDED = ("decay", "iclr", "removed_norm", "written_norm")


def cells(words, start=0):
    out = Cells(start)
    for i, word in enumerate(words):
        out.append(i, word, 0.5, True)
    return out


def flow(width=100):
    f = Flow(lambda text: 10.0 * len(text))
    f.set_width(width)
    f.show(Cells(), lambda token: "<end>")
    return f


def put(f, others):
    f.cells.replace(others)
    f.cut(others.start)
    f.catch_up()


def lines(f):
    out = {}
    for p in f:
        out.setdefault(p.line, []).append(p.shown)
    return ["".join(v) for v in out.values()]


def test_lines_break_between_words_never_inside():
    f = flow(100)
    put(f, cells(["The", " ele", "ph", "ant", " sat", " down"]))
    assert lines(f) == ["The", " elephant", " sat down"]
    for p in f:
        assert p.x + p.width <= 100


def test_a_word_longer_than_a_line_is_broken_between_tokens():
    f = flow(100)
    put(f, cells(["aaaa"] * 7))
    assert lines(f) == ["aaaaaaaa"] * 3 + ["aaaa"]


def test_newlines_and_names():
    f = flow(200)
    put(f, cells(["", "One", "\n", "Two", ".\n\n", "Three"]))
    assert lines(f) == ["<end>One⏎", "Two.⏎⏎", "Three"]
    assert shown_text("", 1, lambda token: "\\xe5") == "·"


def test_incremental_layout_equals_layout_at_once():
    rng = np.random.default_rng(0)
    words = [rng.choice([" a", " bc", "def", "\n", "", " longword", ","]) for _ in range(400)]
    at_once, step_by_step = flow(150), flow(150)
    put(at_once, cells(words))
    for i, word in enumerate(words):
        put(step_by_step, cells([word], i))
    assert [(p.x, p.line) for p in at_once] == [(p.x, p.line) for p in step_by_step]
    for cut in (3, 57, 200):
        put(step_by_step, cells(words[cut:], cut))
        assert [(p.x, p.line) for p in at_once] == [(p.x, p.line) for p in step_by_step]


def test_every_cell_is_found_where_it_lies():
    f = flow(150)
    put(f, cells([" alpha", " beta", "gamma", "\n", " delta"] * 20))
    for i, p in enumerate(f):
        assert f.at(p.x + p.width / 2, p.line) == i
    assert f.at(149, 0) is None or f[f.at(149, 0)].line == 0
    assert f.at(5, 10_000) is None
    assert [f[f.first_on(n)].line for n in range(f.n_lines)] == list(range(f.n_lines))


def test_selection_stays_inside(demo):
    s, calls = Selection(), []
    s.listen(lambda: calls.append((s.layer, s.head)))
    s.resize(demo.config)
    assert calls == [(3, 1)]
    s.select(99, -5)
    assert (s.layer, s.head) == (5, 0)


def test_summary_and_series(demo):
    values = np.random.default_rng(0).random((6, 256)).astype(np.float32)
    out = summary(values)
    np.testing.assert_allclose(out[:, MEAN], values.mean(1), rtol=1e-5)
    quantiles = np.quantile(values, [0.1, 0.5, 0.9], axis=1, method="nearest")
    for column, q in zip((LOW, MEDIAN, HIGH), quantiles, strict=True):
        np.testing.assert_array_equal(out[:, column], q)
    series = Series(demo.config, RECORDED)
    norms = np.ones((6, 4))
    arrays = {"decay": values, "iclr": values, "removed_norm": norms, "written_norm": norms}
    frame = gv.Frame(arrays, tuple(range(6)))
    n = 70_000  # more than it keeps
    for i in (*range(5), *range(n - 5, n)):
        series.put(i, frame)
    start, rows = series.window("decay", n - 3, n + 10)
    assert (start, rows.shape) == (n - 3, (3, 6, 4))
    start, rows = series.window("removed_norm", 0, 2)
    assert len(rows) == 0


def test_series_take_what_they_need_and_no_more(monkeypatch):
    config = gv.Config(2, 8, 2, 4, 8, 9, 1, 1, 1, 1, "pth")

    def frame(i):
        channels = np.full((2, 8), float(i), np.float32)
        norms = np.full((2, 2), float(i), np.float32)
        return gv.Frame({"decay": channels, "iclr": channels, "removed_norm": norms,
                         "written_norm": norms}, (0, 1))  # fmt: skip

    series = Series(config, RECORDED)
    little = series.nbytes
    for i in range(3000):
        series.put(i, frame(i))
    assert series.nbytes == 4 * little
    start, rows = series.window("written_norm", 0, 5000)
    assert start == 0
    assert (rows[:, 1, 1] == np.arange(3000)).all()
    twin = series.fork(1500)
    twin.put(1500, frame(-1))
    _, rows = twin.window("written_norm", 1490, 2000)
    assert rows[:, 0, 0].tolist() == [*range(1490, 1500), -1]
    assert series.window("written_norm", 1500, 1501)[1][0, 0, 0] == 1500
    monkeypatch.setattr("goose_app.series.BYTES", 500 * 4 * 2 * 2 * 6)
    small = Series(config, RECORDED)
    for i in range(1700):
        small.put(i, frame(i))
    assert small.nbytes <= 500 * 4 * 2 * 2 * 6
    start, rows = small.window("decay", 0, 5000)
    assert start == 1200
    assert (rows[:, 0, MEAN] == np.arange(1200, 1700)).all()


def test_thumbnails():
    wkv = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    wkv[1, 2] = 0
    sheet = thumbnail_sheet(wkv)
    assert sheet.shape == (2 * 10 - 2, 3 * 10 - 2)
    assert (sheet[8:10] == 0).all()  # the gap's own colour
    assert (sheet[10:18, 20:28] == 128).all()  # an empty head is neutral
    block = sheet[:8, :8].astype(int) - 128
    np.testing.assert_array_equal(np.sign(block)[np.abs(wkv[0, 0]) > 0.1],
                                  np.sign(wkv[0, 0])[np.abs(wkv[0, 0]) > 0.1])  # fmt: skip
    huge = np.zeros((4, 4, 512, 512), np.float32)
    assert thumbnail_sheet(huge).size < 1_000_000


def test_the_action_table():
    names = [a.name for a in ACTIONS]
    assert len(set(names)) == len(names)
    keys = [k for a in ACTIONS for k in a.keys]
    assert len(set(keys)) == len(keys)
    assert set(TRANSPORT) <= set(names)
    page = help_page([("Decay", "What stays.", "w < 1")])
    for action in ACTIONS:
        if action.keys:
            assert action.keys[0] in page
    assert "What stays." in page


def test_collections_stay_short_however_long_the_text():
    import gc

    from goose_app.garbage import Garbage

    garbage, kept = Garbage(), []
    try:
        garbage.settle()
        for i in range(40):
            kept.append(cells([" word"] * 1000, 1000 * i))
            garbage.grew(1000)
        assert gc.get_freeze_count() > 36_000
        assert sum(gc.get_count()) < 40_000
        assert len(gc.get_objects(2)) < 10_000
    finally:
        gc.unfreeze()


# -- the worker --------------------------------------------------------------------------------


class Running:
    def __init__(self):
        self.worker = Worker()
        self.worker.start()
        self.said, self.seen = [], []  # with the numbers of their runs, and without

    def until(self, wanted, seconds=60):
        import time

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            while self.worker.said:
                self.said.append(self.worker.said.popleft())
                self.seen.append(self.said[-1][1])
                if wanted(self.seen[-1]):
                    return self.seen[-1]
            time.sleep(0.001)
        raise AssertionError(f"waited in vain; seen {self.seen[-5:]}")


@pytest.fixture
def running():
    r = Running()
    yield r
    r.worker.close()


def test_the_worker_loses_no_token(running):
    w = running.worker
    w.send(m.Load(None))
    running.until(lambda e: isinstance(e, m.Loaded))
    w.send(m.Restart("Once upon a time", gv.Sampler(seed=3)))
    running.until(lambda e: isinstance(e, Cells))
    w.send(m.Run(200))
    running.until(lambda e: e == m.Running(False))
    tokens = []
    for event in running.seen:
        if isinstance(event, Cells):
            assert event.start == len(tokens)
            tokens += event.tokens
    session = gv.Session(gv.load_model(), gv.Sampler(seed=3))
    session.feed("Once upon a time")
    list(session.run(200))
    assert tokens == session.tokens
    picture = w.take_picture()
    assert picture.position == picture.recorded == 205
    assert (picture.wkv == session.state.wkv).all()
    assert [t for t, _, _ in picture.next_tokens] == [t for t, _ in session.next_tokens(12)]
    assert w.take_picture() is None


def test_mistakes_become_words_and_the_run_is_kept(running, tmp_path):
    w = running.worker
    w.send(m.Step())
    assert "no model is open" in running.until(lambda e: isinstance(e, m.Failed)).words
    w.send(m.Load(None))
    w.send(m.Restart("Once", gv.Sampler(seed=3)))
    running.until(lambda e: isinstance(e, Cells))
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"<html>")
    w.send(m.Load(str(bad)))
    assert "web page" in running.until(lambda e: isinstance(e, m.Failed)).words
    w.send(m.Branch(1, 99999))
    assert "vocabulary" in running.until(lambda e: isinstance(e, m.Failed)).words
    w.send(m.Export(tmp_path / "nowhere" / "a.npz"))
    assert "nowhere" in running.until(lambda e: isinstance(e, m.Failed)).words
    w.send(m.Step())
    cells_ = running.until(lambda e: isinstance(e, Cells) and e.start > 0)
    assert cells_.start == 2


def test_while_held_no_token_begins_and_a_fresh_picture_waits(running):
    import time

    w = running.worker
    w.send(m.Load(None))
    w.send(m.Restart("Once", gv.Sampler(seed=3)))
    w.send(m.Run())
    running.until(lambda e: isinstance(e, Cells) and e.start > 20)
    w.hold()
    while not w.idle:
        time.sleep(0.001)
    position = w.take_picture().position
    assert w._runs[0].session.position == position
    time.sleep(0.05)
    assert w._runs[0].session.position == position
    w.release()
    w.send(m.Pause())
    running.until(lambda e: e == m.Running(False))


def test_a_load_can_be_cancelled(running, tmp_path):
    w = running.worker
    w.send(m.Load(None))
    running.until(lambda e: isinstance(e, m.Loading))
    w.cancel()
    seen = running.until(lambda e: isinstance(e, m.Told | m.Loaded))
    if isinstance(seen, m.Told):
        assert seen.words == "cancelled"


# -- the worker cannot die, and gives up when it is told to ------------------------------------


def test_a_full_memory_while_it_writes_ends_the_run_not_the_worker(running, monkeypatch):
    w = running.worker
    w.send(m.Load(None))
    w.send(m.Restart("Once", gv.Sampler(seed=3)))
    running.until(lambda e: isinstance(e, Cells))

    def full():
        raise MemoryError

    w.send(m.Run())
    running.until(lambda e: e == m.Running(True))
    monkeypatch.setattr(w._runs[0], "take", full)
    w.hold()
    assert "not enough free memory" in running.until(lambda e: isinstance(e, m.Failed)).words
    assert m.Running(False) in running.seen
    monkeypatch.undo()
    w.release()
    w.send(m.Step())
    running.until(lambda e: isinstance(e, Cells))


def test_a_fault_names_its_file(running, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    w = running.worker
    w.send(m.Load(None))
    running.until(lambda e: isinstance(e, m.Loaded))
    monkeypatch.setattr(gv, "Session", lambda *_, **__: [][0])
    w.send(m.Restart("Once", gv.Sampler(seed=3)))
    words = running.until(lambda e: isinstance(e, m.Failed)).words
    assert "internal error (IndexError" in words
    assert "Traceback" in Path(words.rpartition("the file ")[2]).read_text()


def test_a_load_that_still_waits_is_cancelled_too(running):
    w = running.worker
    w.send(m.Load(None))
    w.send(m.Restart("Once", gv.Sampler(seed=3)))
    running.until(lambda e: isinstance(e, Cells))
    w._runs[0].session.model.forward = slow(w._runs[0].session.model.forward)
    w.send(m.Restart("Once upon a time " * 400, gv.Sampler(seed=3)))
    running.until(lambda e: isinstance(e, m.Loading) and "prompt" in e.words)
    w.send(m.Load(None))  # behind a prompt that is being read
    w.send(m.Load(None))
    w.cancel()
    for _ in range(3):
        running.until(lambda e: isinstance(e, m.Told) and "cancelled" in e.words)
    running.seen.clear()
    w.send(m.Load(None))  # what comes after is wanted
    running.until(lambda e: isinstance(e, m.Loaded))


def slow(forward):
    import time

    def slowly(tokens, *more, **named):
        time.sleep(0.01 * len(tokens))
        return forward(tokens, *more, **named)

    return slowly


@pytest.fixture
def replaying(running):
    """A run of 300 tokens that keeps no states, on a model that takes its time."""
    w = running.worker
    w.send(m.Load(None))
    w.send(m.Restart("Once", gv.Sampler(seed=3)))
    w.send(m.Run(300))
    running.until(lambda e: isinstance(e, Cells) and e.start > 290)
    running.until(lambda e: e == m.Running(False))
    session = w._runs[0].session
    session.segment.checkpoints.clear()
    session._replay._recent.clear()
    session.history_bytes = 0
    session.model.forward = slow(session.model.forward)
    w.take_picture()
    return running


def test_a_replay_can_be_cancelled(replaying):
    import time

    w = replaying.worker
    before = w._runs[0].session.position, w._runs[0].session.state.wkv.copy()
    w.send(m.Goto(250))
    time.sleep(0.3)
    begin = time.monotonic()
    w.cancel()
    replaying.until(lambda e: isinstance(e, m.Told) and "cancelled" in e.words)
    assert time.monotonic() - begin < 1
    assert w._runs[0].session.position == before[0]
    assert (w._runs[0].session.state.wkv == before[1]).all()


def test_closing_during_a_replay_is_immediate(replaying):
    import time

    w = replaying.worker
    w.send(m.Goto(250))
    time.sleep(0.3)
    begin = time.monotonic()
    w.close()
    assert time.monotonic() - begin < 1
    assert not w._thread.is_alive()


# -- two runs ----------------------------------------------------------------------------------


def test_two_runs_write_side_by_side_and_each_as_if_alone(running):
    w = running.worker
    w.send(m.Watch(frozenset(("decay",)), frozenset(("iclr",))), 1)
    w.send(m.Load(None))
    running.until(lambda e: isinstance(e, m.Loaded))
    w.send(m.Share(0), 1)
    running.until(lambda e: isinstance(e, m.Loaded))
    prompts = ("Once upon a time", "Tom had a red ball.")
    for run, prompt in enumerate(prompts):
        w.send(m.Restart(prompt, gv.Sampler(seed=3)), run)
    for run in (0, 1):
        w.send(m.Run(60), run)
    for _ in (0, 1):
        running.until(lambda e: e == m.Running(False))
    for run, prompt in enumerate(prompts):
        tokens = []
        for of, event in running.said:
            if of == run and isinstance(event, Cells):
                assert event.start == len(tokens)
                tokens += event.tokens
        session = gv.Session(gv.load_model(), gv.Sampler(seed=3))
        session.feed(prompt)
        list(session.run(60))
        assert tokens == session.tokens
        picture = w.take_picture(run)
        assert (picture.wkv == session.state.wkv).all()
    names = w._runs[0].session.frame, w._runs[1].session.frame
    assert [set(f.arrays()) for f in names] == [set(), {"decay", "iclr"}]
    started = [run for run, e in running.said if e == m.Running(True)]
    ended = [run for run, e in running.said if e == m.Running(False)]
    assert sorted(started) == sorted(ended) == [0, 1]
    order = [run for run, e in running.said if isinstance(e, Cells)]
    assert order.index(1) < len(order) - 1 - order[::-1].index(0), "in turns"


def test_a_view_gets_what_it_asks_for_of_a_token_that_nobody_watched(running):
    w = running.worker
    w.send(m.Load(None))
    w.send(m.Restart("Once upon a time", gv.Sampler(seed=3)))
    running.until(lambda e: isinstance(e, Cells))
    w.send(m.Watch(frozenset(), frozenset(("gate", "read"))))
    import time

    end = time.monotonic() + 20
    picture = None
    while picture is None or picture.observed("gate") is None:
        assert time.monotonic() < end
        picture = w.take_picture() or picture
        time.sleep(0.005)
    assert picture.observed("gate").shape == (6, 256)
    assert picture.observed("read").shape == (6, 4, 64)
    assert picture.observed("decay") is None
