"""What is there without a screen: pictures, the terminal, sentences."""

import os
import subprocess
import sys

import pytest

from goose_app import display

OFFLINE = {k: v for k, v in os.environ.items()
           if k not in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")}  # fmt: skip


def goose(*words, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, "-m", "goose_app", *words], cwd=cwd, capture_output=True, text=True,
        env=OFFLINE | environment, timeout=280, check=False,
    )  # fmt: skip


def test_screenshot(tmp_path):
    from PySide6.QtGui import QImage

    out = tmp_path / "shot.png"
    done = goose("--screenshot", str(out), "--run", "15")
    assert done.returncode == 0, done.stderr
    assert "15 tokens" in done.stdout
    assert done.stderr == ""
    picture = QImage(str(out))
    assert (picture.width(), picture.height()) == (1600, 1000)


@pytest.mark.parametrize("perspective", ["state", "compare", "study"])
def test_a_picture_of_a_perspective_is_made_when_all_is_answered(tmp_path, perspective):
    from PySide6.QtGui import QImage

    out = tmp_path / "shot.png"
    words = ["--prompt", "Tom had a red ball.", "--perspective", perspective]
    done = goose("--screenshot", str(out), "--run", "3", *words)
    assert (done.returncode, done.stderr) == (0, "")
    picture = QImage(str(out))
    if perspective == "state":  # the attention map is there: its colours are many
        places = ((x, y) for x in range(440, 740, 7) for y in range(460, 750, 7))
        inks = {picture.pixelColor(x, y).rgb() for x, y in places}
        assert len(inks) > 10


def test_without_a_display_it_writes_text_and_a_picture(tmp_path):
    done = goose("--run", "12", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "there is no display" in done.stderr
    assert done.stdout.startswith("Once upon a time, there was a little girl named Lily.")
    assert (tmp_path / "goose-viz.png").stat().st_size > 50_000


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--screenshot", "a.gif"), "ends in .png or .svg"),
        (("--screenshot", "a.png", "--size", "big"), "expected a size like 1600x1000"),
        (("/nowhere/model.pth", "--screenshot", "a.png"), "no such file"),
        (("/nowhere/model.pth",), "no such file"),
        (("generate", "--tokens", "-3"), "greater than or equal to 0"),
        (("--bogus",), "unrecognized arguments"),
        (("generte",), "did you mean generate?"),
    ],
)
def test_mistakes(tmp_path, words, sentence):
    done = goose(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_commands_and_help():
    assert "goose-viz 0.1.0" in goose("--version").stdout
    words = goose("--help").stdout
    for command in ("generate", "export", "info", "check", "--screenshot"):
        assert command in words
    assert "Write on from a prompt" in goose("generate", "--help").stdout


def test_why_no_screen(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    assert "there is no display" in display.why_no_screen()
    monkeypatch.setenv("DISPLAY", ":987")
    assert ":987 does not answer" in display.why_no_screen()
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    assert display.why_no_screen() is None


def test_a_missing_library_is_named_with_its_cure(monkeypatch):
    assert display.missing_library() is None
    monkeypatch.setattr(display, "_X11", ("libnothing.so.7",))
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("QT_QPA_PLATFORM", "xcb")
    words = display.missing_library()
    assert "libnothing.so.7" in words
    assert "apt-get install" in words
