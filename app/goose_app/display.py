"""Is there a screen, and does Qt find what it needs: answered in a sentence, before Qt aborts."""

from __future__ import annotations

import ctypes
import os
import sys

_PACKAGES = (
    "libegl1 libxkbcommon0 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 "
    "libxcb-shape0 libdbus-1-3 libfontconfig1 libgl1 fonts-dejavu-core"
)
#: What Qt's X11 plugin loads at run time; without one of them it ends the process.
_X11 = ("libxcb-cursor.so.0", "libxcb-icccm.so.4", "libxcb-keysyms.so.1", "libxkbcommon-x11.so.0")


def why_no_screen() -> str | None:
    """Why no window can open here, in words; None if one can."""
    if os.environ.get("QT_QPA_PLATFORM"):
        return None  # somebody has chosen
    if not sys.platform.startswith("linux") or os.environ.get("WAYLAND_DISPLAY"):
        return None
    name = os.environ.get("DISPLAY")
    if not name:
        return "there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    try:
        xcb = ctypes.CDLL("libxcb.so.1")
    except OSError:
        return None  # the missing library is what to tell of
    xcb.xcb_connect.restype = ctypes.c_void_p
    connection = ctypes.c_void_p(xcb.xcb_connect(None, None))
    refused = xcb.xcb_connection_has_error(connection)
    xcb.xcb_disconnect(connection)
    return f"the display {name} does not answer" if refused else None


def missing_library() -> str | None:
    """One sentence on the system library that Qt lacks; None if it lacks none."""
    try:
        import PySide6.QtGui
        import PySide6.QtSvg
        import PySide6.QtWidgets  # noqa: F401
    except ImportError as error:
        return _advise(str(error).split(":")[0])
    wants_x11 = os.environ.get("QT_QPA_PLATFORM", "xcb") == "xcb" and os.environ.get("DISPLAY")
    if sys.platform.startswith("linux") and wants_x11:
        for library in _X11:
            try:
                ctypes.CDLL(library)
            except OSError:
                return _advise(library)
    return None


def _advise(library: str) -> str:
    return (
        f"Qt needs the system library {library}, which is missing; "
        f"on Debian or Ubuntu: sudo apt-get install {_PACKAGES}"
    )


if __name__ == "__main__":  # `make` asks before it runs or tests
    words = missing_library()
    if words:
        sys.exit(f"goose-viz: {words}")
