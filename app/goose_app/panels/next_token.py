"""What the model expects next: a bar a token, a click branches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QContextMenuEvent,
    QCursor,
    QFocusEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
    QStaticText,
)
from PySide6.QtWidgets import QMenu, QPushButton

from goose_app.messages import Comparison, Picture
from goose_app.panels.panel import Panel
from goose_app.selection import Selection

_LABEL, _TITLE, _LOWEST = 110, 22.0, 17.0  # pixels
_CAME = 18  # pixels for what came
_COLUMN, _FIGURE = 168, 56  # the least width of a column; of a probability


class NextTokenPanel(Panel):
    """The likeliest tokens behind the cursor."""

    title = "Next token"
    help = (
        "What the model expects next, before sampling. Click a token to go on with it "
        "instead; the old branch stays. Where text follows, the token that came is marked, with "
        "its rank among all. After an edit of the memory: before and after; the mark "
        "in a bar is the other column's. Right-click a token to ask why it is expected."
    )
    phase = (4, 5)
    branch = Signal(int)  # a token
    chosen = Signal(int)  # a row, by keys: each of them counts
    why_wanted = Signal(int)  # of a token
    pinned = Signal(int)  # a token
    truth_wanted = Signal()
    KEYS = frozenset(
        (Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Menu)
    )

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setMinimumSize(160, 120)
        self._hover = -1
        self._digits = [QStaticText(str(row + 1)) for row in range(9)]
        self._short: dict[tuple[str, int], str] = {}
        self.marks: dict[int, float] = {}  # what another run expects of them
        self.truth = QPushButton("beside a true run", self)
        self.truth.setToolTip("Read the other text from its first other word on, and compare")
        self.truth.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.truth.hide()
        self.truth.clicked.connect(self.truth_wanted)

    def show_picture(self, picture: Picture) -> None:
        """New bars."""
        compared = picture.comparison
        self.setMinimumWidth(_COLUMN * self._columns())  # with less room it scrolls
        self.truth.setVisible(compared is not None and compared.askable)
        self.update()

    def numbers(self) -> dict[str, NDArray[Any]]:
        """Ids, words and probabilities."""
        rows = self.picture.next_tokens if self.picture is not None else []
        if not rows:
            return {}
        ids, words, chances = zip(*rows, strict=True)
        return {"id": np.array(ids), "word": np.array(words, object),
                "probability": np.array(chances)}  # fmt: skip

    def python(self) -> str | None:
        """The likeliest tokens."""
        return "print(session.next_tokens(12))\n"

    def row_rect(self, row: int, column: int | None = None) -> QRectF:
        """Where a bar lies; what is expected now is in the second column, or the only one."""
        compared = self.comparison
        columns = self._columns()
        top = 0.0 if compared is None else _TITLE
        column = min(1, columns - 1) if column is None else column
        height, width = self._row_height(top), (self.width() - 12) / columns
        return QRectF(6 + column * width, 6 + top + row * height, width, height)

    def _columns(self) -> int:
        """What is expected; before and after an edit; and in a true run."""
        compared = self.comparison
        return 1 if compared is None else 2 if compared.truth is None else 3

    @staticmethod
    def _name_width(rect: QRectF) -> int:
        """Pixels for the names in a row, with their margin."""
        return int(min(_LABEL, 0.5 * rect.width()))

    def _row_height(self, top: float) -> float:
        """Rows share the height, but none is too low to be read: then the last are not seen."""
        return min(28.0, max(_LOWEST, (self.height() - 12 - top - _CAME) / 12))

    def paintEvent(self, event: QPaintEvent) -> None:
        """Labels, bars, probabilities; behind an edit, those before it beside them."""
        painter = QPainter(self)
        painter.fillRect(event.rect(), QColor(self.theme.panel))
        tokens = self.picture.next_tokens if self.picture is not None else []
        if not tokens:
            painter.setPen(QColor(self.theme.dim))
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "nothing fed yet")
            return
        compared = self.comparison
        if compared is None:
            self._draw_rows(painter, tokens, 0, self.marks, self._hover)
            self._draw_came(painter)
            return
        painter.setPen(QColor(self.theme.dim))
        titles = ["before", compared.words]
        if compared.truth is not None:
            titles.append("a true run of that text")
        for column, words in enumerate(titles):
            box = self.row_rect(0, column).translated(0, -_TITLE)
            box.setHeight(_TITLE)
            short = painter.fontMetrics().elidedText(
                words, Qt.TextElideMode.ElideRight, int(box.width()) - 8
            )
            painter.drawText(box, Qt.AlignmentFlag.AlignVCenter, short)
        self._draw_rows(painter, compared.before, 0, compared.are, -1)
        self._draw_rows(painter, tokens, 1, compared.were, self._hover)
        if compared.truth is not None:
            self._draw_rows(painter, compared.truth, 2, compared.are, -1)
        self._draw_came(painter)

    def _draw_came(self, painter: QPainter) -> None:
        """The token that follows in the text, with its rank among all."""
        came = self.picture.came if self.picture is not None else None
        if came is None:
            return
        box = QRectF(8, self.height() - _CAME, self.width() - 16, _CAME)
        words = f"then came “{visible(came.label)}”: {percent(came.probability)}, rank {came.rank}"
        painter.setPen(QColor(self.theme.accent))
        short = painter.fontMetrics().elidedText(
            words, Qt.TextElideMode.ElideRight, int(box.width())
        )
        painter.drawText(box, Qt.AlignmentFlag.AlignVCenter, short)

    @property
    def comparison(self) -> Comparison | None:
        """What was expected before the edit behind which the cursor stands."""
        return self.picture.comparison if self.picture is not None else None

    def _draw_rows(
        self,
        painter: QPainter,
        tokens: list[tuple[int, str, float]],
        column: int,
        others: dict[int, float],
        hover: int,
    ) -> None:
        """A column of bars; a mark in each where it is in the other column."""
        current = tokens is (self.picture.next_tokens if self.picture is not None else None)
        came = self.picture.came if self.picture is not None else None
        right, centre = Qt.AlignmentFlag.AlignRight, Qt.AlignmentFlag.AlignVCenter
        for row, (token, label, p) in enumerate(tokens):
            rect = self.row_rect(row, column)
            if rect.bottom() > self.height() - (_CAME if came is not None else 0):
                break
            if row == hover:
                painter.fillRect(rect, QColor(self.theme.line))
            if current and came is not None and token == came.token:
                painter.fillRect(QRectF(rect.x() - 5, rect.y() + 2, 3, rect.height() - 4),
                                 QColor(self.theme.accent))  # fmt: skip
            if row < 9 and current:
                painter.setPen(QColor(self.theme.text if row == hover else self.theme.dim))
                at = QPointF(rect.x() + 2, rect.center().y() - 0.5 * self.fontMetrics().height())
                painter.drawStaticText(at, self._digits[row])
            painter.setPen(QColor(self.theme.text))
            names = self._name_width(rect)
            box = QRectF(rect.x(), rect.y(), names - 8, rect.height())
            painter.drawText(box, right | centre, self._shortened(label, names))
            room = rect.width() - names - _FIGURE
            bar = QRectF(
                rect.x() + names,
                rect.y() + 3,
                max(1.0, p * room if p == p else 0.0),
                rect.height() - 6,
            )
            painter.fillRect(bar, QColor(self.theme.diverging[1]))
            mark = bar.x()
            if token in others:
                mark = bar.x() + _known(others[token]) * room
                painter.fillRect(
                    QRectF(mark, bar.y() - 1, 2, bar.height() + 2), QColor(self.theme.accent)
                )
            painter.setPen(QColor(self.theme.text if row == hover else self.theme.dim))
            beside = max(bar.right(), mark + 2)
            painter.drawText(
                QRectF(beside + 6, rect.y(), _FIGURE, rect.height()), centre, percent(p)
            )

    def _shortened(self, label: str, width: int) -> str:
        """A label that fits its column; the same few come again and again."""
        words = self._short.get((label, width))
        if words is None:
            if len(self._short) > 10_000:
                self._short.clear()
            words = self._short[label, width] = self.fontMetrics().elidedText(
                visible(label), Qt.TextElideMode.ElideRight, width - 22
            )
        return words

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Show that rows can be clicked."""
        row = self._row_at(event.position())
        if row != self._hover:
            self._hover = row
            self.update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Up and down choose a row, Return goes on with it."""
        n = len(self.picture.next_tokens) if self.picture is not None else 0
        step = {Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1}.get(Qt.Key(event.key()))
        if step is not None and n:
            self._hover = min(max(self._hover + step, 0), n - 1)
            self.update()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and 0 <= self._hover < n:
            self.chosen.emit(self._hover)
        else:
            super().keyPressEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        """Begin with the likeliest."""
        if event.reason() != Qt.FocusReason.MouseFocusReason:
            self._hover = max(self._hover, 0)
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """No row is chosen."""
        self._hover = -1
        self.update()

    def leaveEvent(self, event: object) -> None:
        """No row is under the mouse."""
        self._hover = -1
        self.update()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Branch with the token of the row."""
        token = self._token_at(event.position())
        if token is not None and event.button() == Qt.MouseButton.LeftButton:
            self.branch.emit(token)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """What can be asked of the token under the mouse."""
        at, where = QPointF(event.pos()), event.globalPos()
        if event.reason() == QContextMenuEvent.Reason.Keyboard and self._hover >= 0:
            at = self.row_rect(self._hover).center()
            where = self.mapToGlobal(at.toPoint())
        token = self._token_at(at)
        if token is not None:
            self.menu(token).popup(where)

    def menu(self, token: int) -> QMenu:
        """What can be asked of a token."""
        menu = QMenu(self)
        menu.addAction("Why this word", lambda: self.why_wanted.emit(token))
        menu.addAction("Go on with it", lambda: self.branch.emit(token))
        menu.addAction("Pin this word", lambda: self.pinned.emit(token))
        return menu

    def hovered_token(self) -> int | None:
        """The token under the mouse; None if there is none."""
        at = self.mapFromGlobal(QCursor.pos())
        return self._token_at(QPointF(at)) if self.isVisible() else None

    def resizeEvent(self, event: QResizeEvent) -> None:
        """The button stays in its corner."""
        size = self.truth.sizeHint()
        self.truth.setGeometry(
            self.width() - size.width() - 6, self.height() - size.height() - 4, size.width(),
            size.height(),
        )  # fmt: skip

    def _row_at(self, at: QPointF) -> int:
        n = len(self.picture.next_tokens) if self.picture is not None else 0
        return next((r for r in range(n) if self.row_rect(r).contains(at)), -1)

    def _token_at(self, at: QPointF) -> int | None:
        row = self._row_at(at)
        return None if row < 0 or self.picture is None else self.picture.next_tokens[row][0]


def _known(p: float) -> float:
    """A probability that can be drawn: a memory that broke has none."""
    return p if p == p else 0.0


def percent(p: float) -> str:
    """A probability; what is there is never nothing."""
    if p != p:
        return "?"  # of a memory that broke
    return "<0.1 %" if 0 < p < 0.0005 else f"{100 * p:.1f} %"


def visible(label: str) -> str:
    """A token's text with its blanks made visible."""
    return label.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣")
