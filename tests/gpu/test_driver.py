import subprocess

import pytest

from goose_gpu import find_cards

FAKE = """
#include <string.h>
int cuInit(unsigned f) { return %d; }
int cuDeviceGetCount(int *n) { *n = %d; return 0; }
int cuDeviceGet(int *d, int i) { *d = i; return 0; }
int cuDriverGetVersion(int *n) { *n = 12080; return 0; }
int cuDeviceGetAttribute(int *n, int a, int d) {
    *n = a == 16 ? 132 : a == 75 ? 9 : d; return 0; }
int cuDeviceGetName(char *s, int n, int d) { strncpy(s, d ? "Card B" : "Card A", n); return 0; }
"""


def test_no_driver():
    cards = find_cards("libnothing-of-that-name.so")
    assert cards.names == ()
    assert "no NVIDIA driver" in cards.words


@pytest.mark.parametrize(
    ("status", "count", "names", "words"),
    [
        (0, 2, ("Card A", "Card B"), "Card A, Card B"),
        (100, 0, (), "cuInit says 100"),
        (0, 0, (), "finds no card"),
    ],
)
def test_drivers(tmp_path, status, count, names, words):
    source, library = tmp_path / "fake.c", tmp_path / "libfake.so"
    source.write_text(FAKE % (status, count))
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    except FileNotFoundError:
        pytest.skip("no C compiler here to build a driver's stand-in with")
    cards = find_cards(str(library))
    assert cards.names == names
    assert words in cards.words
    if names:
        assert cards.driver == (12, 8)
        assert cards.capabilities == ((9, 0), (9, 1))
        assert cards.multiprocessors == (132, 132)
