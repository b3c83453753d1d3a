"""A million tokens through the window's own engine: as quick and as small as at first (long)."""

import os
import statistics
import time

import psutil
import pytest

import goose_viz as gv
from goose_app import messages as m
from goose_app.window import Window
from goose_app.worker import Worker

pytestmark = [pytest.mark.long, pytest.mark.timeout(4 * 3600)]

TOKENS = int(os.environ.get("GOOSE_VIZ_TOKENS", "1000000"))
EARLY, TURN, TURNS = 20_000, 400, 31
PER_TOKEN = 400  # bytes that a token may cost: its id, its text, what stands in the lines


class Engine:
    """A worker, and somebody who takes its pictures as a window does."""

    def __init__(self, watch, seed, begin=None):
        self.worker = Worker()
        self.worker.start()
        for command in (m.Load(None, "cpu", begin=begin), watch):
            self.worker.send(command)
        self.worker.send(m.Restart("Once upon a time", gv.Sampler(seed=seed)))
        self._until(lambda: self.position > 0)

    position = 0

    def write(self, n):
        """Tokens a second over n tokens."""
        stop = self.position + n
        begin = time.perf_counter()
        self.worker.send(m.Run(n))
        self._until(lambda: self.position >= stop)
        return n / (time.perf_counter() - begin)

    def _until(self, done):
        while not done():
            time.sleep(1 / 60)
            while self.worker.said:
                _, event = self.worker.said.popleft()
                assert not isinstance(event, m.Failed), event
            picture = self.worker.take_picture()
            if picture is not None:
                self.position = picture.position

    def close(self):
        self.worker.close()


@pytest.fixture
def watch(monkeypatch, qtbot):
    """What a window that was just opened asks to observe."""
    sent, plain = [], Worker.send

    def send(self, command, run=0):
        sent.append(command)
        return plain(self, command, run)

    monkeypatch.setattr(Worker, "send", send)
    window = Window(m.Load(None), "Once", "dark", "watch")
    qtbot.waitUntil(lambda: window.picture.position > 0, timeout=300_000)
    window.close()
    return [c for c in sent if isinstance(c, m.Watch)][-1]


def test_the_millionth_token_is_like_the_first(watch, tmp_path):
    assert watch.recorded
    process, old = psutil.Process(), Engine(watch, seed=1)
    old.write(EARLY)
    before = process.memory_info().rss
    peaks, begin = [], time.perf_counter()
    for stop in range(TOKENS // 20, TOKENS + 1, TOKENS // 20):
        old.write(max(stop - old.position, 1))
        peaks.append(process.memory_info().rss - before)
        print(f"{old.position:,} tokens, {peaks[-1] / 1e6:+.1f} MB", flush=True)
    rate = (TOKENS - EARLY) / (time.perf_counter() - begin)
    # with its memory: what sampling costs depends on how sure the model is of its text
    old.worker.run_of(0).session.state.save(tmp_path / "memory.safetensors")
    young = Engine(watch, seed=2, begin=m.BeginWith(tmp_path / "memory.safetensors"))
    ratios = []
    for turn in range(TURNS):  # the machine's rate drifts: old and young take turns
        pair = (old, young) if turn % 2 else (young, old)
        rates = {engine: engine.write(TURN) for engine in pair}
        ratios.append(rates[old] / rates[young])
    ratio = statistics.median(ratios)
    print(f"{TOKENS:,} tokens at {rate:.0f} a second; at the end {ratio:.3f} of the rate of a run "
          f"that begins; {max(peaks) / 1e6:+.1f} MB at most")  # fmt: skip
    old.close()
    young.close()
    assert ratio >= 0.97
    assert max(peaks) < (512 << 20) + PER_TOKEN * TOKENS  # states and frames have bounds of 256 MB
