"""A text of a million tokens: what the window keeps of it, and how long it takes."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from goose_app import messages as m
from goose_app.cells import Cells
from goose_app.panels.remember import RememberPanel
from goose_app.panels.text import TextPanel
from goose_app.run_view import RunView
from goose_app.selection import Selection

N, PORTION = 1_000_000, 5_000
WORDS = [" once", " upon", " a", " time", ",", " there", " was", " little", "\n", " girl", "ly"]


def resident():
    """Bytes of this process that lie in memory."""
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_million_tokens_cost_some_sixty_bytes_each(qtbot):
    """A session remembers them in less than 40 MB (test_session); with this it stays below 100."""
    selection, run = Selection(), RunView()
    panels = [TextPanel(selection), RememberPanel(selection)]
    for panel in panels:
        panel.set_run(run)
        panel.resize(500, 800)
        qtbot.addWidget(panel)
        panel.show()
    rng, worst = np.random.default_rng(0), 0.0
    before = resident()
    for start in range(0, N, PORTION):
        cells = Cells(start)
        ids = rng.integers(0, len(WORDS), PORTION)
        cells.extend(ids.tolist(), [WORDS[i] for i in ids], rng.random(PORTION), b"\1" * PORTION)
        begin = time.perf_counter()
        run.cells.replace(cells)
        for panel in panels:
            panel.text_changed(start)
        worst = max(worst, (time.perf_counter() - begin) / PORTION)
    picture = m.Picture(N, N, None, np.zeros((1, 1, 1, 1), np.float32))
    for panel in panels:
        panel.set_picture(picture)
    assert resident() - before < 62e6
    assert [len(panel.view.flow) for panel in panels] == [N, N]
    assert worst < 1e-4, "seconds a token, whatever is there already"
    view = panels[0].view
    last = view.cell_rect(N - 1)
    assert view.viewport().rect().contains(last.center().toPoint()), "the end is in sight"
    assert view.index_at(last.center()) == N - 1
    assert view.describe(N - 1).startswith(f"token {N}: ")
    begin = time.perf_counter()
    view.set_cursor(N // 2)
    view.grab()
    assert time.perf_counter() - begin < 0.2, "a jump is as quick as in a short text"
    assert view.viewport().rect().contains(view.cell_rect(N // 2 - 1).center().toPoint())


def test_painting_scrolling_and_jumping_do_not_grow_with_the_run(qtbot):
    """In turns, and the quickest of many, so that a busy machine has no say."""
    views, quickest = {}, {300: np.inf, 30_000: np.inf}
    rng = np.random.default_rng(0)
    for n in quickest:
        run, panel = RunView(), TextPanel(Selection())
        panel.set_run(run)
        panel.resize(500, 800)
        qtbot.addWidget(panel)
        panel.show()
        ids = rng.integers(0, len(WORDS), n)
        run.cells.extend(ids.tolist(), [WORDS[i] for i in ids], rng.random(n), b"\1" * n)
        panel.text_changed(0)
        panel.set_picture(m.Picture(n, n, None, np.zeros((1, 1, 1, 1), np.float32)))
        views[n] = panel.view
        assert panel.view.verticalScrollBar().maximum() > 0
    for _ in range(60):
        for n, view in views.items():
            begin = time.perf_counter()
            view.redraw()  # every line anew: a short text is all in the cache
            view.verticalScrollBar().setValue(int(rng.integers(view.verticalScrollBar().maximum())))
            view.viewport().repaint()
            quickest[n] = min(quickest[n], time.perf_counter() - begin)
    assert quickest[30_000] < 1.3 * quickest[300]
