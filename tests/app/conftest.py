"""Offscreen windows with settings of their own, and a check that nothing outlives its test."""

import os
import threading

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import pytest
from PySide6.QtCore import QSettings
from PySide6.QtWidgets import QFileDialog

from goose_app import messages as m
from goose_app.cells import Cells
from goose_app.window import Window

PROMPT = "Once upon a time, there was a little dog."


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "kept"))
    QSettings.setDefaultFormat(QSettings.Format.IniFormat)
    QSettings.setPath(
        QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(tmp_path / "settings")
    )


@pytest.fixture(autouse=True)
def no_thread_outlives_its_test():
    yield
    left = [t.name for t in threading.enumerate() if t.name == "goose-worker"]
    assert left == []


@pytest.fixture(scope="session")
def qapp_cls():
    from PySide6.QtWidgets import QApplication

    return QApplication


def save_as(monkeypatch, path, kind=""):
    """Whatever is saved next is saved there."""
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), kind))


class Driver:
    """A window and the means to wait for it."""

    def __init__(self, qtbot, load, prompt, keep_in=None):
        self.qtbot = qtbot
        self.events = []
        self.window = Window(load, prompt, "dark", keep_in=keep_in)
        self.window.on_event = self.events.append
        self.window.resize(1600, 1000)
        self.window.show()
        qtbot.addWidget(self.window)

    def wait(self, done, timeout=150_000):
        self.qtbot.waitUntil(done, timeout=timeout)

    def began(self):
        return any(isinstance(e, Cells) for e in self.events)

    def at(self, position):
        self.wait(lambda: self.window.picture.position == position and not self.window.running)

    def write(self, n):
        """Let the model write n tokens behind what there is."""
        stop = self.window.picture.position + n
        self.window.worker.send(m.Run(n))
        self.at(stop)

    def settle(self):
        """Wait until all that was asked for is on the screen."""
        worker = self.window.worker

        def settled():
            return worker.at_rest and not self.window.running

        for _ in range(2):  # what came may have asked for more
            self.wait(settled)
            self.qtbot.wait(5)
        self.wait(settled)

    @property
    def text(self):
        return "".join(self.window.run.cells.texts)


@pytest.fixture
def open_window(qtbot):
    drivers = []

    def make(source=None, prompt=PROMPT, wait=True):
        driver = Driver(qtbot, m.Load(source), prompt)
        drivers.append(driver)
        if wait:
            driver.wait(driver.began)
            driver.wait(lambda: driver.window.picture.position > 0)
        return driver

    yield make
    for driver in drivers:
        driver.window.close()


@pytest.fixture
def driver(open_window):
    return open_window()
