"""Qt's Fusion style with outlines of controls that can be seen, whatever the theme."""

from __future__ import annotations

from PySide6.QtCore import QRect, QRectF
from PySide6.QtGui import QPainter, QPalette, QPen
from PySide6.QtWidgets import (
    QAbstractSlider,
    QPlainTextEdit,
    QProxyStyle,
    QStyle,
    QStyleOption,
    QStyleOptionComplex,
    QWidget,
)

_Primitive, _Complex = QStyle.PrimitiveElement, QStyle.ComplexControl
_ROUND = 2.0  # pixels


class OutlinedStyle(QProxyStyle):
    """Fusion derives outlines from the ground by darkening it, and on a dark one nobody sees them.

    They are drawn once more, in the palette's ``Mid``; what has the keys is outlined in its accent.
    """

    def __init__(self) -> None:
        super().__init__("Fusion")

    def drawPrimitive(
        self,
        element: QStyle.PrimitiveElement,
        option: QStyleOption,
        painter: QPainter,
        widget: QWidget | None = None,
    ) -> None:
        """Buttons, boxes to tick, and fields for text."""
        super().drawPrimitive(element, option, painter, widget)
        text = element == _Primitive.PE_Frame and isinstance(widget, QPlainTextEdit)
        if text or element in (
            _Primitive.PE_IndicatorCheckBox, _Primitive.PE_PanelButtonCommand,
            _Primitive.PE_PanelButtonTool, _Primitive.PE_FrameLineEdit,
        ):  # fmt: skip
            _outline(option, painter)
        elif element == _Primitive.PE_IndicatorRadioButton:
            _outline(option, painter, round_=True)

    def drawComplexControl(
        self,
        control: QStyle.ComplexControl,
        option: QStyleOptionComplex,
        painter: QPainter,
        widget: QWidget | None = None,
    ) -> None:
        """Lists to choose from, and numbers; scroll bars are flat."""
        if control == _Complex.CC_ScrollBar:
            self._draw_scroll_bar(option, painter, widget)
            return
        super().drawComplexControl(control, option, painter, widget)
        if control in (_Complex.CC_ComboBox, _Complex.CC_SpinBox):
            _outline(option, painter)
        elif control == _Complex.CC_Slider:
            handle = QStyle.SubControl.SC_SliderHandle
            _outline(option, painter, at=self.subControlRect(control, option, handle, widget))

    def _draw_scroll_bar(
        self, option: QStyleOptionComplex, painter: QPainter, widget: QWidget | None
    ) -> None:
        """Two rectangles: Fusion's gradients cost as much as a page of text."""
        palette = option.palette
        painter.fillRect(option.rect, palette.color(QPalette.ColorRole.Window))
        handle = self.subControlRect(
            _Complex.CC_ScrollBar, option, QStyle.SubControl.SC_ScrollBarSlider, widget
        )
        if not isinstance(widget, QAbstractSlider) or widget.maximum() > widget.minimum():
            painter.fillRect(
                handle.adjusted(3, 1, -3, -1) if handle.height() > handle.width()
                else handle.adjusted(1, 3, -1, -3),
                palette.color(QPalette.ColorRole.Mid),
            )  # fmt: skip


def _outline(
    option: QStyleOption, painter: QPainter, round_: bool = False, at: QRect | None = None
) -> None:
    focused = bool(option.state & QStyle.StateFlag.State_HasFocus)
    role = QPalette.ColorRole.Highlight if focused else QPalette.ColorRole.Mid
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    width = 1.4 if round_ else 1  # a curve is smoothed, and pale for that
    painter.setPen(QPen(option.palette.color(role), width))
    rect = option.rect if at is None else at
    inside = QRectF(rect).adjusted(0.5, 0.5, -0.5, -0.5)
    radius = inside.width() / 2 if round_ else _ROUND
    painter.drawRoundedRect(inside, radius, radius)
    painter.restore()
