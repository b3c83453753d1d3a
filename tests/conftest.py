import os
from pathlib import Path

import pytest

import goose_viz as gv

os.environ["GOOSE_VIZ_CACHE"] = "off"  # tests leave nothing in a person's folders

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def demo() -> gv.Model:
    return gv.load_model()


@pytest.fixture(scope="session")
def small() -> gv.Model:
    """Two layers of random weights: enough for everything that is not about speed or sense."""
    return gv.load_model(DATA / "random-L2-D96-N16.bf16.pth")
