"""Save what a widget shows as a figure: PNG, SVG or PDF, letters as letters.

A pixel of the screen is 1/96 inch on paper, as in CSS; what is wider than two columns of a journal
becomes as wide as those.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QMarginsF, QPoint, QSize, QSizeF
from PySide6.QtGui import QImage, QPageSize, QPainter, QPdfWriter
from PySide6.QtSvg import QSvgGenerator
from PySide6.QtWidgets import QWidget

from goose_viz.files import write_whole

SCREEN, PRINT = 96, 300  # dots an inch
_WIDEST = 183.0  # mm


def save_widget(widget: QWidget, path: Path, dpi: int = SCREEN) -> None:
    """Write a picture of a widget; the name's ending chooses the format.

    Parameters
    ----------
    widget : QWidget
    path : Path
        Its ending is .png, .svg or .pdf.
    dpi : int
        Dots an inch of a PNG; the others have none.

    Raises
    ------
    ValueError
        If the ending is another.
    OSError
        If the file cannot be written; an older one of the name is untouched then.
    """
    writers: dict[str, Callable[[], bytes]] = {
        ".png": lambda: _png(widget, dpi),
        ".svg": lambda: _by_file(widget, _svg, ".svg"),
        ".pdf": lambda: _by_file(widget, _pdf, ".pdf"),
    }
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise ValueError(f"{path.name}: a picture's name ends in .png, .svg or .pdf")
    write_whole(path, writer())


def _png(widget: QWidget, dpi: int) -> bytes:
    if dpi == SCREEN:
        image = widget.grab().toImage()
    else:
        image = painted(widget, widget.size(), dpi / SCREEN)
        image.setDevicePixelRatio(1)
        image.setDotsPerMeterX(round(dpi / 0.0254))
        image.setDotsPerMeterY(round(dpi / 0.0254))
    content = QByteArray()
    buffer = QBuffer(content)
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")
    return bytes(content.data())


def painted(widget: QWidget, size: QSize, scale: float) -> QImage:
    """A widget in so many pixels for each of its own, on a canvas of a size of its own."""
    image = QImage(size * scale, QImage.Format.Format_RGB888)
    image.setDevicePixelRatio(scale)
    image.fill(widget.palette().window().color())
    widget.render(image, QPoint())
    return image


def _by_file(widget: QWidget, write: Callable[[QWidget, str], None], suffix: str) -> bytes:
    """What a writer of Qt's makes: they write their ends when they are destroyed."""
    handle, name = tempfile.mkstemp(suffix=suffix)
    os.close(handle)
    try:
        write(widget, name)
        return Path(name).read_bytes()
    finally:
        Path(name).unlink(missing_ok=True)


def _svg(widget: QWidget, name: str) -> None:
    generator = QSvgGenerator(QSvgGenerator.SvgVersion.Svg11)  # the older one cannot clip
    generator.setFileName(name)
    generator.setResolution(widget.logicalDpiX())  # or letters are as large as on another screen
    generator.setSize(widget.size())
    generator.setViewBox(widget.rect())
    _paint(widget, QPainter(generator))


def _pdf(widget: QWidget, name: str) -> None:
    width = min(widget.width() * 25.4 / SCREEN, _WIDEST)
    size = QSizeF(width, width * widget.height() / widget.width())
    writer = QPdfWriter(name)
    writer.setCreator("Goose Viz")
    writer.setPageMargins(QMarginsF())
    page = QPageSize(size, QPageSize.Unit.Millimeter, "", QPageSize.SizeMatchPolicy.ExactMatch)
    writer.setPageSize(page)
    # a unit of the page is a pixel of the widget, so that letters have their size
    writer.setResolution(SCREEN)
    painter = QPainter(writer)
    painter.scale(*(2 * (writer.width() / widget.width(),)))
    _paint(widget, painter)


def _paint(widget: QWidget, painter: QPainter) -> None:
    painter.setRenderHint(QPainter.RenderHint.LosslessImageRendering)
    widget.render(painter, QPoint())
    painter.end()
