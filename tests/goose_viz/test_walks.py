"""A session after any operations is one that did the end result directly, bit for bit."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from .walking import Walk

CALM = {
    "deadline": None, "database": None, "print_blob": True,
    "suppress_health_check": list(HealthCheck),
}  # fmt: skip


def test_random_walks(small, tmp_path):
    """Some two thousand operations, others every time hypothesis is."""
    Walk.model, Walk.path = small, tmp_path / "walk.goose"
    chosen = settings(max_examples=50, stateful_step_count=40, derandomize=True, **CALM)
    run_state_machine_as_test(Walk, settings=chosen)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_long_random_walks(small, tmp_path):
    Walk.model, Walk.path = small, tmp_path / "walk.goose"
    chosen = settings(max_examples=1500, stateful_step_count=60, **CALM)
    run_state_machine_as_test(Walk, settings=chosen)
