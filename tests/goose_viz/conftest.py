import numpy as np
import pytest

import goose_viz as gv
from goose_viz.checkpoint import read_checkpoint

from .layout_files import PTH, TOKENS, logits


@pytest.fixture(scope="session")
def tensors():
    """Name -> float32 array of the small random model."""
    return {n: t.float32() for n, t in read_checkpoint(PTH).tensors.items()}


@pytest.fixture(scope="session")
def expected():
    return logits(PTH, dtype="fp32")


@pytest.fixture(scope="session")
def expected_at_4e_5():
    """With the layer norms' epsilon of HF_CONFIG, and the group norm's of RWKV-7."""
    plain = gv.load_model(PTH, dtype="fp32")
    plain._engine._prompt._eps = np.float32(4e-5), np.float32(64e-5)
    return plain.forward(TOKENS, plain.new_state())
