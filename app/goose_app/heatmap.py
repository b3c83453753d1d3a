"""A matrix as an image with axes: cheap to repaint, exact to read.

The axes are drawn once into a pixmap and reused until size, shape or theme change; a new picture
costs one look-up in a colour table and one blit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QImage,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
)  # fmt: skip
from PySide6.QtWidgets import QSizePolicy, QWidget

from goose_app.on_paper import in_vectors, on_paper
from goose_app.theme import DARK, Table, Theme
from goose_viz.compiled import compiled

_LEFT, _TOP, _BOTTOM, _BAR, _BAR_GAP = 40, 20, 32, 10, 8
_RECTANGLES = 20_000  # cells that are drawn one by one in a figure of vectors
_FINE = 4  # pixels of a cell else, so that no viewer blurs them into each other
_STRIP = 8  # pixels that a strip along an axis takes


class Heatmap(QWidget):
    """Rows downwards, columns to the right, a colour bar at the side, values under the mouse.

    Parameters
    ----------
    x_label, y_label : str
        What columns and rows are.
    square : bool
        Whether a cell is as high as it is wide.
    describe : callable (row, column) -> str
        What to say of the cell under the mouse.
    strips : bool
        Whether there is room for a strip of numbers along each axis, see `set_strips`.
    """

    cell_clicked = Signal(int, int)
    hovered = Signal(object)  # (row, column) under the mouse, or None

    def __init__(
        self,
        x_label: str,
        y_label: str,
        describe: Callable[[int, int], str],
        square: bool = False,
        strips: bool = False,
    ) -> None:
        super().__init__()
        self._margin = _STRIP if strips else 0
        self._strips: tuple[QImage, QImage] | None = None
        self.theme: Theme = DARK
        self.caption = ""
        self._x_label, self._y_label, self._square = x_label, y_label, square
        self._describe = describe
        self._indices: NDArray[np.uint8] = np.zeros((1, 1), np.uint8)
        self._image = QImage()
        self._colours: Table | None = None
        self._table: NDArray[np.uint32] = np.zeros(256, np.uint32)
        self._ends = ("", "")
        self._bar_image = QImage()
        self._axes = QPixmap()
        self._ticks: tuple[list[tuple[float, str]], list[tuple[float, str]]] | None = None
        self._marked: QRectF | None = None
        self._grid = 0
        self._hover: tuple[int, int] | None = None
        self._blank = "opening…"
        self.hovered.connect(self.set_hover)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)  # a click takes the keys back from a box
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)  # the axes' pixmap covers all
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(120, 90)

    # -- content -----------------------------------------------------------------------------------

    def set_colours(self, table: Table, low: str, high: str) -> None:
        """The map, and what its two ends stand for."""
        if table is self._colours and self._ends == (low, high):
            return
        if table is not self._colours:
            self._colours = table
            wide = table.astype(np.uint32)
            red, green, blue = wide.T
            opaque, by_two, by_one = np.array([0xFF000000, 16, 8], np.uint32)
            self._table = opaque | red << by_two | green << by_one | blue
        self._ends = (low, high)
        self._bar_image = self._to_image(np.arange(255, -1, -1, dtype=np.uint8)[:, None])
        self._axes = QPixmap()
        if self._blank == "":
            self._image = self._to_image(self._indices)
        self.update()

    def set_indices(self, indices: NDArray[np.uint8]) -> None:
        """New content (rows, columns): places in the colour map."""
        if indices.shape != self._indices.shape:
            self._axes = QPixmap()
            self._hover = None  # the cell under the mouse may be gone
        self._indices = indices
        self._image = self._to_image(self._indices)
        self._blank = ""
        self.update()

    def set_strips(self, left: NDArray[np.uint8], top: NDArray[np.uint8]) -> None:
        """Numbers along the rows and along the columns, as places in the colour map."""
        self._strips = self._to_image(left[:, None]), self._to_image(top[None, :])

    def set_blank(self, words: str) -> None:
        """Nothing to show yet, and why."""
        self._blank = words
        self._hover = None
        self._image = QImage()
        self.update()

    def set_ticks(
        self, x: list[tuple[float, str]] | None, y: list[tuple[float, str]] | None
    ) -> None:
        """Own ticks, [(place in cells, text)]; None for numbers chosen by itself."""
        ticks = None if x is None or y is None else (x, y)
        if ticks != self._ticks:
            self._ticks = ticks
            self._axes = QPixmap()
            self.update()

    def set_grid(self, columns: int) -> None:
        """A thin line every so many columns; 0 for none."""
        if columns != self._grid:
            self._grid = columns
            self.update()

    def set_x_label(self, words: str) -> None:
        """What the columns are."""
        if words != self._x_label:
            self._x_label = words
            self._axes = QPixmap()
            self.update()

    def mark(self, cells: QRectF | None) -> None:
        """Frame a rectangle, in cells."""
        if cells != self._marked:
            self._marked = cells
            self.update()

    def set_theme(self, theme: Theme) -> None:
        """Other colours for everything but the content."""
        self.theme = theme
        self._axes = QPixmap()
        self.update()

    def set_caption(self, words: str) -> None:
        """The line above the picture; what is under the mouse takes its place."""
        if words != self.caption:
            self.caption = words
            self.update(0, 0, self.width(), _TOP)

    # -- geometry ----------------------------------------------------------------------------------

    def sizeHint(self) -> QSize:
        """A comfortable size."""
        return QSize(360, 300)

    def image_rect(self) -> QRectF:
        """Where the content lies, in pixels."""
        right = _BAR + _BAR_GAP + self._bar_text_width()
        left, top = _LEFT + self._margin, _TOP + self._margin
        free = QRectF(left, top, self.width() - left - right - 6, self.height() - top - _BOTTOM)
        if not self._square:
            return free
        rows, columns = self._indices.shape
        cell = min(free.width() / columns, free.height() / rows)
        if cell >= 1:
            cell = np.floor(cell * 4) / 4
        return QRectF(free.x(), free.y(), cell * columns, cell * rows)

    def cell_at(self, point: QPointF) -> tuple[int, int] | None:
        """(row, column) under a point."""
        rect = self.image_rect()
        if self._blank or not rect.contains(point):
            return None
        rows, columns = self._indices.shape
        row = int((point.y() - rect.y()) / rect.height() * rows)
        column = int((point.x() - rect.x()) / rect.width() * columns)
        return min(row, rows - 1), min(column, columns - 1)

    def _bar_text_width(self) -> int:
        metrics = self.fontMetrics()
        return max(metrics.horizontalAdvance(e) for e in (*self._ends, "0.545")) + 6

    # -- events ------------------------------------------------------------------------------------

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Say what is under the mouse."""
        self.hovered.emit(self.cell_at(event.position()))

    def leaveEvent(self, event: object) -> None:
        """Nothing is under the mouse."""
        self.hovered.emit(None)

    def set_hover(self, cell: tuple[int, int] | None) -> None:
        """Say what is in a cell, whether the mouse is here or over a picture linked to this one."""
        self._hover = cell
        self.update(0, 0, self.width(), _TOP)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Tell of a click on a cell."""
        cell = self.cell_at(event.position())
        if cell is not None and event.button() == Qt.MouseButton.LeftButton:
            self.cell_clicked.emit(*cell)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """The axes no longer fit."""
        self._axes = QPixmap()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Axes from the pixmap, content, mark, caption."""
        painter = QPainter(self)
        if on_paper(painter, self):
            self._paint_axes(painter)
        else:
            if self._axes.isNull():
                self._draw_axes()
            painter.drawPixmap(0, 0, self._axes)
        rect = self.image_rect()
        if self._blank:
            painter.setPen(QColor(self.theme.dim))
            painter.drawText(
                rect, Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, self._blank
            )
        elif event.rect().bottom() > _TOP:
            _draw_cells(painter, rect, self._image)
            if self._strips is not None:
                thick = self._margin - 3
                at = rect.x() - self._margin, rect.y() - self._margin
                beside = QRectF(at[0], rect.y(), thick, rect.height())
                above = QRectF(rect.x(), at[1], rect.width(), thick)
                for place, strip in zip((beside, above), self._strips, strict=True):
                    _draw_cells(painter, place, strip)
            self._draw_grid(painter, rect)
        if self._marked is not None and not self._blank:
            rows, columns = self._indices.shape
            sx, sy = rect.width() / columns, rect.height() / rows
            painter.setPen(QPen(QColor(self.theme.accent), 1.5))
            painter.drawRect(
                QRectF(
                    rect.x() + self._marked.x() * sx, rect.y() + self._marked.y() * sy,
                    self._marked.width() * sx, self._marked.height() * sy,
                )
            )  # fmt: skip
        words = self.caption if self._hover is None else self._describe(*self._hover)
        painter.setPen(QColor(self.theme.dim if self._hover is None else self.theme.text))
        line = QRect(6, 0, self.width() - 12, _TOP)
        elided = painter.fontMetrics().elidedText(words, Qt.TextElideMode.ElideRight, line.width())
        painter.drawText(line, Qt.AlignmentFlag.AlignVCenter, elided)

    def _draw_grid(self, painter: QPainter, rect: QRectF) -> None:
        columns = self._indices.shape[1]
        if self._grid and columns / self._grid * 4 < rect.width():  # or there is nothing but lines
            painter.setPen(QPen(QColor(self.theme.panel), 1))
            for column in range(self._grid, columns, self._grid):
                x = round(rect.x() + column / columns * rect.width()) + 0.5
                painter.drawLine(QPointF(x, rect.top()), QPointF(x, rect.bottom()))

    def _draw_axes(self) -> None:
        ratio = self.devicePixelRatioF()
        self._axes = QPixmap(self.size() * ratio)
        self._axes.setDevicePixelRatio(ratio)
        painter = QPainter(self._axes)
        self._paint_axes(painter)
        painter.end()

    def _paint_axes(self, painter: QPainter) -> None:
        painter.fillRect(self.rect(), QColor(self.theme.panel))
        painter.setFont(self.font())
        rect, metrics = self.image_rect(), painter.fontMetrics()
        rows, columns = self._indices.shape
        painter.setPen(QColor(self.theme.dim))
        x_ticks, y_ticks = self._ticks or (
            _nice(columns, rect.width() / metrics.horizontalAdvance("0000")),
            _nice(rows, rect.height() / metrics.height()),
        )
        x_ticks = _apart(x_ticks, rect.width() / columns, metrics.horizontalAdvance)
        y_ticks = _apart(y_ticks, rect.height() / rows, lambda _: 0.8 * metrics.height())
        for at, words in x_ticks:
            x = rect.x() + at / columns * rect.width()
            painter.drawLine(QPointF(x, rect.bottom() + 1), QPointF(x, rect.bottom() + 4))
            box = QRectF(x - 30, rect.bottom() + 3, 60, metrics.height())
            painter.drawText(box, Qt.AlignmentFlag.AlignHCenter, words)
        for at, words in y_ticks:
            y, left = rect.y() + at / rows * rect.height(), rect.x() - self._margin
            painter.drawLine(QPointF(left - 4, y), QPointF(left - 1, y))
            box = QRectF(0, y - 10, left - 6, 20)
            flags = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            painter.drawText(box, flags, words)
        box = QRectF(rect.x(), rect.bottom() + metrics.height() + 1, rect.width(), metrics.height())
        painter.drawText(box, Qt.AlignmentFlag.AlignHCenter, self._x_label)
        painter.save()
        painter.translate(2, rect.center().y())
        painter.rotate(-90)
        painter.drawText(
            QRectF(-rect.height() / 2, 0, rect.height(), metrics.height()),
            Qt.AlignmentFlag.AlignHCenter, self._y_label,
        )  # fmt: skip
        painter.restore()
        bar = QRectF(rect.right() + _BAR_GAP, rect.y(), _BAR, rect.height())
        _draw_cells(painter, bar, self._bar_image)
        low, high = self._ends
        painter.drawText(QPointF(bar.right() + 4, bar.y() + metrics.ascent()), high)
        painter.drawText(QPointF(bar.right() + 4, bar.bottom()), low)

    def _to_image(self, indices: NDArray[np.uint8]) -> QImage:
        rows, columns = indices.shape
        pixels = np.empty((rows, columns), np.uint32)  # Qt scales these faster than indexed ones
        _look_up(self._table, indices, pixels)
        image = QImage(pixels.data, columns, rows, 4 * columns, QImage.Format.Format_RGB32)
        image.ndarray = pixels  # Qt does not copy the pixels: they must live as long as the image
        return image


