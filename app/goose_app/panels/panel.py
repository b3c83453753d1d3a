"""What a dock's content answers to."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from goose_app.messages import Picture
from goose_app.selection import Selection
from goose_app.series import Series
from goose_app.theme import DARK, Theme
from goose_viz import Model


class Panel(QWidget):
    """A view of the run.

    Attributes
    ----------
    title : str
        The dock's title; also what its files are called.
    help : str
        One sentence for who sees it for the first time.
    """

    title = ""
    help = ""

    def __init__(self, selection: Selection) -> None:
        super().__init__()
        self.selection = selection
        self.theme: Theme = DARK
        self.picture: Picture | None = None
        self.series: Series | None = None
        self.setObjectName(self.title)
        selection.listen(self._selection_changed)

    def set_theme(self, theme: Theme) -> None:
        """Take over a theme."""
        self.theme = theme

    def set_model(self, model: Model) -> None:
        """Another model was loaded: what is known of the last one no longer holds."""
        self.picture = self.series = None

    def set_series(self, series: Series) -> None:
        """A run began; its figures will be here."""
        self.series = series

    def set_picture(self, picture: Picture) -> None:
        """The cursor moved; a panel that nobody sees waits until it is seen."""
        self.picture = picture
        if self.isVisible():
            self.show_picture(picture)

    def show_picture(self, picture: Picture) -> None:
        """Bring the picture to the screen."""

    def refresh(self) -> None:
        """Show the last picture again: it was hidden, or the selection changed."""
        if self.picture is not None and self.isVisible():
            self.show_picture(self.picture)

    def showEvent(self, event: object) -> None:
        """Catch up with what was missed while hidden."""
        self.refresh()

    def _selection_changed(self) -> None:
        self.refresh()
