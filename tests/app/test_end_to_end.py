"""The real window on a real (virtual) X server, driven by real keys and a real mouse."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

import goose_viz as gv

pytestmark = pytest.mark.skipif(
    not (shutil.which("Xvfb") and shutil.which("xdotool")),
    reason="needs Xvfb and xdotool (Debian: apt-get install xvfb xdotool)",
)


class Screen:
    def __init__(self, folder):
        self.folder = folder
        read, write = os.pipe()
        self.server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write), "-screen", "0", "1600x1000x24", "-nolisten", "tcp",
             "-noreset"],  # or the server starts anew whenever xdotool has come and gone
            pass_fds=[write], stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(write)
        with os.fdopen(read) as numbers:  # the whole line, or the server dies of a closed pipe
            self.display = ":" + numbers.readline().strip()
        self.environment = os.environ | {
            "DISPLAY": self.display, "QT_QPA_PLATFORM": "xcb", "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
        }  # fmt: skip
        # numba's cache stays where it is: HOME has no say for files in a checkout
        self.app = subprocess.Popen(
            [sys.executable, "-m", "goose_app", "--theme", "dark"],
            env=self.environment, cwd=folder, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def do(self, *words):
        done = subprocess.run(["xdotool", *map(str, words)], env=self.environment, timeout=60,
                              capture_output=True, text=True, check=True)  # fmt: skip
        return done.stdout.strip()

    def key(self, *names):
        for name in names:
            self.do("key", "--clearmodifiers", name)
            time.sleep(0.15)

    def title(self):
        try:
            return self.do("getwindowname", self.do("getactivewindow"))
        except subprocess.CalledProcessError:
            return ""

    def find(self, name):
        try:
            return self.do("search", "--onlyvisible", "--name", name).split()
        except subprocess.CalledProcessError:
            return []

    def wait(self, done, what, seconds=90):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.app.poll() is None, self.app.stderr.read()
            if found := done():
                return found
            time.sleep(0.1)
        raise AssertionError(f"waited in vain for {what}")

    def open(self):
        """Wait for the window, put it in its place and give it the keys."""
        self.window = self.wait(lambda: self.find("stories-7M"), "the window")[0]
        self.do("windowmove", self.window, 0, 0)
        self.do("windowsize", "--sync", self.window, 1600, 1000)
        self.do("windowfocus", "--sync", self.window)
        time.sleep(0.5)

    def export(self, name):
        """Ctrl+E, a name, Return: the file as it was written."""
        path = self.folder / name
        self.key("ctrl+e")
        dialog = self.wait(lambda: self.find("Export snapshot"), "the dialog")[0]
        self.do("windowfocus", "--sync", dialog)
        self.key("ctrl+a")
        self.do("type", "--clearmodifiers", str(path))
        self.key("Return")
        self.wait(path.exists, f"the file {name}")
        self.wait(lambda: not self.find("Export snapshot"), "the dialog to close")
        self.do("windowfocus", "--sync", self.window)
        return gv.load_snapshot(path)

    def close(self):
        if self.app.poll() is None:
            self.app.kill()
        self.app.communicate()
        self.server.terminate()
        self.server.wait()


@pytest.fixture
def screen(tmp_path):
    s = Screen(tmp_path)
    yield s
    s.close()


def test_prompt_run_pause_step_back_choose_export(screen):
    s = screen
    s.open()

    s.key("ctrl+l")  # into the prompt, all selected
    s.do("type", "--delay", "20", "The fox and the hen were friends.")
    s.key("ctrl+Return")
    time.sleep(0.5)
    begun = s.export("begun.safetensors")
    assert begun.text == "The fox and the hen were friends."

    s.key("space")
    time.sleep(1.0)
    s.key("space")
    time.sleep(0.3)
    written = s.export("written.safetensors")
    assert written.position > begun.position + 20
    assert written.text.startswith(begun.text)

    s.key("Right", "Right", "Right")
    stepped = s.export("stepped.npz")
    assert stepped.position == written.position + 3
    s.key("Left")
    back = s.export("back.npz")
    assert back.position == written.position + 2
    assert back.tokens == stepped.tokens[:-1]

    # The same run without a window, bit for bit.  In a process of its own: in one that compiles the
    # kernels they round otherwise, in the last bit, than in those that find them in numba's cache.
    code = (
        "import sys, goose_viz as gv;"
        "session = gv.Session(gv.load_model(), gv.Sampler(seed=1));"
        "session.feed(sys.argv[1]);"
        "list(session.run(int(sys.argv[2]) - session.position));"
        "gv.save_snapshot(sys.argv[3], session)"
    )
    alone = screen.folder / "alone.npz"
    subprocess.run([sys.executable, "-c", code, begun.text, str(back.position), alone], check=True)
    session = gv.load_snapshot(alone)
    assert session.tokens == back.tokens
    for name, array in session.state.arrays().items():
        np.testing.assert_array_equal(array, back.arrays[name])

    # a click on a thumbnail at the right of the lower middle chooses its head:
    # the state panel in the upper middle shows another matrix then
    before = grab(s)
    s.do("mousemove", "--window", s.window, 900, 680, "click", 1)
    time.sleep(0.6)
    after = grab(s)
    state_panel = (slice(90, 520), slice(490, 920))
    assert (before[state_panel] != after[state_panel]).mean() > 0.2

    s.key("ctrl+q")
    s.app.wait(timeout=20)
    assert s.app.returncode == 0
    assert s.app.stderr.read() == ""


def test_why_forget_undo(screen):
    s = screen
    s.open()
    s.key("ctrl+l")
    s.do("type", "--delay", "20", "Tom had a red ball. Sue had a blue cup. Tom played with his red")
    s.key("ctrl+Return")
    s.key("F6")
    time.sleep(1.5)
    before = s.export("before.npz")
    assert before.position == 18

    s.do("mousemove", "--window", s.window, 233, 157)  # a word of the first line of the text
    time.sleep(0.3)
    s.key("x")
    time.sleep(0.5)
    after = s.export("after.npz")
    (edit,) = after.metadata["edits"]
    assert edit["kind"] == "Forget"
    assert edit["position"] == 17
    assert 0 < edit["token"] < 12
    assert after.tokens == before.tokens
    assert (after.state.wkv != before.state.wkv).any()

    s.key("ctrl+z")
    time.sleep(0.3)
    undone = s.export("undone.npz")
    assert "edits" not in undone.metadata
    np.testing.assert_array_equal(undone.state.wkv, before.state.wkv)
    s.key("ctrl+q")
    s.app.wait(timeout=20)
    assert s.app.returncode == 0
    assert s.app.stderr.read() == ""


def grab(s):
    """The screen as pixels, by a second process that is a client of the same server."""
    code = (
        "import sys; from PySide6.QtGui import QGuiApplication;"
        "a = QGuiApplication([]); p = a.primaryScreen().grabWindow(0);"
        "p.save(sys.argv[1], 'PNG')"
    )
    path = s.folder / "grab.png"
    subprocess.run(
        [sys.executable, "-c", code, str(path)], env=s.environment, check=True, timeout=60
    )
    from PySide6.QtGui import QImage

    image = QImage(str(path)).convertToFormat(QImage.Format.Format_RGB32)
    raw = np.frombuffer(image.constBits(), np.uint32)
    return raw.reshape(image.height(), image.bytesPerLine() // 4)[:, : image.width()].copy()