@compiled
def _look_up(table, indices, pixels):  # type: ignore[no-untyped-def]
    """The colours of places in a map; NumPy takes nine times as long."""
    for i in range(indices.shape[0]):
        for j in range(indices.shape[1]):
            pixels[i, j] = table[indices[i, j]]


def _nice(n: int, room: float) -> list[tuple[float, str]]:
    """Some five round places among n cells, at their centres; no more than there is room for."""
    most = max(1.0, min(8.0, room))
    step = next(s for s in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096) if n / s <= most)
    return [(i + 0.5, str(i)) for i in range(0, n, step)]


def _apart(
    ticks: list[tuple[float, str]], cell: float, extent: Callable[[str], float]
) -> list[tuple[float, str]]:
    """Every so many of evenly spaced ticks, so that their texts do not touch."""
    if len(ticks) < 2:
        return ticks
    each = (ticks[1][0] - ticks[0][0]) * cell
    widest = max(extent(words) for _, words in ticks) + 4
    return ticks[:: max(1, int(np.ceil(widest / max(each, 0.1))))]


def _draw_cells(painter: QPainter, rect: QRectF, image: QImage) -> None:
    """An image whose pixels are cells; in a figure of vectors each is a rectangle of its own."""
    columns, rows = image.width(), image.height()
    if image.isNull():
        return
    if not in_vectors(painter):
        painter.drawImage(rect, image)
    elif columns * rows > _RECTANGLES:  # so many that a file of them helps nobody
        fine = image.scaled(columns * _FINE, rows * _FINE)
        painter.drawImage(rect, fine)
    else:
        width, height = rect.width() / columns, rect.height() / rows
        for row in range(rows):
            begin = 0
            for column in range(1, columns + 1):
                if column < columns and image.pixel(column, row) == image.pixel(begin, row):
                    continue
                # a little wider than it is: viewers leave hairs of paper between neighbours
                cell = QRectF(
                    rect.x() + begin * width, rect.y() + row * height,
                    (column - begin) * width + (0.2 if column < columns else 0),
                    height + (0.2 if row + 1 < rows else 0),
                )  # fmt: skip
                painter.fillRect(cell, QColor(image.pixel(begin, row)))
                begin = column


def to_indices(values: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint8]:
    """Numbers as places in a colour map: low -> 0, high -> 255, beyond them clipped; NaN -> 0."""
    scaled = (np.asarray(values, np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.fmin(np.fmax(np.rint(scaled), 0), 255).astype(np.uint8)  # fmax of NaN and 0 is 0
