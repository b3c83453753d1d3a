"""Is a long run as quick to look at as a short one?

    python benchmarks/long_run.py [--json benchmarks/results/long_run.json] [--tokens 30000]

The same window, offscreen, 1600×1000, after 300 tokens and after many: scrolling a line and a page
and jumping in the text, each with every line drawn anew; putting the cursor elsewhere, until its
picture is painted; repaints while the model writes. Medians and 95 % bounds in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
from machine import describe
from PySide6.QtCore import QEventLoop, QSettings, QTimer

from goose_app import messages as m
from goose_app.application import make_application
from goose_app.window import Window

_TIMES = 120
_PATIENCE = 240  # seconds


def main() -> None:
    """Both lengths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--tokens", type=int, default=30_000)
    options = parser.parse_args()
    make_application()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        QSettings.setDefaultFormat(QSettings.Format.IniFormat)
        QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, folder)
        window = Window(m.Load(None), "Once upon a time", "dark", "watch")
        window.resize(1600, 1000)
        window.show()
        wait(lambda: window.picture.position > 0)
        for n in (300, options.tokens):
            write_up_to(window, n)
            found[n] = measured(window)
        window.close()
    short, long = found.values()
    print(f"{'':32}{'300 tokens':>20}{f'{options.tokens:,} tokens':>20}{'p95':>8}")
    for name in short:
        columns = "".join(f"{a:>10.2f}{b:>10.2f}" for a, b in (short[name], long[name]))
        print(f"{name:32}{columns}{long[name][1] / short[name][1]:>7.2f}×")
    if options.json:
        content = {"machine": describe(), "ms (median, p95)": found}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


def measured(window: Window) -> dict[str, tuple[float, float]]:
    """Milliseconds of what people do."""
    view, bar = window.text.view, window.text.view.verticalScrollBar()
    chance = random.Random(0)

    def paint(value: int) -> None:
        view.redraw()  # no line from the cache: a short text is all in there
        bar.setValue(value)
        view.viewport().repaint()

    def jump() -> None:
        window.goto(chance.randrange(1, window.picture.recorded))
        settle(window)

    out = {}
    bar.setValue(bar.maximum() // 2)
    out["scroll a line"] = times(lambda: paint(bar.value() - bar.singleStep()))
    bar.setValue(bar.maximum())
    out["scroll a page"] = times(lambda: paint((bar.value() - bar.pageStep()) % bar.maximum()))
    out["jump in the text"] = times(lambda: paint(chance.randrange(bar.maximum())))
    window.to_end()
    settle(window)
    out["one token back, and its picture"] = times(lambda: (window.back(), settle(window)))
    out["the cursor anywhere"] = times(jump)
    window.to_end()
    settle(window)
    window.repaint_ms.clear()
    window.run_or_pause()
    wait(lambda: len(window.repaint_ms) >= _TIMES)
    window.run_or_pause()
    settle(window)
    out["repaint while it writes"] = spread(list(window.repaint_ms))
    return out


def times(do: object) -> tuple[float, float]:
    """(median, p95) of doing it, in milliseconds."""
    found = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        do()  # type: ignore[operator]
        found.append(1000 * (time.perf_counter() - began))
    return spread(found)


def spread(ms: list[float]) -> tuple[float, float]:
    """Median and the bound of 95 %."""
    return float(np.median(ms)), float(np.quantile(ms, 0.95))


def settle(window: Window) -> None:
    """Until what was asked for is painted."""
    last = window.worker._serial
    wait(lambda: window.picture.serial >= last and window._tick_began is None, 1)


def write_up_to(window: Window, n: int) -> None:
    """Let the model write so far."""
    window.to_end()
    settle(window)
    window.worker.send(m.Run(n - window.picture.recorded))
    wait(lambda: window.picture.recorded >= n and not window.running)


def wait(done: object, ms: int = 20) -> None:
    """Let the window live until then."""
    end = time.monotonic() + _PATIENCE
    while not done():  # type: ignore[operator]
        if time.monotonic() > end:
            raise TimeoutError("the window does not get there")
        loop = QEventLoop()
        QTimer.singleShot(ms, loop.quit)
        loop.exec()  # QTest.qWait would keep the interpreter's lock from the model


if __name__ == "__main__":
    main()
