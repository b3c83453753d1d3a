"""Save what a widget shows, as PNG or SVG."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QPoint
from PySide6.QtGui import QPainter
from PySide6.QtSvg import QSvgGenerator
from PySide6.QtWidgets import QWidget

from goose_viz.files import write_whole


def save_widget(widget: QWidget, path: Path) -> None:
    """Write a picture of a widget; the name's ending, .png or .svg, chooses the format.

    Raises
    ------
    ValueError
        If the ending is another.
    OSError
        If the file cannot be written; an older one of the name is untouched then.
    """
    suffix = path.suffix.lower()
    if suffix == ".png":
        content = QByteArray()
        buffer = QBuffer(content)
        buffer.open(QIODevice.OpenModeFlag.WriteOnly)
        widget.grab().save(buffer, "PNG")
        write_whole(path, content.data())
    elif suffix == ".svg":
        # QSvgGenerator writes its end when it is destroyed, so it goes by a file of its own.
        handle, name = tempfile.mkstemp(suffix=".svg")
        os.close(handle)
        try:
            generator = QSvgGenerator()
            generator.setFileName(name)
            generator.setSize(widget.size())
            generator.setViewBox(widget.rect())
            painter = QPainter(generator)
            widget.render(painter, QPoint())
            painter.end()
            del generator
            write_whole(path, Path(name).read_bytes())
        finally:
            Path(name).unlink(missing_ok=True)
    else:
        raise ValueError(f"{path.name}: a picture's name ends in .png or .svg")
