"""The window of Goose Viz.  The only package that imports Qt."""

import os

# pyqtgraph asks the environment, then what is imported; other programs' choice is not ours
os.environ["PYQTGRAPH_QT_LIB"] = "PySide6"
