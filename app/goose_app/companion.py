"""The run beside the run: begun, written, compared, its cursor along with the other's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from goose_app import messages as m
from goose_app.other_run import OtherRun
from goose_app.questions import CompareAsked
from goose_app.run_view import RunView
from goose_viz import Sampler

if TYPE_CHECKING:
    from goose_app.window import Window


class Companion:
    """What the window does about the other run.

    Parameters
    ----------
    window : Window

    Attributes
    ----------
    run : RunView or None
    """

    def __init__(self, window: Window) -> None:
        self._window = window
        self.run: RunView | None = None
        self.dialog = OtherRun(window)
        self._shared = False  # it has the window's model
        self._asked = -1  # where its cursor was sent last
        self._writes = 0  # the number of the command behind whose writing it is compared
        self.dialog.chosen.connect(self.begin)
        self.dialog.resumed.connect(self.resume)

    @property
    def views(self) -> tuple[object, ...]:
        """The panels that show it."""
        w = self._window
        return w.compare, w.difference, w.other_text, w.other_next

    def _ident(self, load: m.Load | None = None) -> int:
        """A run, with a model."""
        w = self._window
        if self.run is None:
            self.run = RunView(max(w.runs) + 1)
            w.runs[self.run.ident] = self.run
            w.compare.other = w.difference.other = self.run
            for panel in (w.other_text, w.other_next):
                panel.set_run(self.run)
        if load is not None:
            w.worker.send(load, self.run.ident)
            self._shared = False
        elif not self._shared:
            w.worker.send(m.Share(w.run.ident), self.run.ident)
            self._shared = True
        self._asked, self._writes = -1, 0
        return self.run.ident

    def model_changed(self) -> None:
        """The window has opened another model."""
        self._shared = False

    def branch(self, row: int) -> None:
        """Compare with a branch of the window's run."""
        w, ident = self._window, self._ident()
        w.worker.send(m.Twin(w.run.ident, row), ident)
        self.compare()

    def resume(self, path: Path) -> None:
        """Compare with a snapshot's run."""
        self._window.worker.send(m.Resume(path), self._ident())
        self.compare()

    def begin(self, load: m.Load | None, prompt: str, sampler: Sampler, tokens: int) -> None:
        """Compare with a text that is to be written."""
        ident = self._ident(load)
        self._window.worker.send(m.Restart(prompt, sampler), ident)
        if tokens:
            self._writes = self._window.worker.send(m.Run(tokens), ident)
        else:
            self.compare()

    def ask(self) -> None:
        """Ask what the other run is to be."""
        w, run = self._window, self._window.run
        cells = run.cells
        given = next((i for i in range(len(cells)) if cells.generated[i]), len(cells))
        if run.model is None:
            return
        prompt = w.text.prompt.toPlainText()
        self.dialog.offer(prompt, w.text.sampler(), len(cells) - given, run.model)
        self.dialog.show()

    def compare(self) -> None:
        """Work out where the two part."""
        if self.run is not None:
            w = self._window
            w.worker.send(m.Study(CompareAsked(self.run.ident)), w.run.ident)

    def take(self, token: int) -> None:
        """Go on with a token behind its cursor."""
        if self.run is not None:
            self._window.worker.send(m.Branch(self.run.picture.position, token), self.run.ident)

    def choose(self, rank: int) -> None:
        """Go on with one of what it expects."""
        if self.run is not None:
            self._window.worker.send(m.Choose(rank), self.run.ident)

    def stopped(self, serial: int) -> None:
        """It does not write any more; so many commands were obeyed then."""
        if 0 < self._writes <= serial:
            self._writes = 0
            self.compare()

    def follow(self) -> None:
        """Put its cursor where the window's is."""
        w, run = self._window, self.run
        self._mark()
        if run is None or run.running or w.running or not len(run.cells):
            return
        w.difference.refresh()
        target = min(w.picture.position, len(run.cells))
        visible = any(panel.isVisible() for panel in self.views)  # type: ignore[attr-defined]
        if visible and target not in (self._asked, run.picture.position):
            self._asked = target
            w.worker.send(m.Goto(target), run.ident)
        elif run.picture.position == self._asked:
            self._asked = -1

    def _mark(self) -> None:
        """Each one's bars say what the other expects."""
        w, run = self._window, self.run
        if run is None:
            return
        still = not (run.running or w.running)
        aligned = still and run.picture.position == w.picture.position
        for panel, other in ((w.other_next, w.picture), (w.next_token, run.picture)):
            seen = any(p.isVisible() for p in (w.other_next, w.compare))
            marks = {t: p for t, _, p in other.next_tokens} if aligned and seen else {}
            if marks != panel.marks:
                panel.marks = marks
                panel.update()
