"""A hundred damaged files for each reader; ``python -m tests.fuzz`` reads 100,000 of each."""

import os

import pytest

from tests.fuzz.harness import Fuzzer
from tests.fuzz.readers import READERS

INPUTS = 100


@pytest.mark.skipif(os.name == "nt", reason="the alarm that finds a hang is a signal")
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_told_in_a_sentence(name, tmp_path):
    fuzzer = Fuzzer(READERS[name], tmp_path)
    faults = {k: fault for k in range(INPUTS) if (fault := fuzzer.fault(k))}
    assert faults == {}


@pytest.mark.parametrize("name", READERS)
def test_input_k_is_the_same_wherever_and_whatever_ran_before(name, tmp_path):
    folders = tmp_path / "a", tmp_path / "another"
    for folder in folders:
        folder.mkdir()
    one, two = (Fuzzer(READERS[name], folder) for folder in folders)
    for k in range(3):
        one.input(k)
    assert [one.input(k) for k in range(7, 20)] == [two.input(k) for k in range(7, 20)]
    assert len({one.input(k) for k in range(20)}) > 10


def test_the_harness_sees_faults(tmp_path, monkeypatch):
    """A reader that fails, hangs, or takes memory is told of."""
    from dataclasses import replace

    reader = READERS["vocabulary-text"]
    fuzzer = Fuzzer(reader, tmp_path)
    monkeypatch.setattr("tests.fuzz.harness.SECONDS", 0.5)
    for read, said in (
        (lambda path: 1 / 0, "ZeroDivisionError"),
        (lambda path: [None] * 10**7, "MiB"),
        (_forever, "took more than"),
    ):
        fuzzer.reader = replace(reader, read=read)
        assert said in fuzzer.fault(0)


def _forever(path):
    while True:
        pass
