"""What a long run costs in memory: the window with Why open, ten thousand tokens of the demo model.

    python benchmarks/memory.py [--tokens 10000] [--json benchmarks/results/memory.json]

Offscreen.  The bounds that are stated: 256 MB of states to return to, 256 MB of observables for
explanations, 64 MB of figures a branch.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

os.environ["QT_QPA_PLATFORM"] = "offscreen"

from machine import describe
from PySide6.QtCore import QSettings

from goose_app import messages as m
from goose_app.application import make_application
from goose_app.series import BYTES
from goose_app.window import Window
from goose_viz.model import DEFAULT_PROMPT

BOUNDS = (256 << 20) + (256 << 20) + BYTES


def resident() -> int:
    """Bytes of this process that lie in memory."""
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    window = Window(m.Load(None), DEFAULT_PROMPT, "dark", "why")
    window.resize(1600, 1000)
    window.show()

    def until(position: int) -> None:
        while window.picture.position < position or window.running:
            app.processEvents()
            time.sleep(0.005)

    until(1)
    window.worker.send(m.Run(200))
    until(200)
    before, rows = resident(), []
    for target in range(args.tokens // 5, args.tokens + 1, args.tokens // 5):
        window.worker.send(m.Run(target - window.picture.position))
        until(target)
        rows.append({"tokens": target, "MB more than at 200": (resident() - before) / 1e6})
        print(rows[-1], flush=True)
    window.close()
    facts = {"machine": describe("numpy", "PySide6-Essentials"), "bounds MB": BOUNDS / 1e6}
    print("bounds, MB:", BOUNDS / 1e6)
    if args.json:
        args.json.write_text(json.dumps(facts | {"results": rows}, indent=2) + "\n")


app = make_application()
if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        QSettings.setDefaultFormat(QSettings.Format.IniFormat)
        QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, folder)
        main()
