"""The window of Goose Viz.  The only package that imports Qt."""

import os

# pyqtgraph asks the environment, then what is imported; other programs' choice is not ours
os.environ["PYQTGRAPH_QT_LIB"] = "PySide6"


def __getattr__(name: str) -> object:
    """``show`` and ``Viewer``, once somebody asks: Qt takes its time."""
    if name in ("show", "Viewer"):
        from goose_app import viewer

        return getattr(viewer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
