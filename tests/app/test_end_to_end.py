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
    def __init__(self, folder, welcomed=True, size="1600x1000"):
        self.folder = folder
        config = folder / "config" / "goose-viz"
        config.mkdir(parents=True)
        (config / "goose-viz.conf").write_text(f"[General]\nwelcomed={str(welcomed).lower()}\n")
        read, write = os.pipe()
        self.server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{size}x24", "-nolisten", "tcp",
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

    # a click on a thumbnail at the left of the lower middle chooses its head:
    # the state panel in the upper middle shows another matrix then
    before = grab(s)
    s.do("mousemove", "--window", s.window, 660, 700, "click", 1)
    time.sleep(0.6)
    after = grab(s)
    state_panel = (slice(90, 520), slice(490, 920))
    assert (before[state_panel] != after[state_panel]).mean() > 0.2

    s.key("ctrl+q")
    s.app.wait(timeout=20)
    assert s.app.returncode == 0
    assert s.app.stderr.read() == ""


TOM = "Tom had a red ball. Sue had a blue cup. Tom played with his red"
BALL = 233, 157  # where the text has “ ball”
NEXT_TOKEN = slice(385, 610), slice(490, 1590)  # where the bars are
BRANCHES = slice(705, 910), slice(5, 470)
REMEMBER = slice(510, 690), slice(5, 470)


def changed(before, after, place):
    return float((before[place] != after[place]).mean())


def test_why_forget_replace_edit_and_back_by_hand(screen):
    """All that one does in the Why perspective, by keys and mouse; snapshots tell what came."""
    s = screen
    s.open()
    s.key("ctrl+l")
    s.do("type", "--delay", "20", TOM)
    s.key("ctrl+Return", "F6")
    time.sleep(1.5)
    before = s.export("before.npz")
    assert before.position == 18

    # forget, undo, redo
    s.do("mousemove", "--window", s.window, *BALL)
    time.sleep(0.3)
    at_first = grab(s)
    s.key("x")
    time.sleep(0.7)
    forgot = s.export("forgot.npz")
    (edit,) = forgot.metadata["edits"]
    assert (edit["kind"], edit["position"], edit["token"]) == ("Forget", 17, 5)
    assert forgot.tokens == before.tokens
    assert (forgot.state.wkv != before.state.wkv).any()
    looked = grab(s)
    assert changed(at_first, looked, NEXT_TOKEN) > 0.02, "before and after"
    assert changed(at_first, looked, BRANCHES) > 0.005, "another branch"
    s.key("ctrl+z")
    time.sleep(0.3)
    undone = s.export("undone.npz")
    assert "edits" not in undone.metadata
    np.testing.assert_array_equal(undone.state.wkv, before.state.wkv)
    s.key("ctrl+shift+z")
    time.sleep(0.5)
    redone = s.export("redone.npz")
    np.testing.assert_array_equal(redone.state.wkv, forgot.state.wkv)
    s.key("ctrl+z")

    # replace, and a true run beside it
    s.do("mousemove", "--window", s.window, *BALL)
    time.sleep(0.3)
    s.key("r")
    dialog = s.wait(lambda: s.find("Replace in the memory"), "the dialog")[0]
    s.do("windowfocus", "--sync", dialog)
    s.key("ctrl+a")
    s.do("type", "--clearmodifiers", " car")
    s.key("Return")
    time.sleep(0.7)
    s.do("windowfocus", "--sync", s.window)
    replaced = s.export("replaced.npz")
    (edit,) = replaced.metadata["edits"]
    assert (edit["kind"], edit["start"], edit["stop"]) == ("Replace", 5, 6)
    assert edit["tokens"] == " car"
    two = grab(s)
    s.do("mousemove", "--window", s.window, 1538, 600, "click", 1)  # beside a true run
    time.sleep(0.8)
    assert changed(two, grab(s), NEXT_TOKEN) > 0.02, "three columns"
    s.key("ctrl+z")

    # another edit, in its dialog
    s.key("e")
    dialog = s.wait(lambda: s.find("Edit the memory"), "the dialog")[0]
    s.do("windowfocus", "--sync", dialog)
    s.key("Return")
    time.sleep(0.5)
    s.key("Escape")
    s.do("windowfocus", "--sync", s.window)
    emptied = s.export("emptied.npz")
    (edit,) = emptied.metadata["edits"]
    assert (edit["kind"], edit["layer"], edit["head"]) == ("Zero", 3, 1)

    # what a head reads now, instead of what it holds; then the first branch again
    was = grab(s)
    s.do("mousemove", "--window", s.window, 90, 501, "click", 1)
    time.sleep(0.4)
    assert changed(was, grab(s), REMEMBER) > 0.002
    s.do("mousemove", "--window", s.window, 120, 731, "click", 1)
    time.sleep(0.6)
    back = s.export("back.npz")
    assert "edits" not in back.metadata
    np.testing.assert_array_equal(back.state.wkv, before.state.wkv)

    # why an expected word, and which words of the text it comes from
    s.do("mousemove", "--window", s.window, 700, 459)  # the third candidate
    time.sleep(0.3)
    was = grab(s)
    s.key("w")
    time.sleep(0.6)
    assert changed(was, grab(s), (slice(40, 380), slice(490, 1590))) > 0.01
    s.key("ctrl+q")
    s.app.wait(timeout=20)
    assert s.app.returncode == 0
    assert s.app.stderr.read() == ""


