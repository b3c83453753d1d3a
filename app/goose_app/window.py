"""The main window: docks, one linked cursor, and the timer that brings pictures to the screen."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PySide6.QtCore import QCoreApplication, QEvent, QObject, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QCloseEvent,
    QGuiApplication,
    QHelpEvent,
    QKeyEvent,
    QResizeEvent,
)  # fmt: skip
from PySide6.QtWidgets import (
    QApplication,
    QDockWidget,
    QMenu,
    QProgressBar,
    QToolTip,
    QWidget,
)  # fmt: skip

from goose_app import messages as m
from goose_app.actions import ACTIONS
from goose_app.cells import Cells
from goose_app.colouring import COLOURINGS, GIVES
from goose_app.commands import SOON, Commands
from goose_app.companion import Companion
from goose_app.dock_title import DockTitle
from goose_app.edit_dialog import EditDialog
from goose_app.filming import Filming
from goose_app.garbage import Garbage
from goose_app.heatmap import Heatmap
from goose_app.keyboard import keeps
from goose_app.layout import Arrangement
from goose_app.menus import make_actions
from goose_app.message_bar import MessageBar
from goose_app.model_facts import ModelFacts
from goose_app.panels.attention import AttentionPanel
from goose_app.panels.branches import BranchesPanel
from goose_app.panels.channels import DECAY, ICLR, ChannelsPanel
from goose_app.panels.compare import ComparePanel
from goose_app.panels.edit import EditPanel
from goose_app.panels.heads import HeadsPanel
from goose_app.panels.health import HealthPanel
from goose_app.panels.lens import LensPanel
from goose_app.panels.model import ModelPanel
from goose_app.panels.next_token import NextTokenPanel
from goose_app.panels.other import DifferencePanel, OtherNextTokenPanel, OtherTextPanel
from goose_app.panels.panel import Panel
from goose_app.panels.pinned import PinnedPanel
from goose_app.panels.remember import RememberPanel
from goose_app.panels.sensitivity import SensitivityPanel
from goose_app.panels.spectrum import SpectrumPanel
from goose_app.panels.state import StatePanel
from goose_app.panels.steer import SteerPanel
from goose_app.panels.text import TextPanel
from goose_app.panels.trace import TracePanel
from goose_app.panels.transport import TransportPanel
from goose_app.panels.why import WhyPanel
from goose_app.plain import Label, tip, title
from goose_app.ponder import Answer, Progress
from goose_app.readout import Readout
from goose_app.room import fitting, scrolling
from goose_app.run_view import RunView
from goose_app.selection import Selection
from goose_app.settings import Settings
from goose_app.theme import DARK, LIGHT, Theme, palette
from goose_app.token_menu import TokenMenu
from goose_app.tour import Tour
from goose_app.worker import Worker

_FAST, _SLOW = 33, 250  # ms between pictures: 30 Hz down to 4 Hz
# Share of the time that may go to painting while the model writes: much where tokens come faster
# than anyone reads, little where each is waited for.
_SHARE_FAST, _SHARE_SLOW, _FAST_RATE = 0.12, 0.05, 200  # the last in tokens a second
_RESTART = 3  # ms that the model needs besides until it is at speed again, its caches cold
_POLL = 1  # ms between looks whether the worker is at rest
_PATIENCE = 0.08  # seconds after which a picture is painted beside a token in the making
_PAINTED = QEvent.Type(QEvent.registerEventType())
_SIZE = QSize(1600, 1000)  # of the first window, where the screen has it


class Window(Commands):
    """Everything on one screen.

    Parameters
    ----------
    load : Load or Adopt
        The model to open first, or the session to show.
    prompt : str
        The prompt to begin with.
    theme : str, optional
        ``"dark"``, ``"light"`` or ``"system"``; the one that was chosen last when left out.
    perspective : str, optional
        One of `PERSPECTIVES`; the one that was left when left out.
    keep_in : Path, optional
        A folder to keep runs in that nobody saved.

    Attributes
    ----------
    on_event : callable
        Told every event of the worker; for the screenshot and for tests.
    repaint_ms, repaint_cpu_ms : deque of float
        Milliseconds of the last repaints while the model wrote, update and painting: by the clock,
        and of processor time.
    """

    closed = Signal()

    def __init__(
        self,
        load: m.Load | m.Adopt,
        prompt: str,
        theme: str | None = None,
        perspective: str | None = None,
        keep_in: Path | None = None,
    ) -> None:
        super().__init__()
        self.setWindowTitle("opening… — Goose Viz")
        self.setAcceptDrops(True)
        self.setDockNestingEnabled(True)
        self.settings = Settings()
        self.selection = Selection()
        self.tour = Tour(self)
        self.worker = Worker(keep_in)
        self.on_event: Callable[[m.Event], None] = lambda event: None
        self.filming: Filming | None = None
        self._for_paper = False  # dressed for it meanwhile
        self.repaint_ms: deque[float] = deque(maxlen=4096)
        self.repaint_cpu_ms: deque[float] = deque(maxlen=4096)
        self.run = RunView()
        self.runs = {self.run.ident: self.run}
        self._asked_for: tuple[m.Watch, m.Explain, m.Ask] | None = None
        self._wanted_theme = self.settings["theme"] if theme is None else theme
        # to do when a model that was asked for is open
        self._then: tuple[str | None, Callable[[], None]] | None = None
        self._coming = {"undo": 0, "redo": 0}  # commands that make it possible: their numbers
        self._said: tuple[str, bool] | None = None  # words on their way to the model
        self._fresh = True  # what is said next begins a conversation
        self._other_words = ""  # the prompt while one converses, what was about to be said else
        self._failed = 0  # the number of the last command that did not work
        self._tick_began: float | None = None
        self._tick_cpu = 0.0
        self._interval = _FAST
        self._hold_until = 0.0
        self._garbage = Garbage()
        self._own_prompt = ""  # set aside while a model reads ids
        self._loaded = False  # until a model is there, the transport does nothing

        self.text = TextPanel(self.selection)
        self.next_token = NextTokenPanel(self.selection)
        self.state = StatePanel(self.selection)
        self.heads = HeadsPanel(self.selection)
        self.decay = ChannelsPanel(self.selection, DECAY)
        self.iclr = ChannelsPanel(self.selection, ICLR)
        self.model_panel = ModelPanel(self.selection)
        self.why_panel = WhyPanel(self.selection)
        self.edit = EditPanel(self.selection)
        self.remember = RememberPanel(self.selection)
        self.branches = BranchesPanel(self.selection)
        self.transport = TransportPanel(self.selection)
        self.attention = AttentionPanel(self.selection)
        self.health = HealthPanel(self.selection)
        self.spectrum = SpectrumPanel(self.selection)
        self.lens = LensPanel(self.selection)
        self.pinned = PinnedPanel(self.selection)
        self.sensitivity = SensitivityPanel(self.selection)
        self.trace = TracePanel(self.selection)
        self.steer = SteerPanel(self.selection)
        self.compare = ComparePanel(self.selection)
        self.difference = DifferencePanel(self.selection)
        self.other_text = OtherTextPanel(self.selection)
        self.other_next = OtherNextTokenPanel(self.selection)
        self.panels: list[Panel] = [
            self.text, self.next_token, self.state, self.heads, self.decay, self.iclr,
            self.model_panel, self.why_panel, self.edit, self.remember, self.branches,
            self.attention, self.health, self.spectrum, self.lens, self.pinned, self.sensitivity,
            self.trace, self.steer, self.compare, self.difference, self.other_text,
            self.other_next, self.transport,
        ]  # fmt: skip
        self.docks = {panel.title: self._dock(panel) for panel in self.panels}
        self.actions_by_name = make_actions(self)
        self.message_bar = MessageBar()
        self.addToolBar(self.message_bar)
        self._progress = QProgressBar()
        self._progress.setMaximumWidth(260)
        self._progress.setTextVisible(False)
        self._doing = Label()
        self.recorded_in = Label()
        self._recorded = False
        self.hint = Readout("", Qt.AlignmentFlag.AlignLeft)  # a message hides it for a while
        self.summary = Readout("")
        self.summary.setText("opening…")
        self.statusBar().addWidget(self.hint, 1)
        for widget in (self._doing, self._progress, self.recorded_in, self.summary):
            self.statusBar().addPermanentWidget(widget)
        self._progress.hide()

        self.text.prompt.setPlainText(prompt)
        self.text.temperature.setValue(self.settings["temperature"])
        self.text.top_p.setValue(self.settings["top_p"])
        self.text.seed.setValue(self.settings["seed"])
        self.actions_by_name["stop_at_end"].setChecked(self.settings["stop at end"])
        self.actions_by_name["white_figures"].setChecked(self.settings["white figures"])
        self.token_menu = TokenMenu(self)
        self.edit_dialog = EditDialog(self, self.selection)
        self.companion = Companion(self)
        self._connect()
        if not (self.settings["geometry"] and self.restoreGeometry(self.settings["geometry"])):
            self.resize(fitting(_SIZE, self.screen().availableSize()))
        self.arrangement = Arrangement(self, self.docks, self.settings)
        self._arrange(perspective or self.settings["perspective"])
        self._follow_system()

        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self.tick)
        self._timer.start(_FAST)
        self.worker.start()
        self._ask()  # what is looked at is known before there is anything to look at
        self.worker.send(load)
        self._requested_source = load.source if isinstance(load, m.Load) else None

    # -- construction ------------------------------------------------------------------------------

    def _dock(self, panel: Panel) -> QDockWidget:
        dock = QDockWidget(panel.title, self)
        dock.setObjectName(f"dock {panel.title}")
        dock.setWidget(panel if panel is self.transport else scrolling(panel))
        if panel is self.transport:
            dock.setTitleBarWidget(QWidget())  # a row of buttons needs no title
        else:
            dock.setTitleBarWidget(DockTitle(dock, panel))
        dock.installEventFilter(self)
        dock.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        dock.customContextMenuRequested.connect(lambda at: self._dock_menu(dock, panel, at))
        return dock

    def reset_docks(self) -> None:
        """Put every dock back in its place."""
        self.arrangement.reset()

    @property
    def perspective(self) -> str:
        """What is shown, by its name in `PERSPECTIVES`."""
        return self.arrangement.perspective

    def _arrange(self, perspective: str) -> None:
        """Show a perspective as it was left."""
        if perspective == self.perspective:
            return
        self._remember_colouring()
        self.arrangement.show(perspective)
        self.text.colouring.setCurrentIndex(self._colouring())
        self.text.view.setFocus()  # or whatever comes next gets the keys of what is hidden now

    def _colouring(self) -> int:
        """What the text was coloured by when one was here last."""
        chosen = self.settings[f"colouring {self.perspective}"]
        first = list(COLOURINGS).index(GIVES) if self.perspective == "why" else 0
        return chosen - 1 if chosen else first

    def _ask(self) -> None:
        """Tell the worker what is looked at, if that is something else than before."""
        seen = [panel for panel in self.panels if panel.isVisible()]
        watch = m.Watch(
            frozenset().union(*(panel.recorded for panel in self.panels)),
            frozenset().union(*(panel.shown for panel in seen)),
        )
        explain = self.why_panel.question(
            any(panel.asks for panel in seen), any(panel.asks_edit for panel in seen)
        )
        asked = dict.fromkeys(q for p in seen if p.run is self.run for q in p.questions())
        ask = m.Ask(tuple(asked))
        before, self._asked_for = self._asked_for, (watch, explain, ask)
        if before is None or before[0] != watch:
            self.worker.send(watch, self.run.ident)
        if before is None or before[1] != explain:
            self.worker.send(explain, self.run.ident)
        if before is None or before[2] != ask:
            self.worker.send(ask, self.run.ident)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """A small window has its own arrangement of the docks."""
        super().resizeEvent(event)
        if hasattr(self, "arrangement") and self.arrangement.outgrown():
            QTimer.singleShot(0, self, self._rearrange)  # not in the midst of a resize

    def _rearrange(self) -> None:
        if self.arrangement.outgrown():
            self.arrangement.fit()

    def _remember_colouring(self) -> None:
        if self.perspective:
            self.settings[f"colouring {self.perspective}"] = 1 + self.text.colouring.currentIndex()

    def choose_theme(self, name: str) -> None:
        """Dark, light, or as the system; remembered."""
        self.settings["theme"] = self._wanted_theme = name
        self._follow_system()

    def _connect(self) -> None:
        self.text.restart.connect(self.restart)
        self.text.said.connect(self.converse)
        self.text.goto.connect(self.goto)
        self.text.sampling_changed.connect(self.resample)
        for bars in (self.next_token, self.edit_dialog.bars):
            bars.why_wanted.connect(self.why_of)
            bars.truth_wanted.connect(lambda: self.worker.send(m.ReadTruly()))
            bars.branch.connect(self.branch)
            bars.chosen.connect(self.choose)
        for view in (self.text.view, self.why_panel, self.remember):
            view.menu_wanted.connect(self.token_menu.show)
        for view in (self.text.view, self.remember.view):
            view.hovered.connect(self.why_panel.hover)
        for panel in (
            self.remember, self.decay, self.iclr, self.attention, self.health, self.pinned,
            self.compare, self.other_text,
        ):  # fmt: skip
            panel.goto.connect(self.goto)
        for panel in (self.next_token, self.lens):
            panel.pinned.connect(self.pin_token)
        self.lens.why_wanted.connect(self.why_of)
        self.pinned.unpinned.connect(self.unpin)
        self.text.view.marked_changed.connect(lambda: self.trace.spoil(self.text.view.marked))
        self.other_next.branch.connect(self.companion.take)
        self.other_next.chosen.connect(self.companion.choose)
        self.other_next.pinned.connect(self.pin_token)
        self.compare.branch_chosen.connect(self.companion.branch)
        self.compare.other_wanted.connect(self.companion.ask)
        self.transport.stop_wanted.connect(self.stop_at)
        self.edit_dialog.applied.connect(self.apply)
        self.edit_dialog.undone.connect(self.undo)
        for each in self.panels:
            if each not in (self.other_text, self.other_next):
                each.set_run(self.run)
            each.seen.connect(self._ask)
            each.wants.connect(lambda command, p=each: self.obey(p, command))
        self.selection.listen(self._ask)
        self.branches.chosen.connect(lambda row: self.worker.send(m.GoToBranch(row)))
        self.branches.named.connect(lambda row, name: self.worker.send(m.NameBranch(row, name)))
        self.branches.closed.connect(lambda row: self.worker.send(m.CloseBranch(row)))
        self.transport.goto.connect(self.goto)
        self.transport.speed_changed.connect(lambda delay: setattr(self.worker, "delay", delay))

    def obey(self, panel: Panel, command: m.Command) -> None:
        """Do what a panel asks for, with its run."""
        if isinstance(command, m.Apply):
            self.apply(command)
        elif isinstance(panel.run, RunView):
            self.worker.send(command, panel.run.ident)

    @property
    def at_rest(self) -> bool:
        """Whether all that was asked for is done and on the screen."""
        waiting = any(panel.waits for panel in self.panels if panel.isVisible())
        return self.worker.at_rest and self._tick_began is None and not waiting

    # -- the clock ---------------------------------------------------------------------------------

    def tick(self) -> None:
        """Bring what the worker said since the last time to the screen."""
        if self._tick_began is not None:
            return  # the last one is not painted yet
        self.worker.hold()
        now = time.perf_counter()
        if self.worker.writing and not self.worker.idle and now < self._hold_until:
            self._timer.start(_POLL)  # a moment, until the token that is being made is done
            return
        if self._recorded and self.worker.recording_broken:
            self.worker.send(m.Record(None))
        began, began_cpu = now, time.thread_time()
        changed = False
        for ident, event in m.merged(self.worker.said):
            self._handle(self.runs[ident], event)
            self.on_event(event)
            changed = True
        for run in self.runs.values():
            picture = self.worker.take_picture(run.ident)
            if picture is not None:
                self._show_picture(run, picture)
                changed = True
        waited_for = not self.worker.answered  # somebody pressed a key: look again soon
        interval = self._interval if self.running else SOON if waited_for else _FAST
        self._timer.start(interval)
        self._hold_until = now + 0.001 * interval + _PATIENCE
        if changed:
            self._tick_began, self._tick_cpu = began, began_cpu
            QCoreApplication.postEvent(
                self, QEvent(_PAINTED), Qt.EventPriority.LowEventPriority.value
            )
        else:
            self.worker.release()

    def _show_picture(self, run: RunView, picture: m.Picture) -> None:
        run.picture = picture
        for panel in self.panels:
            if panel.run is run:
                panel.set_picture(picture)
        if run is self.run:
            if picture.serial > self._failed:  # something that was asked for since has worked
                self.message_bar.worked()
            self.edit_dialog.set_picture(picture)
            for name, can in (("undo", picture.can_undo), ("redo", picture.can_redo)):
                coming = self._coming[name] > picture.serial
                self.actions_by_name[name].setEnabled(can or coming)
            self._show_running()
        self.companion.follow()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """A dock's title says what the dock is for; its content keeps the mouse for itself."""
        if event.type() == QEvent.Type.ShortcutOverride:  # of a dock that floats
            return self._keep_key(event)
        if event.type() in (QEvent.Type.Resize, QEvent.Type.Move, QEvent.Type.Show):
            self.tour.place()
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            panel = next((p for p in self.panels if self.docks[p.title] is watched), None)
            dock = self.docks[panel.title] if panel is not None else None
            if panel is not None and dock is not None and event.pos().y() < dock.widget().y():
                QToolTip.showText(event.globalPos(), f"<p>{panel.help}</p>")
            return True
        return super().eventFilter(watched, event)

    def event(self, event: QEvent) -> bool:
        """Measure what a repaint took, and leave the model its share of the time."""
        if event.type() == _PAINTED and self._tick_began is not None:
            milliseconds = 1000 * (time.perf_counter() - self._tick_began)
            self._tick_began = None
            self.worker.release()
            if self.running:
                self.repaint_ms.append(milliseconds)
                self.repaint_cpu_ms.append(1000 * (time.thread_time() - self._tick_cpu))
            share = _SHARE_FAST if self.picture.rate > _FAST_RATE else _SHARE_SLOW
            if self.running:
                wait = min(max((milliseconds + _RESTART) / share, _FAST), _SLOW)
                self._interval = round(0.8 * self._interval + 0.2 * wait)
            self.model_panel.painting = milliseconds / self._interval
            return True
        if event.type() == QEvent.Type.ShortcutOverride and self._keep_key(event):
            return True
        changed = event.type() == QEvent.Type.ApplicationPaletteChange and hasattr(self, "_timer")
        if changed and self._wanted_theme == "system" and not self._for_paper:
            # or two windows would never agree
            self._follow_system()
        return super().event(event)

    def _keep_key(self, event: QEvent) -> bool:
        """Leave a key to the control that needs it, instead of to the run."""
        if isinstance(event, QKeyEvent) and keeps(QApplication.focusWidget(), event):
            event.accept()
            return True
        return False

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Escape dismisses a message, a card and a mark, and gives the keys back to the text."""
        if event.key() == Qt.Key.Key_Escape:
            self.message_bar.hide()
            self.tour.end()
            self.text.view.mark(range(0))
            self.text.view.setFocus()
        else:
            super().keyPressEvent(event)

    def _handle(self, run: RunView, event: m.Event) -> None:
        """What concerns any run; `_handle_own` does what concerns the one on the screen."""
        panels = [panel for panel in self.panels if panel.run is run]
        match event:
            case Cells():
                run.cells.replace(event)
                for panel in panels:
                    panel.text_changed(event.start)
                if run is self.companion.run:
                    self.compare.text_changed(event.start)
                self._garbage.grew(len(event))
            case m.Running(running, _):
                run.running = running
            case m.Began(series):
                run.series = series
                run.cells.replace(Cells())
                for panel in panels:
                    panel.series_changed()
                    panel.text_changed(0)
                self._garbage.settle()
            case m.Charted(series):
                run.series = series
                for panel in panels:
                    panel.series_changed()
            case m.Loading(fraction, words):
                self._doing.setText(words)
                self._progress.setVisible(bool(words))
                self._progress.setValue(round(100 * fraction))
            case m.Loaded(model, _):
                run.open(model)
                for panel in panels:
                    panel.set_run(run)
            case Answer():
                for panel in panels:
                    panel.answered(event)
            case Progress():
                for panel in panels:
                    panel.progressed(event)
            case m.Told(words):
                self.say(words)
                self.message_bar.worked()
            case m.Failed(words):
                self._then = None
                self._failed = self.worker.current
                if not self._loaded:
                    words += " · Open another, or the demo model, from the File menu."
                    self._nothing_is_open()
                self.message_bar.say(words)
        if run is self.run:
            self._handle_own(event)
        elif isinstance(event, m.Running) and not event.running:
            self.companion.stopped(event.serial)

    def _handle_own(self, event: m.Event) -> None:
        match event:
            case m.Branches(rows):
                self.branches.set_rows(rows)
                self.edit_dialog.set_branches(rows)
                self.steer.set_branches(rows)
                self.compare.set_rows(rows)
            case m.Stops(words, positions):
                self.transport.show_stops(positions, words)
            case m.Running():
                self._show_running()
            case m.Began(_, sampler, memory):
                self.text.show_sampler(sampler)
                self.text.show_memory(memory)
            case m.Sampled(sampler):
                self.text.show_sampler(sampler)
            case m.Loaded(model, follows):
                self._opened(model, follows)
            case m.Reopened(beside, path):
                self._come_back(beside, path)
            case Cells():
                self._said = None
            case m.Recording(path):
                self.show_recording(path)
            case m.Failed():
                self._unsaid()
                if not self._recorded:
                    self.show_recording(None)

    def _opened(self, model: ModelFacts, follows: bool) -> None:
        """A model is there: begin with the prompt, unless a session follows."""
        self._loaded = True
        self.companion.model_changed()
        if self.transport.stop.text() and model.recorded is None:
            self.stop_at(self.transport.stop.text())
        self.selection.resize(model.config)
        self.setWindowTitle(title(f"{model.name} — Goose Viz"))
        self.summary.setText(f"{model.name} · {model.config.shape} · {model.device} {model.dtype}")
        self.summary.setToolTip(tip(model.in_words))
        self._remember(model.source)
        self._may_compute(model.recorded is None)
        if model.recorded is None:
            self._fit_prompt(model.tokenizer, model.config.vocab_size)
            self.hint.setText(
                "Space writes on, → steps, ← goes back; click a token to return there; F1: more"
            )
            if not follows:
                self.restart()
        else:
            self.setWindowTitle(title(f"{model.source.name}, recorded — Goose Viz"))
            self.hint.setText("A recorded run, without its model: Space plays it, ← and → step")
            self.text.view.setFocus()
        self.tour.end()
        then, self._then = self._then, None
        if then is not None and then[0] == model.asked:
            then[1]()

    def beside(self) -> dict[str, Any]:
        """What belongs to a session and is the window's."""
        return {
            "prompt": self.text.prompt.toPlainText(),
            "perspective": self.perspective,
            "docks": self.arrangement.standing(),
            "layer": self.selection.layer,
            "head": self.selection.head,
            "pins": [w.token for w in self.picture.pins],
            "stop": self.transport.stop.text(),
            "tokenizer": None if self.run.model is None else self.run.model.asked_tokenizer,
        }

    def _come_back(self, beside: dict[str, Any], path: Path) -> None:
        """A session is there: the window as it was beside it."""
        self.setWindowTitle(title(f"{path.name} — Goose Viz"))
        match beside:
            case {"prompt": str(prompt)}:
                self.text.prompt.setPlainText(prompt)
        match beside:
            case {"perspective": str(name), "docks": bytes(docks)}:
                self._arrange(name)
                self.arrangement.stand(docks)
        match beside:
            case {"layer": int(layer), "head": int(head)}:
                self.selection.select(layer, head)
        match beside:
            case {"stop": str(words)} if words:
                self.transport.stop.setText(words)
                self.stop_at(words)
        match beside:
            case {"pins": [*tokens]} if tokens and all(isinstance(t, int) for t in tokens):
                self.worker.send(m.Pin(tuple(tokens)))

    def _may_compute(self, may: bool) -> None:
        """What takes a model can be done, or not."""
        for action in ACTIONS:
            if action.computes:
                self.actions_by_name[action.name].setEnabled(may)
        self.text.box.setVisible(may)  # the prompt of a recorded run stands in its text
        self.text.may_compute(may)
        self.transport.stop.setEnabled(may)

    def _show_running(self) -> None:
        """Say what Space does now."""
        past = self.picture.position < self.picture.recorded
        recorded = self.run.model is not None and self.run.model.recorded is not None
        words = "▶ Replay" if past or recorded else "▶ Run"
        words = "▮▮ Pause" if self.running else words
        self.actions_by_name["run_or_pause"].setText(words)

    def _nothing_is_open(self) -> None:
        self.setWindowTitle("Goose Viz")
        self.summary.setText("no model is open")
        for map_ in self.findChildren(Heatmap):
            map_.set_blank("no model is open")

    def _fit_prompt(self, tokenizer: str, vocab_size: int) -> None:
        """A model whose vocabulary nobody knows is prompted in ids: begin with one that exists."""
        if tokenizer == "token ids":
            prompt = self.text.prompt.toPlainText()
            words = prompt.split()
            if not words or not all(w.isdecimal() and int(w) < vocab_size for w in words):
                self._own_prompt = prompt
                self.text.prompt.setPlainText("0")
                self.message_bar.say(
                    "This model's vocabulary is unknown, so tokens are shown and read as ids. Put "
                    "its tokenizer.json beside it to read text.",
                    error=False,
                )
        elif self._own_prompt:
            self.text.prompt.setPlainText(self._own_prompt)
            self._own_prompt = ""
            self.message_bar.hide()

    # -- looks, and the end ------------------------------------------------------------------------

    def _dock_menu(self, dock: QDockWidget, panel: Panel, at: object) -> None:
        menu = QMenu(self)
        menu.addAction("Save figure…", lambda: self._save_panel(panel))
        menu.addAction("Save animation…", lambda: self._film(panel))
        menu.addAction("Copy picture", lambda: QGuiApplication.clipboard().setPixmap(panel.grab()))
        if panel.numbers():
            menu.addAction("Copy numbers", lambda: self.copy_numbers(panel))
            menu.addAction("Save numbers…", lambda: self._save_numbers(panel))
        if panel.python() is not None:
            menu.addAction("Copy as Python", lambda: self.copy_panel(panel))
        menu.popup(dock.mapToGlobal(at))

    def _follow_system(self) -> None:
        theme = DARK
        if self._wanted_theme == "light":
            theme = LIGHT
        elif self._wanted_theme == "system":
            scheme = QGuiApplication.styleHints().colorScheme()
            theme = LIGHT if scheme == Qt.ColorScheme.Light else DARK
        self.set_theme(theme)

    @contextmanager
    def in_light(self, wanted: bool) -> Iterator[None]:
        """Dress everything for paper meanwhile, if that is wanted."""
        if not wanted or self.text.theme is LIGHT:
            yield
            return
        self._for_paper = True
        self.set_theme(LIGHT)
        try:
            yield
        finally:
            self._for_paper = False
            self._follow_system()

    def set_theme(self, theme: Theme) -> None:
        """Dress everything."""
        app = QApplication.instance()
        if isinstance(app, QApplication) and app.palette() != palette(theme):
            app.setPalette(palette(theme))
        self.message_bar.set_theme(theme)
        self.edit_dialog.bars.set_theme(theme)
        self.tour.set_theme(theme)
        for panel in self.panels:
            panel.set_theme(theme)

    def closeEvent(self, event: QCloseEvent) -> None:
        """Remember the layout, end the worker."""
        if self.filming is not None:
            self.filming.cancel()
        self._timer.stop()
        self.hide()  # the worker may have to finish compiling first
        self.worker.close()
        self.settings["geometry"] = bytes(self.saveGeometry().data())
        self.arrangement.remember()
        self._remember_colouring()
        self.settings["perspective"] = self.perspective
        self.settings["temperature"] = self.text.temperature.value()
        self.settings["top_p"] = self.text.top_p.value()
        self.settings["seed"] = self.text.seed.value()
        self.settings["stop at end"] = self.text.stop_at_end
        super().closeEvent(event)
        self.closed.emit()
