"""A hundred thousand tokens on end: no slower and no larger than at the start (make test-long)."""

import statistics
import time

import psutil
import pytest

import goose_viz as gv

pytestmark = pytest.mark.long

TOKENS, EARLY, WINDOW, ROUNDS = 100_000, 5_000, 400, 41


class Writer:
    """A model writing, without a session's record of what it wrote."""

    def __init__(self, model: gv.Model, seed: int) -> None:
        self.model, self.sampler, self.state = model, gv.Sampler(seed=seed), model.new_state()
        self.counts = self.sampler.new_counts(model.config.vocab_size)
        self.logits, self.position = model.forward([0], self.state), 1

    def write(self, n: int) -> float:
        """Tokens a second over n tokens."""
        begin = time.perf_counter()
        for _ in range(n):
            token = self.sampler.choose(self.logits, self.counts, self.position)
            self.sampler.count(self.counts, token, self.model.tokenizer.label(token))
            self.logits = self.model.forward([token], self.state)
            self.position += 1
        return n / (time.perf_counter() - begin)


def test_the_hundred_thousandth_token_is_like_the_first():
    model, process = gv.load_model(device="cpu"), psutil.Process()
    old = Writer(model, seed=1)
    old.write(EARLY)
    before = process.memory_info().rss
    rate = old.write(TOKENS - EARLY)
    grown = process.memory_info().rss - before
    # the machine's rate drifts within minutes, so old and young take turns
    ratios = []
    for _ in range(ROUNDS):
        young = Writer(model, seed=2)
        late = old.write(WINDOW)
        ratios.append(late / young.write(WINDOW))
    print(
        f"\n{TOKENS} tokens at {rate:.0f} tokens/s; at the end {statistics.median(ratios):.3f} of "
        f"the start's rate; {grown / 1e6:+.1f} MB"
    )
    assert statistics.median(ratios) >= 0.97
    assert abs(grown) <= 5_000_000
