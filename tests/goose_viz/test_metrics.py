import numpy as np
import pytest

from goose_viz.metrics import half_life, rms, stable_rank


def test_half_life():
    np.testing.assert_allclose(half_life(np.array([0.5, 0.5**0.1])), [1, 10])
    assert half_life(np.array(1.0)) == np.inf


def test_rms_and_stable_rank():
    S = np.zeros((2, 3, 8, 8))
    S[1, 2] = np.outer(np.arange(8), np.ones(8))
    assert rms(S).shape == (2, 3)
    assert rms(S)[1, 2] == pytest.approx(np.sqrt((np.arange(8) ** 2).mean()))
    assert stable_rank(S)[1, 2] == pytest.approx(1)
    assert stable_rank(S)[0, 0] == 0
    assert stable_rank(np.eye(8)) == pytest.approx(8)
