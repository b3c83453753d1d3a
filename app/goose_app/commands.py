"""What a person can do with a run: a method for each row of the table of actions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QAction, QCursor, QGuiApplication
from PySide6.QtWidgets import QApplication, QDockWidget, QInputDialog, QMenu

from goose_app import messages as m
from goose_app.actions import ACTIONS, NAMES, help_page
from goose_app.dock_title import DockTitle
from goose_app.edit_dialog import EditDialog
from goose_app.file_commands import FileCommands
from goose_app.help_page import HelpPage
from goose_app.layout import Arrangement
from goose_app.numbers import as_table
from goose_app.palette import Entry, Palette
from goose_app.panels.lens import LensPanel
from goose_app.panels.next_token import NextTokenPanel
from goose_app.panels.panel import Panel
from goose_app.panels.pinned import MOST, PinnedPanel
from goose_app.panels.remember import RememberPanel
from goose_app.panels.text import TextPanel
from goose_app.panels.transport import TransportPanel
from goose_app.panels.why import WhyPanel
from goose_app.perspectives import PERSPECTIVES
from goose_app.plain import item
from goose_app.presets import Preset
from goose_app.python_lines import lines
from goose_app.questions import Fed
from goose_app.run_view import RunView, Viewed
from goose_app.selection import Selection
from goose_app.welcome import Welcome
from goose_viz.model import DEFAULT_MODEL

if TYPE_CHECKING:
    from goose_app.token_menu import TokenMenu
    from goose_app.tour import Tour

SOON = 6  # ms until the next look while something that was asked for is being done


class Commands(FileCommands):
    """A part of the window: what is done to the run and to what is looked at."""

    run: RunView
    text: TextPanel
    next_token: NextTokenPanel
    why_panel: WhyPanel
    remember: RememberPanel
    panels: list[Panel]
    docks: dict[str, QDockWidget]
    selection: Selection
    actions_by_name: dict[str, QAction]
    edit_dialog: EditDialog
    transport: TransportPanel
    token_menu: TokenMenu
    tour: Tour
    _timer: QTimer
    _loaded: bool
    _fresh: bool
    _said: tuple[str, bool] | None
    _other_words: str
    _coming: dict[str, int]
    _then: tuple[str | None, Callable[[], None]] | None
    _own_prompt: str
    pinned: PinnedPanel
    lens: LensPanel
    arrangement: Arrangement
    layouts_menu: QMenu

    @property
    def picture(self) -> m.Picture:  # type: ignore[override]
        """The moment that is on the screen."""
        return self.run.picture

    @property
    def running(self) -> bool:
        """Whether the model writes."""
        return self.run.running

    def _arrange(self, perspective: str) -> None:
        raise NotImplementedError

    def _remember_colouring(self) -> None:
        raise NotImplementedError

    def quit(self) -> None:
        """Close the window."""
        self.close()

    def restart(self) -> None:
        """Forget the run and feed the prompt; in a conversation, begin another."""
        self._fresh = True
        chat = self.text.box.chat
        prompt = "" if chat else self.text.prompt.toPlainText()
        self.worker.send(m.Restart(prompt, self.text.sampler()))
        (self.text.prompt if chat else self.text.view).setFocus()

    def converse(self) -> None:
        """Say what is in the field; the model answers."""
        box = self.text.box
        words = box.edit.toPlainText().strip()
        if words and self._loaded:
            said = m.Say(
                words, box.template.currentData(), box.system.text().strip(), self.text.sampler(),
                self._fresh,
            )  # fmt: skip
            self._said = box.edit.toPlainText(), self._fresh
            self._fresh = False
            self._ask_for(said)
            box.edit.setPlainText("")

    def _unsaid(self) -> None:
        """It did not work: give the words back."""
        said, self._said = self._said, None
        if said is not None and not self.text.box.edit.toPlainText():
            self.text.box.edit.setPlainText(said[0])
            self._fresh = said[1]

    def chat(self, on: bool) -> None:
        """A conversation, or a text that goes on."""
        box = self.text.box
        self._other_words, words = box.edit.toPlainText(), self._other_words
        box.edit.setPlainText(words)
        box.set_chat(on)
        self._fresh = "Assistant:" not in "".join(self.run.cells.texts)
        words = "Begin another conversation" if on else "Begin anew with the prompt"
        self.actions_by_name["restart"].setText(words)
        self.resample()
        if on:
            self.edit_prompt()

    def stop_at_end(self, on: bool) -> None:
        """Stop where the model ends its text, or let it write the next one."""
        self.text.stop_at_end = on
        self.resample()

    def find(self) -> None:
        """Search in the text."""
        self._bring(self.text)
        self.text.find_bar.open()

    def _bring(self, panel: Panel) -> None:
        """Let a panel be seen, wherever its dock is."""
        self.docks[panel.title].show()
        self.docks[panel.title].raise_()

    def edit_prompt(self) -> None:
        """Put the keyboard into the prompt."""
        self._bring(self.text)
        self.text.prompt.setFocus()
        self.text.prompt.selectAll()

    def cancel(self) -> None:
        """Stop what takes long."""
        self.worker.cancel()

    def run_or_pause(self) -> None:
        """Write on, or pause."""
        if self._loaded:
            self._ask_for(m.RunOrPause())

    def _ask_for(self, command: m.Command) -> int:
        """Send what a person waits for: the answer comes sooner than the next picture would."""
        self._timer.start(SOON)
        return self.worker.send(command)

    def step(self) -> None:
        """One token on."""
        if self._loaded:
            self._ask_for(m.Step())

    def back(self) -> None:
        """One token back."""
        if self._loaded:
            self._ask_for(m.Back())

    def to_start(self) -> None:
        """Go to the start of the run."""
        self.goto(0)

    def to_end(self) -> None:
        """Go to the end of the run."""
        self.goto(sys.maxsize)

    def goto(self, position: int) -> None:
        """Put the cursor behind so many tokens."""
        if self._loaded:
            self.transport.asked = self._ask_for(m.Goto(position))

    def diverge(self) -> None:
        """Write on differently from here: a new branch, with the sampling of now."""
        if self._loaded:
            self._ask_for(m.Diverge())

    def branch(self, token: int) -> None:
        """Go on with a token behind the cursor."""
        self.worker.send(m.Branch(self.picture.position, token))

    def choose(self, rank: int = 0) -> None:
        """Go on with one of what is expected next."""
        if self._loaded:
            self._ask_for(m.Choose(rank))

    def focus_next_token(self) -> None:
        """Put the keyboard into the list of next tokens."""
        self._bring(self.next_token)
        self.next_token.setFocus(Qt.FocusReason.ShortcutFocusReason)

    def mark_back(self) -> None:
        """Mark the word before the marked one."""
        self.text.view.move_mark(-1)

    def mark_on(self) -> None:
        """Mark the word after it."""
        self.text.view.move_mark(1)

    def open_menus(self) -> None:
        """Put the keyboard into the menus."""
        self.menuBar().setFocus()
        self.menuBar().setActiveAction(self.menuBar().actions()[0])

    def watch(self) -> None:
        """The memory as it runs."""
        self._arrange("watch")

    def why(self) -> None:
        """Why the next word."""
        self._arrange("why")

    def look_state(self) -> None:
        """One head closely."""
        self._arrange("state")

    def look_compare(self) -> None:
        """Two runs."""
        self._arrange("compare")

    def look_study(self) -> None:
        """Layers, words, and what happens if."""
        self._arrange("study")

    def save_layout(self) -> None:
        """Keep the docks as they stand, under a name."""
        name, sure = QInputDialog.getText(self, "Save this layout", "Its name:")
        name = " ".join(name.split())
        if not sure or not name:
            return
        if name.lower() in PERSPECTIVES:
            self.say(f"{name} is the name of a layout that is always there; choose another")
            return
        self._remember_colouring()
        self.arrangement.save(name)
        self.say(f"saved: View, Own layouts, {name}")

    def fill_layouts(self) -> None:
        """A person's own layouts, and how to lose one."""
        self.layouts_menu.clear()
        for name in self.arrangement.own:
            self.layouts_menu.addAction(item(name), lambda n=name: self._arrange(n))
        if self.layouts_menu.isEmpty():
            self.layouts_menu.addAction("none yet").setEnabled(False)
            return
        self.layouts_menu.addSeparator()
        remove = self.layouts_menu.addMenu("Remove")
        for name in self.arrangement.own:
            remove.addAction(item(name), lambda n=name: self.arrangement.remove(n))

    def pin(self) -> None:
        """Watch the word that keys act on, or the one that is expected under the mouse."""
        index, token = self._word(), self.next_token.hovered_token()
        if token is None and index is not None:
            token = self.run.cells.tokens[index]
        if token is None:
            self.say("Mark a word, or put the mouse over one that is expected, to pin it")
        else:
            self.pin_token(token)

    def pin_token(self, token: int) -> None:
        """Watch a word, or not any more."""
        pinned = [p.token for p in self.picture.pins]
        if token in pinned:
            pinned.remove(token)
        else:
            pinned = [*pinned, token][-MOST:]
            if not (self.pinned.isVisible() or self.lens.isVisible()):
                self._bring(self.pinned)
        self._ask_for(m.Pin(tuple(pinned)))

    def unpin(self) -> None:
        """Watch no word."""
        self._ask_for(m.Pin(()))

    def set_stop(self) -> None:
        """Put the keyboard where one says where to stop."""
        self.transport.stop.setFocus()
        self.transport.stop.selectAll()

    def stop_at(self, words: str) -> None:
        """Stop where a condition holds."""
        if self._loaded:
            self._ask_for(m.StopAt(words))
            if words:
                self.text.view.setFocus()

    def next_stop(self) -> None:
        """Go on to where it holds."""
        if self._loaded:
            self.transport.asked = self._ask_for(m.ToStop(1))

    def previous_stop(self) -> None:
        """Go back to where it holds."""
        if self._loaded:
            self.transport.asked = self._ask_for(m.ToStop(-1))

    def command_palette(self) -> None:
        """Everything that can be done, by its words."""
        entries = []
        for entry in ACTIONS:
            action = self.actions_by_name[entry.name]
            if action.isEnabled():
                words = NAMES.get(entry.name, entry.text)
                keys = entry.keys[0] if entry.keys else ""
                entries.append(Entry(f"{entry.menu}: {words}", keys, entry.tip, action.trigger))
        for panel in self.panels:
            bring = partial(self._bring, panel)
            entries.append(Entry(f"Show: {panel.title}", "", panel.help, bring))
            if type(panel).python is not Panel.python:
                copy = partial(self.copy_panel, panel)
                entries.append(Entry(f"Copy as Python: {panel.title}", "", "", copy))
            if type(panel).numbers is not Panel.numbers:
                numbers = partial(self.copy_numbers, panel)
                entries.append(Entry(f"Copy numbers: {panel.title}", "", "", numbers))
        for name in self.arrangement.own:
            arrange = partial(self._arrange, name)
            entries.append(Entry(f"Layout: {name}", "", "One of your own", arrange))
        Palette(self, entries).show()

    def what_is_this(self) -> None:
        """The help of the panel under the mouse; else of the one that has the keys."""
        for at in (QApplication.widgetAt(QCursor.pos()), QApplication.focusWidget()):
            while at is not None:
                dock = at if isinstance(at, QDockWidget) else None
                title = dock.titleBarWidget() if dock is not None else None
                if isinstance(title, DockTitle):
                    title.explain()
                    return
                at = at.parentWidget()
        self.show_help()

    def copy_numbers(self, panel: Panel) -> None:
        """Put what a panel shows into the clipboard, as a table."""
        numbers = panel.numbers()
        if not numbers:
            self.say("there are no numbers to copy yet")
            return
        QGuiApplication.clipboard().setText(as_table(numbers))
        self.say(f"copied {', '.join(numbers)} as a table")

    def why_this(self) -> None:
        """Why the word under the mouse: one that was said, or one that is expected."""
        index, token = self._word(), self.next_token.hovered_token()
        if token is not None:
            self.why_of(token)
        elif index is not None:
            self.why_of(self.run.cells.tokens[index], index)
        else:
            self.why()

    def _word(self) -> int | None:
        """The word that keys act on: in the text, or under the mouse in Remember."""
        index = self.remember.view.hovered_index()
        return self.text.view.target() if index is None else index

    def why_of(self, token: int, position: int | None = None) -> None:
        """Why a token behind so many; behind the cursor when left out."""
        position = self.picture.position if position is None else position
        if position == 0:
            self.say("nothing was read before the first token that could give it")
            return
        self.why_panel.about(token, position)
        if position != self.picture.position or self.running:
            self.goto(position)  # and stay: what is asked about would be gone
        self.why()

    def resample(self) -> None:
        """Take over other sampling, and say what it will do where text is written already."""
        if not self._loaded:
            return
        self.worker.send(m.Resample(self.text.sampler()))
        if self.picture.position < self.picture.recorded:
            self.say(
                "This holds for new text: Space replays what is written; Shift+Space writes on "
                "differently from here"
            )

    def apply(self, edit: m.Apply) -> None:
        """Edit the memory; it can be undone at once, before a picture says so."""
        self._coming["undo"] = self._ask_for(edit)
        self.actions_by_name["undo"].setEnabled(True)

    def undo(self) -> None:
        """Take the last edit of the memory back."""
        self._coming["redo"] = self._ask_for(m.Undo())
        self.actions_by_name["redo"].setEnabled(True)

    def redo(self) -> None:
        """Make it again."""
        self._coming["undo"] = self._ask_for(m.Redo())
        self.actions_by_name["undo"].setEnabled(True)

    def forget(self) -> None:
        """Take the word under the mouse out of the memory."""
        self.token_menu.forget(self._word())

    def replace(self) -> None:
        """Put other words in place of the one under the mouse."""
        self.token_menu.replace(self._word())

    def edit_memory(self) -> None:
        """Zero, scale, put another memory … and see what is expected then."""
        self.edit_dialog.show()
        self.edit_dialog.activateWindow()

    def next_branch(self) -> None:
        """Return to another branch of the run."""
        if self._loaded:
            self._ask_for(m.Switch(1))

    def layer_up(self) -> None:
        """Look at the layer before."""
        self.selection.select(self.selection.layer - 1, self.selection.head)

    def layer_down(self) -> None:
        """Look at the next layer."""
        self.selection.select(self.selection.layer + 1, self.selection.head)

    def head_left(self) -> None:
        """Look at the head before."""
        self.selection.select(self.selection.layer, self.selection.head - 1)

    def head_right(self) -> None:
        """Look at the next head."""
        self.selection.select(self.selection.layer, self.selection.head + 1)

    def welcome(self) -> None:
        """The Welcome page, once the model is open; it comes by itself only once."""
        self._then = self._requested_source, self.show_welcome

    def show_welcome(self) -> None:
        """What there is to see."""
        self.settings["welcomed"] = True
        if self.findChild(Welcome) is None:
            Welcome(self).open()

    def show_tour(self) -> None:
        """Five steps, on the demo model."""
        self.actions_by_name["chat"].setChecked(False)
        self._with_model(DEFAULT_MODEL, self.tour.begin)

    def open_preset(self, preset: Preset) -> None:
        """Open a model inside with its text, and say what to look at."""
        self.actions_by_name["chat"].setChecked(False)
        self._own_prompt = ""
        self.text.prompt.setPlainText(preset.prompt)

        def begin() -> None:
            self.text.prompt.setPlainText(preset.prompt)
            self.restart()
            self.tour.begin_preset(preset)

        self._with_model(preset.model, begin)

    def _with_model(self, name: str, then: Callable[[], None]) -> None:
        """Do something with a model inside, which is opened first if it is not."""
        model = self.run.model
        opened = None if model is None or model.asked_tokenizer else model.asked or DEFAULT_MODEL
        if opened == name == (self._requested_source or DEFAULT_MODEL):
            then()
        else:
            self._then = name, then
            self.open_model(name)

    def show_help(self) -> None:
        """Keys and panels, on a page."""
        HelpPage(self, help_page([(p.title, p.help, p.formula) for p in self.panels])).show()

    def copy_panel(self, panel: Panel) -> None:
        """Put the lines into the clipboard that give what a panel shows."""
        self.copy_python(panel.python(), panel.fed(), panel.run)

    def copy_python(
        self, ending: str | None, fed: Fed | None = None, run: Viewed | None = None
    ) -> None:
        """Put lines into the clipboard that repeat a run and then do something."""
        run = self.run if run is None else run
        if ending is None or run.picture.position == 0:
            self.say("there is nothing to copy yet")
            return
        QGuiApplication.clipboard().setText(lines(run, ending, fed))
        self.say("copied the lines that give these numbers")
