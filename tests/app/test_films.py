"""Animations of docks and of the window, read back by what did not write them."""

import builtins
import contextlib
import errno
import io
import itertools

import av
import numpy as np
import pytest
from PySide6.QtWidgets import QDialog, QProgressDialog, QPushButton

import goose_viz as gv
from goose_app import film as films
from goose_app.film import film
from goose_app.film_dialog import FilmDialog
from goose_app.filming import Plan, _pixels
from goose_app.pictures import painted

from .conftest import save_as


def read(path):
    """(pictures, frames a second, codec) of an animation."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        pictures = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        return pictures, float(stream.average_rate), stream.codec.name


def asked(monkeypatch, plan):
    """Whoever is asked says this."""
    monkeypatch.setattr(FilmDialog, "exec", lambda self: QDialog.DialogCode.Accepted)
    monkeypatch.setattr(FilmDialog, "plan", plan)


def take(driver, panel):
    window = driver.window
    window.save_animation() if panel is None else window._film(panel)
    driver.wait(lambda: window.filming is None)
    driver.settle()


def write(path, pictures, rate=10):
    with film(path, rate) as add:
        for picture in pictures:
            add(picture)


def failing():
    yield from squares(1)
    raise KeyError


def squares(n, h=61, w=81):
    """A square that moves over a ground, a picture each."""
    for i in range(n):
        picture = np.full((h, w, 3), 30, np.uint8)
        picture[20:40, 4 * i : 4 * i + 16] = (200, 50, 10 * i)
        yield picture


@pytest.mark.parametrize("ending", films.ENDINGS)
def test_what_is_written_is_what_was_given(ending, tmp_path):
    path = tmp_path / f"x{ending}"
    write(path, squares(12), 20)
    pictures, rate, codec = read(path)
    assert (len(pictures), rate) == (12, 20)
    assert codec == {".gif": "gif", ".mp4": "h264", ".webm": "vp9"}[ending]
    for got, given in zip(pictures, squares(12), strict=True):
        assert np.abs(got[:61, :81].astype(int) - given).mean() < 2
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", films.ENDINGS)
def test_one_picture_is_an_animation_too(ending, tmp_path):
    path = tmp_path / f"x{ending}"
    write(path, squares(1))
    assert len(read(path)[0]) == 1


@pytest.mark.parametrize("ending", films.ENDINGS)
def test_what_fails_leaves_the_old_file(ending, tmp_path):
    path = tmp_path / f"x{ending}"
    path.write_bytes(b"old")
    with pytest.raises(KeyError):
        write(path, failing())
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", films.ENDINGS)
def test_a_full_disk_says_so_and_leaves_the_old_file(ending, tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, content):
            if self.tell() + len(content) > 300:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content)

    def opened(path, mode="r", *_args, **_more):
        return Full(path, mode.replace("b", ""))

    path = tmp_path / f"x{ending}"
    path.write_bytes(b"old")
    monkeypatch.setattr("pathlib.Path.open", opened)
    with pytest.raises(OSError, match="No space left"):
        write(path, squares(12))
    assert path.read_bytes() == b"old"


def test_other_endings_are_told(tmp_path):
    with (
        pytest.raises(ValueError, match=r"ends in \.gif, \.mp4 or \.webm"),
        film(tmp_path / "x.avi", 10),
    ):
        pass


@pytest.mark.parametrize(("ending", "package"), [(".gif", "PIL"), (".mp4", "av")])
def test_what_is_not_installed_is_named(ending, package, tmp_path, monkeypatch):
    there = builtins.__import__

    def barred(name, *more, **others):
        if name.split(".")[0] == package:
            raise ImportError
        return there(name, *more, **others)

    monkeypatch.setattr(builtins, "__import__", barred)
    with (
        pytest.raises(ValueError, match=r"goose-viz\[animation\]"),
        film(tmp_path / f"x{ending}", 9),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_dock_over_tokens(driver, tmp_path, monkeypatch):
    driver.write(20)
    driver.settle()
    window, panel = driver.window, driver.window.state
    before = window.picture.position
    asked(monkeypatch, Plan(3, 15, 4, 5))
    path = tmp_path / "state.gif"
    save_as(monkeypatch, path)
    take(driver, panel)
    pictures, rate, _ = read(path)
    assert (len(pictures), rate) == (4, 5)
    assert window.picture.position == before
    assert not window.running
    for place, got in zip((3, 7, 11, 15), pictures, strict=True):
        window.goto(place)
        driver.at(place)
        driver.settle()
        shown = _pixels(painted(panel, panel.size(), 1))
        assert got.shape == shown.shape
        assert np.abs(got.astype(int) - shown).mean() < 1.5, place
    assert np.abs(pictures[0].astype(int) - pictures[3]).mean() > 1.5


@pytest.mark.parametrize("theme", ["dark", "system"])
def test_the_window_in_the_colours_for_paper(driver, tmp_path, monkeypatch, theme):
    driver.window.choose_theme(theme)
    asked(monkeypatch, Plan(1, 3, light=True))
    path = tmp_path / "all.mp4"
    save_as(monkeypatch, path)
    take(driver, None)
    pictures, _, _ = read(path)
    assert len(pictures) == 3
    assert pictures[0].shape == (1000, 1600, 3)
    assert np.median(pictures[2]) > 230
    assert driver.window.text.theme.name == "dark"


def test_a_dock_that_nobody_sees_is_shown(driver, tmp_path, monkeypatch):
    window = driver.window
    assert not window.health.isVisible()
    asked(monkeypatch, Plan(1, 4))
    path = tmp_path / "health.webm"
    save_as(monkeypatch, path)
    take(driver, window.health)
    pictures, _, _ = read(path)
    assert len(pictures) == 4
    assert any((pictures[0] != p).any() for p in pictures[1:])


def test_cancelling_leaves_the_old_file_and_the_cursor(driver, tmp_path, monkeypatch):
    driver.write(30)
    window = driver.window
    before = window.picture.position
    path = tmp_path / "text.gif"
    path.write_bytes(b"old")
    asked(monkeypatch, Plan(1, before))
    save_as(monkeypatch, path)
    window._film(window.text)
    driver.wait(lambda: window.picture.position == 3)
    window.filming._box.findChild(QPushButton).click()
    driver.settle()
    assert window.filming is None
    assert window.picture.position == before
    assert path.read_bytes() == b"old"
    assert [p for p in tmp_path.iterdir() if p.suffix == ".part"] == []


def test_cancelling_while_the_box_is_told_how_far_it_is(driver, tmp_path, monkeypatch):
    """A modal box serves clicks while it is told: most of them come just then."""
    driver.write(20)
    window = driver.window
    before = window.picture.position
    asked(monkeypatch, Plan(1, before))
    save_as(monkeypatch, tmp_path / "text.gif")
    told, tell = [], QProgressDialog.setValue

    def click(box, value):
        tell(box, value)
        told.append(value)
        if value == 3:
            box.findChild(QPushButton).click()

    monkeypatch.setattr(QProgressDialog, "setValue", click)
    window._film(window.text)
    driver.wait(lambda: window.filming is None)
    driver.settle()
    assert told[-1] == 3
    assert window.picture.position == before
    assert not list(tmp_path.glob("*text.gif*"))


@pytest.mark.parametrize("where", ["a picture", "the end"])
@pytest.mark.parametrize(
    ("fault", "said"),
    [(MemoryError(), "not enough free memory"), (OSError("the disk is gone"), "the disk is gone"),
     (RuntimeError("odd"), "RuntimeError: odd")],
)  # fmt: skip
def test_whatever_goes_wrong_everything_is_put_back(
    driver, tmp_path, monkeypatch, where, fault, said
):
    @contextlib.contextmanager
    def failing(path, rate):
        def add(pixels):
            if where == "a picture":
                raise fault

        yield add
        raise fault

    driver.write(10)
    window = driver.window
    before = window.picture.position
    monkeypatch.setattr("goose_app.filming.film", failing)
    asked(monkeypatch, Plan(1, 4, light=True))
    save_as(monkeypatch, tmp_path / "x.mp4")
    take(driver, window.text)
    assert said in window.message_bar.text()
    assert window.picture.position == before
    assert window.text.theme.name == "dark"
    assert not [b for b in window.findChildren(QProgressDialog) if b.isVisible()]


def test_closing_the_window_in_the_midst_leaves_nothing(driver, tmp_path, monkeypatch):
    driver.write(10)
    window, folder = driver.window, tmp_path / "here"
    folder.mkdir()
    asked(monkeypatch, Plan(1, 10))
    save_as(monkeypatch, folder / "text.mp4")
    window._film(window.text)
    driver.wait(lambda: window.picture.position == 2)
    window.close()
    assert list(folder.iterdir()) == []


def test_what_cannot_be_is_told_in_the_window(driver, tmp_path, monkeypatch):
    window = driver.window
    asked(monkeypatch, Plan(1, 4))
    save_as(monkeypatch, tmp_path / "none" / "x.mp4")
    window._film(window.decay)
    assert window.filming is None
    assert "none" in window.message_bar.text()
    monkeypatch.setattr("goose_app.filming.MOST_OF_A_GIF", 1000)
    save_as(monkeypatch, tmp_path / "x.gif")
    window._film(window.decay)
    assert "too much for a GIF" in window.message_bar.text()
    assert window.filming is None
    driver.settle()


def test_without_a_text_there_is_nothing_to_show(open_window):
    driver = open_window(wait=False)
    driver.window._film(driver.window.decay)
    assert "no text" in driver.window.message_bar.text()
    driver.settle()


def test_the_dialog(qtbot):
    dialog = FilmDialog(None, "Decay", 1000)
    qtbot.addWidget(dialog)
    assert dialog.plan == Plan(801, 1000, 1, 10)
    assert dialog.sum.text() == "200 pictures, 20.0 s"
    dialog.first.setValue(900)
    dialog.last.setValue(100)
    dialog.every.setValue(100)
    assert list(dialog.plan.places) == [*range(100, 901, 100)]
    assert dialog.sum.text() == "9 pictures, 0.9 s"
    few = FilmDialog(None, "Decay", 1)
    qtbot.addWidget(few)
    assert (few.plan.first, few.plan.last) == (1, 1)
    assert few.sum.text() == "1 picture, 0.1 s"


def test_a_recorded_run(open_window, tmp_path, monkeypatch):
    gv.record(gv.load_model(), "Once upon a time", 8, tmp_path / "run.zarr")
    driver = open_window(str(tmp_path / "run.zarr"))
    asked(monkeypatch, Plan(2, 8, 2))
    path = tmp_path / "decay.mp4"
    save_as(monkeypatch, path)
    take(driver, driver.window.decay)
    assert len(read(path)[0]) == 4


def test_the_other_run_goes_along(driver, tmp_path, monkeypatch):
    window = driver.window
    driver.write(12)
    window.look_compare()
    window.companion.begin(None, "A cat sat on the mat", gv.Sampler(), 20)
    driver.settle()
    asked(monkeypatch, Plan(1, 13, 3))
    path = tmp_path / "other.gif"
    save_as(monkeypatch, path)
    take(driver, window.other_next)
    pictures, _, _ = read(path)
    assert len(pictures) == 5
    assert all((a != b).any() for a, b in itertools.pairwise(pictures))
