"""The window on a session that a notebook or a script has."""

from __future__ import annotations

from PySide6.QtCore import QEventLoop, QTimer

import goose_viz as gv
from goose_app import messages as m
from goose_app.application import make_application
from goose_app.window import Window

_LOOK = 100  # ms between looks whether the session was used elsewhere


class Viewer:
    """A window on a live session; both may go on with it, in turns.

    Attributes
    ----------
    session : Session
    window : Window
    """

    def __init__(self, session: gv.Session, perspective: str | None, theme: str | None) -> None:
        self._app = make_application()
        self.session = session
        self._probe = session.probe
        self.window = Window(m.Adopt(session), session.text, theme, perspective)
        self.window.closed.connect(self._give_back)
        self._timer = QTimer(self.window)
        self._timer.timeout.connect(self._look)
        self._timer.start(_LOOK)
        self.window.show()

    def __repr__(self) -> str:
        """Whether it is open."""
        return f"<Viewer of {self.session!r}{'' if self.open else ', closed'}>"

    @property
    def open(self) -> bool:
        """Whether the window is."""
        return self._timer.isActive()

    def close(self) -> None:
        """Close the window; the session stays as it is."""
        if self.open:
            self.window.close()

    def wait(self) -> None:
        """Serve the window until it is closed: in a script, which has nothing else to do."""
        if self.open:
            loop = QEventLoop()
            self.window.closed.connect(loop.quit)
            loop.exec()

    def _look(self) -> None:
        place = self.session.segment, self.session.position
        if self.window.worker.at_rest and self.window.worker.place() not in (None, place):
            self.window.worker.send(m.Look())

    def _give_back(self) -> None:
        """The session observes again what it did before."""
        self._timer.stop()
        self.session.probe = self._probe


def show(
    session: gv.Session, *, perspective: str | None = None, theme: str | None = None
) -> Viewer:
    """Open the window on a session and come back at once.

    In IPython and Jupyter the window lives beside the prompt (``%gui qt`` is done here); in a
    script, `Viewer.wait` serves it.  What the one does with the session, the other shows.

    Parameters
    ----------
    session : Session
    perspective : str, optional
        ``"watch"``, ``"why"``, ``"state"``, ``"compare"`` or ``"study"``.
    theme : str, optional
        ``"dark"``, ``"light"`` or ``"system"``.

    Raises
    ------
    GooseError
        If no window can open here.
    """
    from goose_app.display import missing_library, why_no_screen

    if reason := why_no_screen() or missing_library():
        raise gv.GooseError(f"no window can open here: {reason}")
    _beside_the_prompt()
    return Viewer(session, perspective, theme)


def _beside_the_prompt() -> None:
    """Have IPython, if that is where we are, serve Qt's events while it waits for a line."""
    try:
        from IPython import get_ipython  # what runs us, not what we need
    except ImportError:
        return
    shell = get_ipython()
    if shell is not None:
        shell.enable_gui("qt")
