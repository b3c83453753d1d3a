"""The curves of the small models, as SVG, from the figures that evaluate.py wrote.

python tools/curves.py [folder]
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

MODELS = Path(__file__).parents[1] / "assets" / "models"
OTHERS = Path(__file__).parent / "results"
WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 196, 44, 46
GROUND, INK, QUIET, GRID = "#15171c", "#dfe3ea", "#8a93a3", "#333945"
COLOURS = ("#ffb347", "#4ea3e8", "#ea7a45")


@dataclass(frozen=True)
class Line:
    """A file of figures, which of them, and what to call it."""

    file: Path
    key: str
    name: str


@dataclass(frozen=True)
class Chart:
    title: str
    below: str
    lines: tuple[Line, ...]


CHARTS = {
    "who-is-where-curve.svg": Chart(
        "Who is where: sequences in which every answer is right, of 1,000",
        "tokens; the training had 48",
        (
            Line(MODELS / "who-is-where/figures.json", "whole", "the model inside"),
            Line(OTHERS / "who-is-where-600-steps-c1.json", "whole", "600 steps, with removal"),
            Line(OTHERS / "who-is-where-600-steps-c0.json", "whole", "600 steps, without"),
        ),
    ),
    "shell-game-curve.svg": Chart(
        "Shell game: sequences in which every answer is right, of 1,000",
        "swaps; the training had up to 128",
        (
            Line(MODELS / "shell-game/figures.json", "whole", "c = 2"),
            Line(OTHERS / "shell-game-c1.json", "whole", "c = 1, as released"),
        ),
    ),
    "recall-curve.svg": Chart(
        "Recall: answers that are right",
        "pairs to keep",
        (
            Line(MODELS / "recall/figures.json", "answers", "right answers"),
            Line(MODELS / "recall/figures.json", "whole", "all of a text right"),
        ),
    ),
}


def svg(chart: Chart) -> str:
    """One chart: shares from 0 to 100 % over levels, which are doubled from tick to tick."""
    series = [(line, json.loads(line.file.read_text())) for line in chart.lines]
    levels = sorted({int(level) for _, found in series for level in found})
    first, last = math.log2(levels[0]), math.log2(levels[-1])

    def x(level: float) -> float:
        return LEFT + (math.log2(level) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(share: float) -> float:
        return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM)

    def text(at: tuple[float, float], words: str, colour: str, anchor: str, size: int = 12) -> str:
        return (f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" fill="{colour}" font-size="{size}" '
                f'text-anchor="{anchor}">{words}</text>')  # fmt: skip

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif"><rect width="{WIDTH}" height="{HEIGHT}" rx="6" '
        f'fill="{GROUND}"/>',
        text((LEFT, 26), chart.title, INK, "start", 14),
        text(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8), chart.below, QUIET, "middle"),
    ]
    for percent in (0, 25, 50, 75, 100):
        at = y(percent / 100)
        out.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
        out.append(text((LEFT - 8, at + 4), f"{percent} %", QUIET, "end"))
    shown = -100.0
    for level in levels:
        if x(level) - shown >= 30:  # or the numbers would touch
            shown = x(level)
            out.append(text((shown, HEIGHT - BOTTOM + 18), str(level), QUIET, "middle"))
    taken: list[float] = []
    for (line, found), colour in zip(series, COLOURS, strict=False):
        points = [(x(int(level)), y(f[line.key])) for level, f in found.items()]
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in points]
        at = points[-1][1] + 4
        while any(abs(at - other) < 16 for other in taken):
            at += 16 if at < HEIGHT / 2 else -16
        taken.append(at)
        out.append(text((WIDTH - RIGHT + 12, at), line.name, colour, "start", 13))
    return "\n".join((*out, "</svg>\n"))


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures")
    for name, chart in CHARTS.items():
        (folder / name).write_text(svg(chart), encoding="utf-8")
        print(folder / name)


if __name__ == "__main__":
    main()
