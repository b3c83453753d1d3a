import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import goose_viz as gv
from goose_viz.config import Config
from goose_viz.weights import expected_shapes

os.environ["GOOSE_VIZ_CACHE"] = "off"  # tests leave nothing in a person's folders

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def demo() -> gv.Model:
    return gv.load_model()


@pytest.fixture(scope="session")
def small() -> gv.Model:
    """Two layers of random weights: enough for everything that is not about speed or sense."""
    return gv.load_model(DATA / "random-L2-D96-N16.bf16.pth")


def save_random(path: Path, config: Config) -> None:
    """A checkpoint of random numbers that stay at home in float32."""
    rng = np.random.default_rng(3)
    tensors = {}
    for name, shape in expected_shapes(config).items():
        x = 0.4 * rng.standard_normal(shape)
        if "ln" in name and name.endswith("weight"):
            x += 1
        tensors[name] = x.astype(np.float32)
    save_file(tensors, path, metadata={"removal_scale": str(config.removal_scale)})


def two_heads_of(N: int, removal_scale: float = 1.0) -> Config:
    """The sizes of a model of three layers and 61 tokens."""
    sizes = (3, 2 * N, 2, N, 5 * N, 61, 5, 8, 3, 9)
    return Config(*sizes, "safetensors", removal_scale=removal_scale)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A checkpoint of two layers, two heads of eight: what the simulator can bear."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    save_random(path, Config(2, 16, 2, 8, 40, 23, 5, 8, 3, 9, "safetensors"))
    return path


@pytest.fixture(scope="session")
def world_model(tmp_path_factory) -> Path:
    """The same with the 65,536 tokens of World models."""
    path = tmp_path_factory.mktemp("world") / "world.safetensors"
    save_random(path, Config(2, 16, 2, 8, 40, 65536, 5, 8, 3, 9, "safetensors"))
    return path
