"""Menus, keys and buttons, made from the table of actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtGui import QAction, QActionGroup, QKeySequence, QShortcut
from PySide6.QtWidgets import QMenu

from goose_app.actions import ACTIONS, TRANSPORT, Action
from goose_app.keyboard import with_letters
from goose_app.panels.panel import Panel

if TYPE_CHECKING:
    from goose_app.window import Window


def make_actions(window: Window) -> dict[str, QAction]:
    """An action for each row of the table, in its menu."""
    actions: dict[str, QAction] = {}
    names = list(dict.fromkeys(entry.menu for entry in ACTIONS))
    menus = {
        name: window.menuBar().addMenu(words)
        for name, words in zip(names, with_letters(names), strict=True)
    }
    for entry in ACTIONS:
        action = QAction(entry.text, window)
        action.setObjectName(entry.name)
        keys = f" ({entry.keys[0]})" if entry.keys else ""
        action.setToolTip(f"{entry.tip}{keys}")
        if entry.toggles:
            action.setCheckable(True)
            action.setShortcuts([QKeySequence(k) for k in entry.keys])
            action.toggled.connect(getattr(window, entry.name))
        elif entry.name == "choose":
            _make_choices(window, entry)
            action.triggered.connect(lambda: window.choose(0))
        else:
            action.setShortcuts([QKeySequence(k) for k in entry.keys])
            action.triggered.connect(lambda _=False, name=entry.name: getattr(window, name)())
        menus[entry.menu].addAction(action)
        window.addAction(action)
        actions[entry.name] = action
        if entry.name == "open_embedded":
            window.recent_menu = menus["File"].addMenu("Open recent")
            window.recent_menu.aboutToShow.connect(window._fill_recent)
        elif entry.name == "save_layout":
            window.layouts_menu = menus["View"].addMenu("Own layouts")
            window.layouts_menu.aboutToShow.connect(window.fill_layouts)
        elif entry.name == "save_picture":
            _add_panels(menus["File"].addMenu("Save figure of a panel"), window, window._save_panel)
        elif entry.name == "save_animation":
            _add_panels(menus["File"].addMenu("Save animation of a panel"), window, window._film)
        elif entry.name == "white_figures":
            menus["File"].addSeparator()
    python_menu = menus["Edit"].addMenu("Copy as Python")
    for panel in window.panels:
        if type(panel).python is not Panel.python:
            python_menu.addAction(panel.title, lambda p=panel: window.copy_panel(p))
    _make_theme_menu(window, menus["View"])
    menus["View"].addSeparator()
    for dock in window.docks.values():
        menus["View"].addAction(dock.toggleViewAction())
    window.transport.add_actions([actions[name] for name in TRANSPORT])
    for menu in menus.values():
        own = [a for a in menu.actions() if not a.isSeparator()]
        for action, words in zip(own, with_letters(a.text() for a in own), strict=True):
            action.setText(words)
    return actions


def _add_panels(menu: QMenu, window: Window, act: Callable[[Panel], None]) -> None:
    """A row for each panel."""
    for panel in window.panels:
        menu.addAction(f"{panel.title}…", lambda p=panel: act(p))


def _make_choices(window: Window, entry: Action) -> None:
    """A key for each of the likeliest next tokens."""
    for rank, key in enumerate(entry.keys):
        shortcut = QShortcut(QKeySequence(key), window)
        shortcut.activated.connect(lambda rank=rank: window.choose(rank))


def _make_theme_menu(window: Window, view: QMenu) -> None:
    menu, group = view.addMenu("Theme"), QActionGroup(window)
    for name, words in (("system", "As the system"), ("dark", "Dark"), ("light", "Light")):
        action = menu.addAction(words, lambda n=name: window.choose_theme(n))
        action.setCheckable(True)
        action.setChecked(name == window._wanted_theme)
        group.addAction(action)