def test_the_first_start_welcomes_and_the_tour_is_a_key_away(tmp_path):
    s = Screen(tmp_path, welcomed=False)
    try:
        s.open()
        page = s.wait(lambda: s.find("Welcome"), "the page")[0]
        s.do("windowfocus", "--sync", page)
        s.key("Return")  # its first choice
        s.wait(lambda: not s.find("Welcome"), "the page to close")
        s.do("windowfocus", "--sync", s.window)
        time.sleep(1.5)
        card = slice(430, 560), slice(15, 470)
        first = grab(s)
        assert changed(first, np.zeros_like(first), card) == 1
        for _ in range(4):
            s.do("mousemove", "--window", s.window, *next_button(first), "click", 1)
            time.sleep(1.5)
            first = grab(s)
        end = s.export("end.npz")
        (edit,) = end.metadata["edits"]
        assert (edit["kind"], edit["tokens"]) == ("Replace", " car")
        assert end.text == TOM
        s.do("mousemove", "--window", s.window, *next_button(first), "click", 1)
        time.sleep(0.5)
        assert next_button(grab(s)) is None, "done"
        s.key("ctrl+q")
        s.app.wait(timeout=20)
        assert s.app.returncode == 0
    finally:
        s.close()


def next_button(pixels):
    """Where the tour's card has its last button: above its lower right corner."""
    accent = (pixels & 0xFFFFFF) == 0xFFB347
    # the card's lower border: a long line of the accent's colour
    for y in np.flatnonzero(accent.any(1))[::-1]:
        x = np.flatnonzero(accent[y])
        runs = np.split(x, np.flatnonzero(np.diff(x) > 1) + 1)
        run = max(runs, key=len)
        if 300 < len(run) < 430:
            return int(run[-1]) - 50, int(y) - 22
    return None


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


def test_the_keyboard_alone_by_real_keys(screen):
    s = screen
    s.open()
    begun = s.export("begun.npz").position
    s.key("alt+r", "s")  # a menu and a letter of it
    s.key("F10", "Right", "s")  # the menus, the second one
    s.key("3", "1")
    stepped = s.export("stepped.npz")
    assert stepped.position == begun + 4
    s.do("key", "--delay", "120", *("End", *("Left", "Left", "Right") * 8))
    time.sleep(1.0)
    back = s.export("back.npz")
    assert back.position == max(begun + 4 - 8, 0)
    assert back.tokens == stepped.tokens[: back.position]
    s.key("End", "comma", "comma", "x")  # the word before the last is forgotten
    time.sleep(0.5)
    forgot = s.export("forgot.npz")
    assert len(forgot.metadata["edits"]) == 1
    assert forgot.tokens == stepped.tokens
    s.key("ctrl+z")
    time.sleep(0.5)
    undone = s.export("undone.npz")
    assert "edits" not in undone.metadata
    np.testing.assert_array_equal(undone.state.wkv, stepped.state.wkv)
    s.key("ctrl+q")
    s.app.wait(timeout=20)
    assert s.app.stderr.read() == ""


def test_the_first_window_on_a_small_screen(tmp_path):
    s = Screen(tmp_path, size="1366x768")
    try:
        window = s.wait(lambda: s.find("stories-7M"), "the window")[0]
        time.sleep(0.5)
        words = s.do("getwindowgeometry", "--shell", window)
        shape = dict(line.split("=") for line in words.split())
        assert int(shape["WIDTH"]) <= 1366
        assert int(shape["HEIGHT"]) <= 768
        assert int(shape["WIDTH"]) > 1200, "what there is, is used"
    finally:
        s.close()


def test_perspectives_commands_and_stops_by_real_keys(screen):
    """F7 to F9, the palette, a pinned word, and a run that ends where it was told to."""
    s = screen
    s.open()
    s.key("ctrl+l")
    s.do("type", "--delay", "20", TOM)
    s.key("ctrl+Return")
    time.sleep(0.7)
    looks = []
    for key in ("F7", "F8", "F9"):
        s.key(key)
        time.sleep(1.2)
        looks.append(grab(s))
    whole = slice(None)
    assert changed(looks[0], looks[1], whole) > 0.05
    assert changed(looks[1], looks[2], whole) > 0.05
    s.key(*["comma"] * 13, "p")  # the earlier “ball”
    time.sleep(1.0)
    pinned = grab(s)
    assert changed(looks[2], pinned, whole) > 0.003
    s.key("ctrl+shift+p")
    palette = s.wait(lambda: s.find("Commands"), "the palette")[0]
    s.do("windowfocus", "--sync", palette)  # there is no window manager here
    s.do("type", "--delay", "20", "next head")
    s.key("Return")
    s.wait(lambda: not s.find("Commands"), "the palette to close")
    s.do("windowfocus", "--sync", s.window)
    s.key("ctrl+b")
    s.do("type", "--delay", "20", 'token == " day"')
    s.key("Return", "space")
    time.sleep(2.0)
    stopped = s.export("stopped.npz")
    day = gv.load_model().tokenizer.encode(" day")
    assert stopped.tokens[-1:] == day
    assert day[0] not in stopped.tokens[:-1]
    s.key("Home", "ctrl+Right")
    time.sleep(0.5)
    there = s.export("there.npz")
    assert there.position == stopped.position
    assert (there.state.wkv == stopped.state.wkv).all()
