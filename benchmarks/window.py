"""What the window costs: repaint times, stalls, and the token rate beside the headless one.

    python benchmarks/window.py [--json benchmarks/results/window.json]

Offscreen, 1600×1000, each perspective with its default docks, first on the demo model, then on
random weights of the 0.1B shape.  Headless and windowed stretches alternate, so that a noisy
machine hits both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["QT_QPA_PLATFORM"] = "offscreen"

import numpy as np
from machine import describe
from PySide6.QtCore import QEventLoop, QSettings, Qt, QTimer
from random_files import safetensors_file

from goose_app import messages as m
from goose_app.application import make_application
from goose_app.cells import Cells
from goose_app.perspectives import PERSPECTIVES
from goose_app.window import Window
from goose_viz.model import DEFAULT_PROMPT

_START = """
import os, sys, time
os.environ["QT_QPA_PLATFORM"] = "offscreen"
from goose_app import messages as m
from goose_app.application import make_application
from goose_app.cells import Cells
from goose_app.window import Window
app = make_application()
window = Window(m.Load(None), "Once upon a time", "dark")
window.resize(1600, 1000)
def watch(event):
    if isinstance(event, Cells):
        if event.start == 0:
            window.worker.send(m.Run())
        else:
            print(time.time())
            window.close()
            app.quit()
window.on_event = watch
window.show()
app.exec()
"""


def start_seconds() -> float:
    """Process start to the first written token, as a person waits for it."""
    began = time.time()
    done = subprocess.run(
        [sys.executable, "-c", _START], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[0]) - began


_HEADLESS = """
import sys, time
import goose_viz as gv
session = gv.Session(gv.load_model(sys.argv[1] or None), gv.Sampler(seed=1))
session.feed(sys.argv[2])
for line in sys.stdin:
    begin, n = time.perf_counter(), 0
    while time.perf_counter() - begin < float(line):
        session.step()
        n += 1
    print(n / (time.perf_counter() - begin), flush=True)
"""


class Probe:
    """A window that writes for a while, and what that cost."""

    def __init__(self, source: str | None, prompt: str, perspective: str) -> None:
        self.window = Window(m.Load(source), prompt, "dark", perspective)
        self.window.resize(1600, 1000)
        self.ready = False
        self.window.on_event = self._watch
        self.window.show()
        self._wait(lambda: self.ready)
        self.longest_stall = 0.0
        self._beat = QTimer()
        self._beat.setTimerType(Qt.TimerType.PreciseTimer)
        self._beat.timeout.connect(self._heartbeat)

    def run(self, seconds: float) -> float:
        """Write for so long; tokens a second."""
        w = self.window
        w.run_or_pause()
        self._wait(lambda: w.running)
        begin, tokens = time.perf_counter(), w.picture.position
        self._last = begin
        self._beat.start(10)
        QTimer.singleShot(round(1000 * seconds), w.run_or_pause)
        self._wait(lambda: not w.running)
        self._beat.stop()
        elapsed = time.perf_counter() - begin
        self._wait(lambda: w.worker._runs[0].picture is None)
        w.tick()
        return (w.picture.position - tokens) / elapsed

    def settle(self) -> None:
        """Forget the time in which nobody ran the window."""
        self.window._tick_began = None
        app.processEvents()

    def close(self) -> None:
        self.window.close()

    def _wait(self, done: Callable[[], bool]) -> None:
        """Run the event loop as the application does, looking only now and then."""
        loop, look = QEventLoop(), QTimer()
        look.timeout.connect(lambda: done() and loop.quit())
        look.start(20)
        loop.exec()

    def _watch(self, event: m.Event) -> None:
        if isinstance(event, Cells) and event.start == 0:
            self.ready = True
        if isinstance(event, m.Failed):
            sys.exit(event.words)

    def _heartbeat(self) -> None:
        now = time.perf_counter()
        self.longest_stall = max(self.longest_stall, now - self._last)
        self._last = now


class Headless:
    """The same work without a window, in a process of its own: idle threads would disturb it."""

    def __init__(self, source: str | None, prompt: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HEADLESS, source or "", prompt],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.run(1.0)

    def run(self, seconds: float) -> float:
        """Write for so long; tokens a second."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{seconds}\n")
        stdin.flush()
        return float(stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def measure(
    name: str, source: str | None, prompt: str, rounds: int, seconds: float, perspective: str
) -> dict:
    probe = Probe(source, prompt, perspective)
    headless = Headless(source, prompt)
    if perspective == "study":  # words that are watched cost something at every token
        probe.window.pin_token(probe.window.picture.next_tokens[0][0])
    probe.run(1.0)
    probe.window.repaint_ms.clear()
    probe.window.repaint_cpu_ms.clear()
    probe.longest_stall = 0.0
    pairs = []
    for _ in range(rounds):
        alone = headless.run(seconds)
        probe.settle()
        pairs.append((probe.run(seconds), alone))
    repaints = np.array(probe.window.repaint_ms)
    probe.close()
    headless.close()
    result = {
        "model": name,
        "perspective": perspective,
        "window tokens/s": statistics.median(p[0] for p in pairs),
        "headless tokens/s": statistics.median(p[1] for p in pairs),
        "window / headless": statistics.median(a / b for a, b in pairs),
        "repaint median ms": float(np.median(repaints)),
        "repaint p95 ms": float(np.quantile(repaints, 0.95)),
        "repaints": len(repaints),
        "repaint p95 ms of main-thread processor time": float(
            np.quantile(probe.window.repaint_cpu_ms, 0.95)
        ),
        "longest stall ms": 1000 * probe.longest_stall,
    }
    for key, value in result.items():
        print(f"  {key}: {value:.3g}" if isinstance(value, float) else f"  {key}: {value}")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--dtype", default="bf16", help="of the 0.1B weights")
    args = parser.parse_args()
    starts = [start_seconds() for _ in range(4)][1:]
    print(f"process start to first token, from the second start: {statistics.median(starts):.2f} s")
    large = str(safetensors_file("0.1B", args.dtype))
    results = [
        measure(name, source, DEFAULT_PROMPT, args.rounds, args.seconds, perspective)
        for name, source in (("stories-7M", None), (f"random 0.1B {args.dtype}", large))
        for perspective in PERSPECTIVES
    ]
    if args.json:
        facts = {"machine": describe("numba", "numpy", "PySide6-Essentials", "pyqtgraph")}
        facts |= {"start to first token s": statistics.median(starts), "results": results}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(facts, indent=2) + "\n")


app = make_application()
folder = tempfile.mkdtemp()
QSettings.setDefaultFormat(QSettings.Format.IniFormat)
QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, folder)
if __name__ == "__main__":
    main()
