"""Ask where to save something, and end its name as its kind wants."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtWidgets import QFileDialog, QMessageBox, QWidget

from goose_app.plain import tip

#: A filter of the dialog -> the ending that it stands for.
Kinds = dict[str, str]

SNAPSHOTS: Kinds = {"Snapshot (*.safetensors)": ".safetensors", "NumPy (*.npz)": ".npz"}
NUMBERS: Kinds = {
    "Table (*.csv)": ".csv", "Parquet (*.parquet)": ".parquet", "NumPy (*.npz)": ".npz",
}  # fmt: skip
SESSIONS: Kinds = {"Session (*.goose)": ".goose"}
TRACES: Kinds = {"Recording (*.zarr)": ".zarr"}
FILMS: Kinds = {"MP4 (*.mp4)": ".mp4", "GIF (*.gif)": ".gif", "WebM (*.webm)": ".webm"}
PICTURES: Kinds = {"PDF (*.pdf)": ".pdf", "SVG (*.svg)": ".svg", "PNG (*.png)": ".png"}


def ask_where(parent: QWidget, title: str, start: str, kinds: Kinds) -> Path | None:
    """Where to save; None if nowhere.

    A name with one of the endings is taken as it is, in capitals too; any other gets the ending of
    the kind that was chosen.
    """
    chosen, kind = QFileDialog.getSaveFileName(parent, title, start, ";;".join(kinds))
    if not chosen:
        return None
    path = with_ending(chosen, kind, kinds)
    if str(path) != chosen and _exists(path) and not _sure(parent, title, path):
        return None
    return path


def _exists(path: Path) -> bool:
    """Whether there is such a file; a name that cannot be says so when it is written."""
    try:
        return path.exists()
    except OSError:
        return False


def with_ending(name: str, kind: str, kinds: Kinds) -> Path:
    """A name with an ending that says how to write the file."""
    if Path(name).suffix.lower() in kinds.values():
        return Path(name)
    return Path(name.rstrip(".") + kinds.get(kind, next(iter(kinds.values()))))


def _sure(parent: QWidget, title: str, path: Path) -> bool:
    """Whether to write over a file: Qt asked about the name without its ending."""
    words = tip(f"{path.name} is there already. Replace it?")
    return QMessageBox.question(parent, title, words) == QMessageBox.StandardButton.Yes
