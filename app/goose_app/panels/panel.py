"""What a dock's content answers to."""

from __future__ import annotations

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QWidget

from goose_app.explain import Explanation
from goose_app.messages import Picture
from goose_app.run_view import RunView, Viewed
from goose_app.selection import Selection
from goose_app.series import Series
from goose_app.theme import DARK, Theme

_LAG = 40  # ms between two panels that show parts of an explanation, when the model stands


class Panel(QWidget):
    """A view of a run.

    Attributes
    ----------
    title : str
        The dock's title; also what its files are called.
    help : str
        One sentence for who sees it for the first time.
    recorded : frozenset of str
        The observables of which it shows every token's.
    shown : frozenset of str
        Those of which it shows the cursor's, while somebody sees it.
    asks, asks_edit : bool
        Whether it shows why the next word, or what the last one did to the selected head.
    phase : (int, int)
        While the model writes, it shows the k-th of every n pictures: what is expensive to paint
        takes turns, and repaints come the more often for that.
    run : Viewed
        The run that it shows.
    """

    title = ""
    help = ""
    recorded: frozenset[str] = frozenset()
    shown: frozenset[str] = frozenset()
    asks = asks_edit = False
    phase = (0, 1)
    seen = Signal()  # somebody sees it now, or nobody any more

    def __init__(self, selection: Selection) -> None:
        super().__init__()
        self.selection = selection
        self.theme: Theme = DARK
        self.run: Viewed = RunView()
        self.picture: Picture | None = None
        self._its_turn = False
        self._wait = QTimer(self)
        self._wait.setSingleShot(True)
        self._wait.timeout.connect(self._catch_up)
        self._painted: Explanation | None = None
        self.setObjectName(self.title)
        selection.listen(self._selection_changed)

    @property
    def series(self) -> Series | None:
        """The figures of all tokens."""
        return self.run.series

    def set_theme(self, theme: Theme) -> None:
        """Take over a theme."""
        self.theme = theme

    def set_run(self, run: Viewed) -> None:
        """Another run, or another model in it: what is known of the last no longer holds."""
        self.run, self.picture, self._painted = run, None, None

    def series_changed(self) -> None:
        """Another branch's figures are to be shown."""

    def text_changed(self, start: int) -> None:
        """The tokens from an index on are others."""

    def set_picture(self, picture: Picture) -> None:
        """The cursor moved; a panel that nobody sees waits until it is seen."""
        self.picture = picture
        place, n = self.phase
        if self.isVisible() and (picture.rate == 0 or picture.number % n == place):
            self.show_picture(picture)

    def due(self, picture: Picture) -> bool:
        """Whether a new explanation is to be painted now."""
        new = picture.why is not self._painted
        if picture.rate > 0:
            if not new:
                return False
        elif new and self.phase[0] and not self._its_turn:
            self._wait.start(_LAG * self.phase[0])
            return False
        self._its_turn, self._painted = False, picture.why
        return True

    def _catch_up(self) -> None:
        self._its_turn = True
        self.refresh()

    def show_picture(self, picture: Picture) -> None:
        """Bring the picture to the screen."""

    def python(self) -> str | None:
        """The lines that give what it shows, behind those that open the run; None for nothing."""
        return None

    def refresh(self) -> None:
        """Show the last picture again: it was hidden, or the selection changed."""
        if self.picture is not None and self.isVisible():
            self.show_picture(self.picture)

    def showEvent(self, event: object) -> None:
        """Catch up with what was missed while hidden."""
        self.seen.emit()
        self.refresh()

    def hideEvent(self, event: object) -> None:
        """Nobody looks."""
        self.seen.emit()

    def _selection_changed(self) -> None:
        self.refresh()
