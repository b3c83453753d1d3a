"""What a person can do with files: open, drop, export, save pictures."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from PySide6.QtCore import QMimeData
from PySide6.QtGui import QAction, QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import (
    QDialog,
    QDockWidget,
    QFileDialog,
    QInputDialog,
    QMainWindow,
    QMenu,
    QWidget,
)

from goose_app import messages as m
from goose_app.film_dialog import FilmDialog
from goose_app.filming import Filming
from goose_app.kept_runs import kept_runs
from goose_app.message_bar import MessageBar
from goose_app.numbers import save_numbers
from goose_app.panels.panel import Panel
from goose_app.pictures import PRINT, save_widget
from goose_app.plain import Label, item
from goose_app.run_view import RunView
from goose_app.saving import FILMS, NUMBERS, PICTURES, SESSIONS, SNAPSHOTS, TRACES, ask_where
from goose_app.settings import Settings
from goose_app.worker import Worker
from goose_viz import embedded_models
from goose_viz.session_file import is_session
from goose_viz.snapshot import is_snapshot
from goose_viz.state_files import KEY_VALUE, STATE_LAYOUTS, VALUE_KEY

_SMALL = 1 << 20  # bytes of a memory that is recorded behind every token


class FileCommands(QMainWindow):
    """A part of the window: a method for each row of `ACTIONS` that is about files."""

    settings: Settings
    worker: Worker
    message_bar: MessageBar
    recent_menu: QMenu
    picture: m.Picture
    _requested_source: str | None
    _recorded: bool
    run: RunView
    actions_by_name: dict[str, QAction]
    recorded_in: Label
    _fresh: bool
    docks: dict[str, QDockWidget]
    filming: Filming | None

    def say(self, words: str) -> None:
        """A sentence in the status bar, for a while."""
        self.statusBar().showMessage(words, 8000)

    def open_model(self, source: str | None) -> None:
        """Load another model; the one that is open stays until that has worked."""
        self._requested_source = source
        self.message_bar.hide()
        self.worker.send(m.Load(source))

    def open_path(self, path: str) -> None:
        """Open a model, or go on from a snapshot: what the file is decides."""
        if is_session(path):
            self._reopen(path)
        elif is_snapshot(path):
            self._resume(path)
        else:
            self.open_model(path)

    def open_file(self) -> None:
        """Ask for a model file."""
        path, _ = QFileDialog.getOpenFileName(
            self,
            "Open model",
            self.settings["folder"],
            "RWKV-7 models (*.pth *.pt *.safetensors *.st *.gguf)",
        )
        if path:
            self.open_path(path)

    def open_folder(self) -> None:
        """Ask for a model folder."""
        path = QFileDialog.getExistingDirectory(self, "Open folder", self.settings["folder"])
        if path:
            self.open_model(path)

    def open_embedded(self) -> None:
        """Open the model that ships inside."""
        self.open_model(None)

    def open_snapshot(self) -> None:
        """Ask for a snapshot and go on from it."""
        path, _ = QFileDialog.getOpenFileName(
            self, "Resume snapshot", self.settings["folder"], "Snapshots (*.safetensors *.npz)"
        )
        if path:
            self._resume(path)

    def open_session(self) -> None:
        """Ask for a session and go on with it."""
        path, _ = QFileDialog.getOpenFileName(
            self, "Open session", self.settings["folder"], "Sessions (*.goose)"
        )
        if path:
            self._reopen(path)

    def open_kept(self) -> None:
        """Ask for a run that nobody saved, and go on with it."""
        folder = self.worker.keep_in
        runs = {} if folder is None else {run.words: run.path for run in kept_runs(folder)}
        if not runs:
            self.message_bar.say("no earlier run is kept yet; one is as soon as a model writes")
            return
        words, taken = QInputDialog.getItem(
            self, "Open an earlier run", f"They lie in {folder}", list(runs), 0, False
        )
        if taken:
            self._reopen(str(runs[words]))

    def _reopen(self, path: str) -> None:
        self._fresh = False
        self.message_bar.hide()
        self.worker.send(m.Reopen(Path(path)))

    def save_session(self) -> None:
        """Ask where to, and save all of it."""
        path = ask_where(self, "Save session", self._in_folder("session.goose"), SESSIONS)
        if path is not None:
            self.worker.send(m.SaveSession(path, self.beside()))

    def beside(self) -> dict[str, Any]:
        """What belongs to a session and is the window's."""
        raise NotImplementedError

    def _resume(self, path: str) -> None:
        self._fresh = False  # what it was about goes on
        self.worker.send(m.Resume(Path(path)))

    def export_snapshot(self) -> None:
        """Ask where to, and save the moment at the cursor."""
        name = self._in_folder(f"token-{self.picture.position}.safetensors")
        path = ask_where(self, "Export snapshot", name, SNAPSHOTS)
        if path is not None:
            self.worker.send(m.Export(path))

    def record(self, on: bool) -> None:
        """Ask where to, and record the run from its beginning on; or end that."""
        if not on:
            if self._recorded:
                self.worker.send(m.Record(None))
            return
        path = ask_where(self, "Record the run", self._in_folder("run.zarr"), TRACES)
        if path is None:
            self.show_recording(None)
        else:
            self.worker.send(m.Record(path, state=self._small_state()))

    def show_recording(self, path: Path | None) -> None:
        """Say that the run is being recorded, or not any more."""
        self._recorded = path is not None
        action = self.actions_by_name["record"]
        action.blockSignals(True)
        action.setChecked(self._recorded)
        action.blockSignals(False)
        action.setText("End the recording" if path is not None else "Record…")
        self.recorded_in.setText("" if path is None else f"● {path.name}")

    def _small_state(self) -> bool:
        """Whether the memory takes so little room that it is recorded as well."""
        model = self.run.model
        return model is not None and model.state_bytes <= _SMALL

    def open_recording(self) -> None:
        """Ask for a recorded run."""
        path = QFileDialog.getExistingDirectory(
            self, "Open recording (a folder, NAME.zarr)", self.settings["folder"]
        )
        if path:
            self.open_path(path)

    def begin_with(self) -> None:
        """Ask for a memory, and how its file has it."""
        path, _ = QFileDialog.getOpenFileName(
            self, "Begin with a memory", self.settings["folder"],
            "States (*.safetensors *.npz *.npy *.pth *.pt *.st *.bin);;All files (*)",
        )  # fmt: skip
        if not path:
            return
        ways = {"as its names tell": ("auto", "auto")}
        for layout in STATE_LAYOUTS.values():
            for way in (VALUE_KEY, KEY_VALUE) if layout.name != "goose-viz" else ():
                ways[f"{layout.name}, a head's matrix {way}: {layout.about}"] = layout.name, way
        said, taken = QInputDialog.getItem(
            self, "Begin with a memory", f"How {Path(path).name} has it", list(ways), 0, False
        )
        if taken:
            self._begin_texts(m.BeginWith(Path(path), False, *ways[said]))

    def begin_after(self) -> None:
        """Ask for a text to read first."""
        path, _ = QFileDialog.getOpenFileName(
            self,
            "Begin behind a text",
            self.settings["folder"],
            "Texts (*.txt *.md);;All files (*)",
        )
        if path:
            self._begin_texts(m.BeginWith(Path(path), True))

    def begin_empty(self) -> None:
        """Begin texts with an empty memory again."""
        self._begin_texts(m.BeginWith(None))

    def _begin_texts(self, command: m.BeginWith) -> None:
        self._fresh = False
        self.message_bar.hide()
        self.worker.send(command)

    def save_picture(self) -> None:
        """Ask where to, and save the window as a figure."""
        self._save_widget(self, "goose-viz")

    def _save_panel(self, panel: Panel) -> None:
        self._save_widget(panel, panel.title.lower())

    def _save_widget(self, widget: QWidget, name: str) -> None:
        start = self._in_folder(f"{name.replace(' ', '-')}.pdf")
        path = ask_where(self, "Save figure", start, PICTURES)
        if path is None:
            return
        try:
            with self.in_light(self.settings["white figures"]):
                save_widget(widget, path, PRINT)
        except (OSError, ValueError) as error:
            self.message_bar.say(str(error))
        else:
            self.message_bar.worked()
            self.say(f"saved {path}")

    def save_animation(self) -> None:
        """Ask of which tokens and where to, and save the window at each."""
        self._save_film(self, "goose-viz", "the window")

    def _film(self, panel: Panel) -> None:
        """The same of a panel, which is shown for it; another run's goes along with this one's."""
        dock = self.docks[panel.title]
        dock.show()
        dock.raise_()
        self._save_film(panel, panel.title.lower(), panel.title)

    def _save_film(self, widget: QWidget, name: str, title: str) -> None:
        if not self.picture.recorded:
            self.message_bar.say("there is no text yet; begin one with a prompt")
            return
        dialog = FilmDialog(self, title, self.picture.recorded)
        accepted = dialog.exec() == QDialog.DialogCode.Accepted
        plan = dialog.plan
        dialog.deleteLater()
        if not accepted:
            return
        start = self._in_folder(f"{name.replace(' ', '-')}.mp4")
        path = ask_where(self, "Save animation", start, FILMS)
        if path is None:
            return
        try:
            self.filming = Filming(self, widget, plan, path)
        except (OSError, ValueError) as error:
            self.message_bar.say(str(error))

    def white_figures(self, on: bool) -> None:
        """Save figures in the light colours, whatever the window has."""
        self.settings["white figures"] = on

    def in_light(self, wanted: bool) -> AbstractContextManager[None]:
        """The light colours for as long as something takes, if wanted."""
        raise NotImplementedError

    def _save_numbers(self, panel: Panel) -> None:
        """Ask where to, and save what a panel shows as numbers."""
        start = self._in_folder(f"{panel.title.lower().replace(' ', '-')}.csv")
        path = ask_where(self, "Save numbers", start, NUMBERS)
        if path is None:
            return
        try:
            save_numbers(panel.numbers(), path)
        except (OSError, ValueError) as error:
            self.message_bar.say(str(error))
        else:
            self.message_bar.worked()
            self.say(f"saved {path}")

    def _in_folder(self, name: str) -> str:
        """A name in the folder that was last used."""
        return str(Path(self.settings["folder"]) / name)

    def _remember(self, source: Path) -> None:
        inside = self._requested_source in (None, *embedded_models())
        if not inside:
            # not where a link leads: config and tokenizer lie beside the link
            self.settings.remember_model(str(source.absolute()))
            self.settings["folder"] = str(source.absolute().parent)

    def _fill_recent(self) -> None:
        self.recent_menu.clear()
        for path in self.settings["recent"]:
            self.recent_menu.addAction(item(path), lambda p=path: self.open_model(p))
        if self.recent_menu.isEmpty():
            self.recent_menu.addAction("none yet").setEnabled(False)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take files and folders."""
        if _dropped(event.mimeData()) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Open what was dropped."""
        path = _dropped(event.mimeData())
        if path is not None:
            event.acceptProposedAction()
            self.open_path(path)


def _dropped(data: QMimeData) -> str | None:
    """The first local file or folder of a drop."""
    return next((url.toLocalFile() for url in data.urls() if url.isLocalFile()), None)
