"""The window on screens of all sizes, in both themes and both perspectives, as pictures to look at.

python tools/looks.py FOLDER [--model MODEL]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

from goose_app.perspectives import PERSPECTIVES
from goose_app.tour import TOM

# width × height as Qt counts them, and physical pixels for each of those
SCREENS = (
    ("800x600", 1), ("1280x800", 1), ("1366x768", 1), ("1600x1000", 1), ("2560x1440", 1),
    ("1280x800", 2),
)  # fmt: skip
LILY = "Once upon a time, there was a little girl named Lily."
TEXTS = {p: (LILY, 90) if p == "watch" else (TOM, 0) for p in PERSPECTIVES}


def main() -> None:
    """A picture of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for (size, scale), theme, (perspective, (prompt, n)) in product(
        SCREENS, ("dark", "light"), TEXTS.items()
    ):
        name = f"{perspective}-{theme}-{size}{f'-scale{scale}' if scale > 1 else ''}.png"
        command = [
            sys.executable, "-m", "goose_app", *([options.model] if options.model else []),
            "--perspective", perspective, "--theme", theme, "--size", size, "--prompt", prompt,
            "--run", str(n), "--screenshot", str(options.folder / name),
        ]  # fmt: skip
        subprocess.run(command, env=os.environ | {"QT_SCALE_FACTOR": str(scale)}, check=True)


if __name__ == "__main__":
    main()
