"""The Qt application: one window for a person, or one picture of it for nobody."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from PySide6.QtCore import QMessageLogContext, QSettings, QTimer, QtMsgType, qInstallMessageHandler
from PySide6.QtWidgets import QApplication

from goose_app import messages as m
from goose_app.kept_runs import kept_folder
from goose_app.pictures import save_widget
from goose_app.style import OutlinedStyle
from goose_app.window import Window
from goose_viz.model import DEFAULT_PROMPT

_TIMEOUT = 600_000  # ms until a picture is given up: a first start compiles for half a minute


def make_application() -> QApplication:
    """The one application object, in the style that looks the same everywhere."""
    app = QApplication.instance()
    if not isinstance(app, QApplication):
        app = QApplication(["goose-viz"])
    app.setApplicationName("goose-viz")
    app.setApplicationDisplayName("Goose Viz")
    app.setStyle(OutlinedStyle())
    return app


def open_window(
    load: m.Load, prompt: str, theme: str | None, run: int | None, perspective: str | None
) -> int:
    """Show the window until it is closed; the exit status."""
    app = make_application()
    window = Window(load, prompt, theme, perspective, kept_folder())
    if run is not None:
        window.on_event = _RunOnce(window, run)
    elif load.source is None and prompt == DEFAULT_PROMPT and not window.settings["welcomed"]:
        window.welcome()
    window.show()
    signal.signal(signal.SIGINT, lambda *_: window.close())  # the timer lets Python see Ctrl+C
    return app.exec()


def take_picture(
    load: m.Load,
    prompt: str,
    theme: str | None,
    n_tokens: int,
    path: Path,
    size: tuple[int, int],
    perspective: str | None = None,
) -> int:
    """Write n tokens in a window that nobody sees, save its picture; the exit status."""
    if path.suffix.lower() not in (".png", ".svg"):
        print(f"goose-viz: {path}: a picture's name ends in .png or .svg", file=sys.stderr)
        return 2
    qInstallMessageHandler(_quiet)
    app = make_application()
    with tempfile.TemporaryDirectory() as folder:  # a person's layout has no say in it
        QSettings.setDefaultFormat(QSettings.Format.IniFormat)
        QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, folder)
        window = Window(load, prompt, theme, perspective)
        window.resize(*size)
        status = [2]

        def finish(words: str | None) -> None:
            if words is not None:
                print(f"goose-viz: {words}", file=sys.stderr)
            else:
                try:
                    save_widget(window, path)
                    print(f"the window after {n_tokens} tokens: {path}")
                    status[0] = 0
                except OSError as error:
                    print(f"goose-viz: {error}", file=sys.stderr)
            window.close()
            app.quit()

        run_once = _RunOnce(window, n_tokens)

        def finish_at_rest() -> None:
            """Once the last picture, and what panels ask of it, are on the screen."""
            if window.worker.at_rest:
                QTimer.singleShot(200, lambda: finish(None))
            else:
                QTimer.singleShot(20, finish_at_rest)

        def watch(event: m.Event) -> None:
            run_once(event)
            match event:
                case m.Failed(words):
                    finish(words)
                case m.Running(False):
                    finish_at_rest()

        window.on_event = watch
        QTimer.singleShot(_TIMEOUT, lambda: finish("no picture after ten minutes; giving up"))
        window.show()
        app.exec()
    return status[0]


def _quiet(_kind: QtMsgType, _context: QMessageLogContext, words: str | None) -> None:
    """Qt's messages, but for one that the offscreen platform has for every window."""
    if words and "propagateSizeHints" not in words:
        print(words, file=sys.stderr)


class _RunOnce:
    """Writes so many tokens behind the first prompt, and not again when it is begun anew."""

    def __init__(self, window: Window, n_tokens: int) -> None:
        self._window, self._n_tokens, self._done = window, n_tokens, False

    def __call__(self, event: m.Event) -> None:
        if isinstance(event, m.Began) and not self._done:
            self._done = True
            self._window.worker.send(m.Run(self._n_tokens))
