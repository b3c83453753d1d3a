"""Make docs/traces.ipynb: its cells are here, its outputs are what they give.

    python tools/notebook.py

Needs: pip install nbclient nbformat ipykernel matplotlib.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

OUT = Path(__file__).parents[1] / "docs" / "traces.ipynb"
CELLS = (
    """# A recorded run in a notebook

Record what goes on inside an RWKV-7 model while it writes, open it with xarray, and ask where a
word came from.""",
    """>%matplotlib inline
import goose_viz as gv
from goose_viz import analysis as ga

model = gv.load_model()          # the story model that ships inside
prompt = "Tom had a red ball. Sue had a blue cup. Tom played with his red"
trace = gv.record(model, prompt, 40, "tom.zarr", sampler=gv.Sampler(seed=1))
print(trace.text)""",
    """The trace is a folder that plain `xarray.open_zarr` opens, here or in a program that has
never heard of Goose Viz.""",
    """>import xarray

run = xarray.open_zarr("tom.zarr", chunks=None)
run""",
    """**Decay by layer.** What each layer keeps of its memory at every token, the mean over its
channels.""",
    """>run.decay.mean("channel").plot(x="token", hue="layer", figsize=(9, 3));""",
    """**Which tokens were expected?** `probability` is what the model gave each token before it
came.""",
    """>import numpy as np

surprise = -np.log2(run.probability)
for i in surprise.values.argsort()[-6:-1][::-1]:
    print(f"{surprise[i].item():5.1f} bits  {run.text[i].item()!r}")""",
    """**What does a head still hold?** The trace's frames go into every analysis that needs no
model.""",
    """>frames = trace.frames(trace.way())
ga.retention(frames, layer=5, head=3)[-12:].round(2)""",
    """**Why this word?** That asks the model itself. The same text, up to the word in question:""",
    """>session = gv.Session(model, gv.Sampler(seed=1))
session.feed(prompt)
label = model.tokenizer.label
print([(label(token), round(p, 2)) for token, p in session.next_tokens(3)])
(first, _), (second, _) = session.next_tokens(2)
why = ga.attribution(model, session.frames(), first, second)
print(why.sentence(model.tokenizer))""",
    """**And if it forgets it?** The word's remains are taken out of the memory; nothing else
changes.""",
    """>word = next(i for i, t in enumerate(session.tokens) if label(t) == " ball")
before = dict(session.next_tokens(3))
session.apply(gv.Forget(word), again=1)   # the last token is read again, from the changed memory
after = dict(session.next_tokens(4096))
for token, p in before.items():
    print(f"{label(token):>8}  {p:.2f} → {after[token]:.2f}")""",
    """The moment can be taken home as well, and gone on from:""",
    """>gv.save_snapshot("moment.safetensors", session)
gv.load_snapshot("moment.safetensors")""",
)


def notebook() -> nbformat.NotebookNode:
    """The cells, without outputs."""
    cells = []
    for i, text in enumerate(CELLS):
        code = text.startswith(">")
        cell = nbformat.v4.new_code_cell(text[1:]) if code else nbformat.v4.new_markdown_cell(text)
        cell["id"] = f"cell-{i}"
        cells.append(cell)
    return nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )


def main() -> None:
    made = notebook()
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(made, timeout=300, resources={"metadata": {"path": folder}})
        client.execute()
    for cell in made.cells:
        cell.get("metadata", {}).clear()  # when it was run is nobody's business
        if cell.cell_type == "code":
            cell["execution_count"] = None
            for output in cell.outputs:
                output.pop("execution_count", None)
                if output.output_type == "execute_result":
                    output["execution_count"] = None
    made.metadata.pop("language_info", None)
    nbformat.validate(made)
    OUT.write_text(nbformat.writes(made) + "\n")


if __name__ == "__main__":
    main()
