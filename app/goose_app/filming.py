"""Walk over tokens and take a picture at each: an animation of a panel or of the window."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QObject, Qt, QTimer
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QProgressDialog, QWidget

from goose_app import messages as m
from goose_app.film import MOST_OF_A_GIF, Add, Pixels, film
from goose_app.pictures import painted
from goose_viz.faults import report_fault

if TYPE_CHECKING:
    from goose_app.window import Window

_LOOK = 5  # ms between looks whether the next picture is on the screen
_SHARP = 1920  # pixels up to which a picture has two for each of the screen's


@dataclass(frozen=True)
class Plan:
    """Which tokens, and how fast.

    Attributes
    ----------
    first, last : int
        Tokens up to the cursor at the first picture, and at most at the last.
    every : int
        Tokens from a picture to the next.
    rate : int
        Pictures a second.
    light : bool
        Whether in the light colours, whatever the window has.
    """

    first: int
    last: int
    every: int = 1
    rate: int = 10
    light: bool = False

    @property
    def places(self) -> range:
        """Where the cursor is at each picture."""
        return range(self.first, self.last + 1, self.every)


class Filming(QObject):
    """An animation in the making, with a box over the window that says how far it is.

    Parameters
    ----------
    window : Window
        Its cursor goes over the tokens, and is put back.
    content : QWidget
        What is painted.
    plan : Plan
    path : Path

    Raises
    ------
    ValueError, OSError
        If that cannot be written, in words.
    """

    def __init__(self, window: Window, content: QWidget, plan: Plan, path: Path) -> None:
        super().__init__(window)
        self._window, self._content = window, content
        self._places, self._path = plan.places, path
        self._taken = 0
        self._back_to = window.picture.position
        self._size = content.size()
        gif = path.suffix.lower() == ".gif"
        self._scale = 2 if not gif and 2 * self._size.width() <= _SHARP else 1
        pixels = self._size.width() * self._size.height() * len(self._places)
        if gif and pixels > MOST_OF_A_GIF:
            raise ValueError(
                f"{len(self._places)} pictures of {self._size.width()} × {self._size.height()} are "
                f"too much for a GIF: take fewer tokens, a smaller panel, or .mp4"
            )
        self._open = ExitStack()
        self._add: Add = self._open.enter_context(film(path, plan.rate))
        self._open.enter_context(window.in_light(plan.light))
        self._box = QProgressDialog("", "Cancel", 0, len(self._places), window)
        self._box.setWindowModality(Qt.WindowModality.WindowModal)
        self._box.setWindowTitle("Save animation")
        self._box.setMinimumDuration(0)
        self._box.setAutoClose(False)
        self._box.canceled.connect(self.cancel)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._look)
        window.worker.send(m.Pause())
        self._timer.start(_LOOK)
        self._go_on()

    def cancel(self) -> None:
        """Leave nothing of it."""
        self._end(cancelled=True)

    def _go_on(self) -> None:
        place = self._places[self._taken]
        self._window.worker.send(m.Goto(place))
        self._box.setLabelText(f"{self._path.name}: token {place:,} of {self._places[-1]:,}")
        self._box.setValue(self._taken)  # serves what waits: a click on Cancel, too

    def _look(self) -> None:
        if not self._window.at_rest:
            return
        if self._window.picture.position != self._places[self._taken]:
            self._end(f"the run did not reach token {self._places[self._taken]:,}; "
                      f"{self._path.name} was not saved")  # fmt: skip
            return
        try:
            self._add(_pixels(painted(self._content, self._size, self._scale)))
        except Exception as error:  # a codec's, or no memory
            self._end(_words(error))
            return
        self._taken += 1
        if self._taken < len(self._places):
            self._go_on()
        else:
            self._end()

    def _end(self, trouble: str = "", cancelled: bool = False) -> None:
        """Finish the file, or leave none; put everything back."""
        if not self._timer.isActive():
            return
        self._timer.stop()
        try:
            if trouble or cancelled:
                self._open.__exit__(_Given, _Given(), None)
            else:
                self._open.close()
        except _Given:
            pass
        except Exception as error:  # a GIF is made only here
            trouble = _words(error)
        window = self._window
        self._box.close()
        self._box.deleteLater()
        window.worker.send(m.Goto(self._back_to))
        if trouble:
            window.message_bar.say(trouble)
        elif cancelled:
            window.say("cancelled")
        else:
            window.message_bar.worked()
            window.say(f"saved {self._path}")
        window.filming = None
        self.deleteLater()


class _Given(Exception):
    """Given up: nothing is to be left of it."""


def _words(error: Exception) -> str:
    """What went wrong, for a person."""
    if isinstance(error, MemoryError):
        return "there is not enough free memory for that animation: take fewer tokens, or .mp4"
    known = isinstance(error, OSError | ValueError) or type(error).__module__.startswith("av")
    return str(error) if known else report_fault(error)


def _pixels(image: QImage) -> Pixels:
    """Its bytes, without what Qt adds to a row."""
    h, w, step = image.height(), image.width(), image.bytesPerLine()
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(h, step)
    return rows[:, : 3 * w].reshape(h, w, 3).copy()
