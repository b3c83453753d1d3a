"""What the window remembers from one start to the next."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QSettings

#: Key -> the value there is at first.  The type of that value is the type that comes back.
DEFAULTS: dict[str, Any] = {
    "geometry": b"",
    "perspective": "watch",
    "own perspectives": [],
    "recent": [],
    "welcomed": False,
    "theme": "system",
    "stop at end": False,
    "white figures": True,
    "temperature": 1.0,
    "top_p": 0.85,
    "seed": 1,
    "folder": "",
}
#: The same by a key's first word, for one of each perspective.
_EACH: dict[str, Any] = {"docks": b"", "colouring": 0}
_RECENT = 8


class Settings:
    """The table above, kept by Qt where the system keeps such things."""

    def __init__(self) -> None:
        self._store = QSettings(
            QSettings.defaultFormat(), QSettings.Scope.UserScope, "goose-viz", "goose-viz"
        )

    def __getitem__(self, key: str) -> Any:
        default = _default(key)
        value = self._store.value(key, default)
        if isinstance(default, bytes):
            return bytes(value.data()) if hasattr(value, "data") else bytes(value or b"")
        if isinstance(default, list):
            return [value] if isinstance(value, str) else list(value or [])
        if isinstance(default, bool):
            return value in (True, "true")
        try:
            return type(default)(value)
        except (TypeError, ValueError):
            return default  # a file from another version

    def __setitem__(self, key: str, value: Any) -> None:
        _default(key)  # there is such a thing
        self._store.setValue(key, value)

    def remember_model(self, path: str) -> None:
        """Put a path first among the recent ones."""
        others = [p for p in self["recent"] if p != path]
        self["recent"] = [path, *others][:_RECENT]


def _default(key: str) -> Any:
    """What is there at first."""
    return DEFAULTS[key] if key in DEFAULTS else _EACH[key.split(" ")[0]]
