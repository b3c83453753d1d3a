"""What a wheel and an sdist hold: three packages, the assets, nothing else at the top."""

import json
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def build(tmp_path, target):
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (found,) = tmp_path.iterdir()
    return found


def test_wheel(tmp_path):
    with zipfile.ZipFile(build(tmp_path, "wheel")) as wheel:
        names = wheel.namelist()
    tops = {n.split("/")[0] for n in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {
        "goose_viz",
        "goose_gpu",
        "goose_app",
    }
    for needed in (
        "goose_viz/assets/models/stories-7M/model.safetensors",
        "goose_viz/assets/models/stories-7M/tokenizer.json",
        "goose_viz/assets/tokenizers/rwkv_vocab_v20230424.zlib",
        "goose_viz/py.typed",
        "goose_app/panels/state.py",
        "goose_gpu/driver.py",
    ):
        assert needed in names
    assert not [n for n in names if n.endswith((".nbi", ".nbc", ".pyc"))]
    assets = sum(p.stat().st_size for p in (ROOT / "assets").rglob("*") if p.is_file())
    assert assets <= 24e6


def test_sdist(tmp_path):
    with tarfile.open(build(tmp_path, "sdist")) as sdist:
        names = {n.split("/", 1)[1] for n in sdist.getnames() if "/" in n}
    for needed in (
        "pyproject.toml",
        "Makefile",
        "LICENSE",
        "assets/README.md",
        "tests/conftest.py",
    ):
        assert needed in names
    assert not any(n.startswith((".venv", "build")) for n in names)


def test_the_wheel_runs_where_no_checkout_is(tmp_path):
    wheel = build(tmp_path, "wheel")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "import goose_viz as gv; assert gv.__file__.startswith(sys.argv[1]);"
        "m = gv.load_model(); print(m.forward([0, 1, 2], m.new_state()).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(site)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(4096,)"


@pytest.mark.skipif(sys.platform == "darwin", reason="numba-cuda has no wheels for macOS")
@pytest.mark.parametrize("extra", ["cuda12", "cuda13"])
def test_what_an_extra_resolves_to_works_together(tmp_path, extra):
    """numba-cuda 0.30 dies at the first kernel with NumPy 2.5, which numba itself allows."""
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet",
               "--report", str(report), f"{ROOT}[{extra}]"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    if done.returncode and "No matching distribution" in done.stderr + done.stdout:
        pytest.skip("no package index answers here")
    assert done.returncode == 0, done.stderr
    chosen = {
        item["metadata"]["name"].lower().replace("_", "-"): item["metadata"]["version"]
        for item in json.loads(report.read_text())["install"]
    }
    assert tuple(map(int, chosen["numpy"].split(".")[:2])) < (2, 5)
    assert chosen["numba-cuda"].startswith(("0.30.", "0.31."))
    assert any(name.startswith("nvidia-") for name in chosen)
    assert {"cuda-bindings", "cuda-core", "numba", "llvmlite", "gguf"} <= chosen.keys()
    major = chosen["cuda-bindings"].split(".")[0]
    assert major == extra.removeprefix("cuda")


def test_every_set_with_the_cuda_target_holds_numpy_back():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for name, requirements in extras.items():
        if any(r.startswith("numba-cuda") for r in requirements):
            assert "numpy<2.5" in requirements, name
    assert tuple(map(int, np.__version__.split(".")[:2])) < (2, 5), "the dev set is one of them"
