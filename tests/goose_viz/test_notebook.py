"""The notebook of the documentation runs as it stands, and says what it says."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np

import goose_viz as gv

NOTEBOOK = Path(__file__).parents[2] / "docs" / "traces.ipynb"
# in a process of its own: Jupyter's clients warn of what is theirs to mend
RUN = """
import sys, nbformat
from nbclient import NotebookClient
made = nbformat.read(sys.argv[1], 4)
NotebookClient(made, timeout=200, kernel_name="python3").execute()
nbformat.write(made, sys.argv[2])
"""


def streams(notebook):
    return [
        "".join(o.text for o in c.outputs if o.output_type == "stream" and o.name == "stdout")
        for c in notebook.cells
        if c.cell_type == "code"
    ]


def test_the_notebook_runs(tmp_path):
    out = tmp_path / "out.ipynb"
    env = os.environ | {"IPYTHONDIR": str(tmp_path / "ipython"), "MPLCONFIGDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", RUN, NOTEBOOK, out], cwd=tmp_path, env=env, capture_output=True,
        text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    before, after = nbformat.read(NOTEBOOK, 4), nbformat.read(out, 4)
    assert streams(before) == streams(after)
    kinds = [o.data.keys() for c in after.cells if c.cell_type == "code" for o in c.outputs
             if "data" in o]  # fmt: skip
    assert any("image/png" in k for k in kinds)
    assert sum("text/html" in k for k in kinds) == 2


def test_tables_for_notebooks(demo, tmp_path):
    session = gv.Session(demo, gv.Sampler(seed=1), gv.Probe({"decay", "written_norm"}))
    session.feed("<b>Lily & Tom")
    (_, decay, norm) = session.frame._repr_html_().split("<tr>")[1:4]
    assert "6 × 256" in decay
    assert f"{session.frame.decay.min():.4g}" in decay
    assert f"{np.float64(session.frame.written_norm.mean()):.4g}" in norm
    assert "Frobenius" in norm
    assert f"{session.position} tokens from 0 on" in session.frames()._repr_html_()
    gv.save_snapshot(tmp_path / "a.npz", session)
    shown = gv.load_snapshot(tmp_path / "a.npz")._repr_html_()
    assert "&lt;b&gt;Lily &amp; Tom" in shown
    assert "6 × 4 × 64 × 64" in shown
