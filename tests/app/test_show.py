"""The window on a session that a notebook or a script has: both go on with it, in turns."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import goose_app
import goose_viz as gv
from goose_app import messages as m

from .conftest import PROMPT


@pytest.fixture
def session(demo):
    session = gv.Session(demo, gv.Sampler(seed=6), gv.Probe({"iclr"}))
    session.feed(PROMPT)
    list(session.run(5))
    return session


@pytest.fixture
def viewer(qtbot, session):
    viewer = goose_app.show(session, theme="dark")
    w = viewer.window
    qtbot.waitUntil(lambda: w.picture.position == 17 and w.worker.at_rest, timeout=60_000)
    yield viewer
    viewer.close()


def wait(qtbot, viewer, done):
    qtbot.waitUntil(lambda: done() and viewer.window.worker.at_rest, timeout=60_000)


def straight(demo, n):
    session = gv.Session(demo, gv.Sampler(seed=6))
    session.feed(PROMPT)
    list(session.run(n))
    return session


def test_it_shows_the_session_and_comes_back(qtbot, viewer, session):
    w = viewer.window
    assert "".join(w.run.cells.texts) == session.text
    assert (w.picture.wkv == session.state.wkv).all()
    wait(qtbot, viewer, lambda: w.run.series.first == 0)
    first, rows = w.run.series.window("decay", 0, 99)
    assert (first, len(rows)) == (0, 17)
    assert not np.isnan(rows).any()


def test_what_the_one_does_the_other_shows(qtbot, viewer, session, demo):
    w = viewer.window
    list(session.run(4))
    wait(qtbot, viewer, lambda: w.picture.position == 21)
    assert "".join(w.run.cells.texts) == session.text
    w.step()
    wait(qtbot, viewer, lambda: w.picture.position == 22)
    assert session.position == 22
    assert session.tokens == straight(demo, 10).tokens
    session.goto(9)
    wait(qtbot, viewer, lambda: w.picture.position == 9)
    session.apply(gv.Zero(layer=1))
    wait(qtbot, viewer, lambda: bool(w.picture.edits))
    list(session.run(3))
    wait(qtbot, viewer, lambda: w.picture.position == 12)
    assert (w.picture.wkv == session.state.wkv).all()
    assert w.branches.list.count() == 2
    wait(qtbot, viewer, lambda: w.run.series.n == 12)
    assert not np.isnan(w.run.series.window("decay", 0, 99)[1]).any()


def test_another_text_begun_elsewhere(qtbot, viewer, session):
    w = viewer.window
    session.begin()
    wait(qtbot, viewer, lambda: w.picture.position == 0)
    assert len(w.run.cells) == 0
    session.feed("Once upon a time")
    wait(qtbot, viewer, lambda: w.picture.position == 5)
    assert "".join(w.run.cells.texts) == session.text
    assert w.picture.branches == 2


def test_closed_it_gives_the_session_back(qtbot, viewer, session, demo):
    probe = next(p for p in [gv.Probe({"iclr"})])
    assert "closed" not in repr(viewer)
    viewer.close()
    assert not viewer.open
    assert "closed" in repr(viewer)
    assert session.probe.observables == probe.observables
    viewer.close()
    viewer.wait()
    session.probe.clear()
    list(session.run(3))
    assert len(session.probe.frames) == 3
    assert session.tokens == straight(demo, 8).tokens
    assert "goose-worker" not in [t.name for t in threading.enumerate()]


def test_both_at_once_give_the_numbers_of_one(qtbot, viewer, session, demo):
    """The window writes while the notebook computes with the same model."""
    w = viewer.window
    other = gv.Session(demo, gv.Sampler(seed=9))
    alone = gv.Session(demo, gv.Sampler(seed=9))
    other.feed("Once upon a time")
    alone.feed("Once upon a time")
    w.worker.send(m.Run(60))
    for _ in range(60):
        other.step()
        session.frames(0, 5, ("wkv",))
        qtbot.wait(1)
    wait(qtbot, viewer, lambda: session.position == 77)
    list(alone.run(60))
    assert other.tokens == alone.tokens
    assert (other.state.wkv == alone.state.wkv).all()
    true = straight(demo, 65)
    assert session.tokens == true.tokens
    assert (session.state.wkv == true.state.wkv).all()


SCRIPT = """
import goose_viz as gv
from goose_app import show
from PySide6.QtCore import QTimer
session = gv.Session(gv.load_model(), gv.Sampler(seed=1))
session.feed("Once upon a time")
viewer = show(session)
def end():
    if viewer.window.picture.position == session.position:
        viewer.close()
    else:
        QTimer.singleShot(50, end)
QTimer.singleShot(50, end)
viewer.wait()
print("over", viewer.open, session.step().position)
"""


def test_in_a_script(tmp_path):
    env = os.environ | {"QT_QPA_PLATFORM": "offscreen", "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "over False 6\n"


def test_in_ipython_the_prompt_serves_it(qtbot, session, monkeypatch):
    import IPython

    asked = []

    class Shell:
        enable_gui = staticmethod(asked.append)

    monkeypatch.setattr(IPython, "get_ipython", Shell)
    viewer = goose_app.show(session)
    assert asked == ["qt"]
    viewer.close()


def test_without_a_screen_it_says_so(session, monkeypatch):
    monkeypatch.setattr("goose_app.display.why_no_screen", lambda: "there is no display")
    with pytest.raises(gv.GooseError, match="no window can open here: there is no display"):
        goose_app.show(session)


def test_the_package_has_nothing_else():
    with pytest.raises(AttributeError, match="no attribute 'shew'"):
        goose_app.shew  # noqa: B018
