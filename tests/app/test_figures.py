"""Figures and numbers to take home: letters as letters, axes as lines, tables of every dock."""

import base64
import re
import zlib

import numpy as np
import pyarrow.parquet
import pytest
from PySide6.QtGui import QColor, QImage
from PySide6.QtSvg import QSvgRenderer

from goose_app import messages as m
from goose_app.numbers import save_numbers
from goose_app.pictures import PRINT, save_widget
from goose_app.theme import DARK

from .conftest import save_as


@pytest.fixture
def written(driver):
    driver.window.worker.send(m.Run(20))
    driver.at(32)
    driver.wait(lambda: driver.window.worker.at_rest)
    return driver


def svg_of(widget, path):
    save_widget(widget, path)
    return path.read_text()


def letters(svg):
    return re.sub(r"\s+", " ", " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg)))


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_any_panel_as_a_figure(driver, tmp_path, suffix):
    for panel in driver.window.panels:
        path = tmp_path / f"panel{suffix}"
        save_widget(panel, path)
        if suffix == ".png":
            assert QImage(str(path)).size() == panel.size()
        elif suffix == ".svg":
            assert QSvgRenderer(str(path)).isValid()
        else:
            assert path.read_bytes().startswith(b"%PDF")
            assert b"%%EOF" in path.read_bytes()[-32:]
        path.unlink()
    with pytest.raises(ValueError, match=r"ends in \.png, \.svg or \.pdf"):
        save_widget(driver.window, tmp_path / "a.bmp")


def test_a_maps_axes_are_letters_and_its_cells_rectangles(written, tmp_path):
    w = written.window
    svg = svg_of(w.state, tmp_path / "state.svg")
    said = letters(svg)
    for words in ("key channel", "value channel", "16", "56", "+", "RMS"):
        assert words in said
    inside = re.findall(r'<image[^>]*width="([\d.]+)" height="([\d.]+)"', svg)
    assert all(float(height) < 40 for _, height in inside)  # the pixels of Qt's own controls
    S = w.picture.wkv[w.selection.layer, w.selection.head]
    assert svg.count("<rect") > 0.5 * S.size
    size = float(re.search(r'font-size="([\d.]+)"', svg).group(1))
    pixels = w.state.fontInfo().pixelSize()
    assert size == pytest.approx(pixels, abs=1)  # at their size, whatever the screen


def test_the_texts_letters_are_letters(written, tmp_path):
    w = written.window
    said = letters(svg_of(w.text, tmp_path / "text.svg")).replace(" ", "")
    words = "".join(w.run.cells.texts[1:]).replace(" ", "").replace("\n", "")
    assert words[:40] in said.replace("⏎", "")


def test_many_cells_are_an_image_that_nobody_blurs(written, tmp_path):
    """98,304 rectangles would help nobody."""
    w = written.window
    svg = svg_of(w.heads, tmp_path / "heads.svg")
    (content,) = re.findall(r'<image[^>]*base64,([^"]+)"', svg)
    image = QImage.fromData(base64.b64decode(content))
    rows, columns = w.heads.map._indices.shape
    assert (image.width(), image.height()) == (4 * columns, 4 * rows)
    assert "head" in letters(svg)


def test_a_pdf_has_letters_and_a_size_for_print(written, tmp_path):
    w = written.window
    for widget, width in ((w.heads, w.heads.width() * 25.4 / 96), (w, 183.0)):
        save_widget(widget, tmp_path / "a.pdf")
        content = (tmp_path / "a.pdf").read_bytes()
        box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", content)
        mm = [float(x) / 72 * 25.4 for x in box.groups()]
        assert mm[0] == pytest.approx(min(width, 183.0), abs=0.5)
        assert mm[0] / mm[1] == pytest.approx(widget.width() / widget.height(), rel=0.01)
        assert b"/FontFile2" in content
        streams = [zlib.decompressobj().decompress(s) for s in
                   re.findall(rb"FlateDecode\s*>>\s*stream\r?\n(.*?)endstream", content, re.S)
                   if s[:1] == b"\x78"]  # fmt: skip
        assert any(b" Tf" in s for s in streams)  # text is set in a font


def test_a_png_is_fine_enough_for_print(written, tmp_path):
    panel = written.window.decay
    save_widget(panel, tmp_path / "a.png", PRINT)
    image = QImage(str(tmp_path / "a.png"))
    assert image.width() == pytest.approx(panel.width() * PRINT / 96, abs=2)
    assert image.dotsPerMeterX() == pytest.approx(PRINT / 0.0254, rel=0.01)


def test_figures_are_on_white_unless_one_wants_them_dark(written, tmp_path, monkeypatch):
    w = written.window
    shades = []
    for on in (True, False):
        w.actions_by_name["white_figures"].setChecked(on)
        path = tmp_path / f"{on}.png"
        save_as(monkeypatch, path)
        w._save_panel(w.text)
        image = QImage(str(path))
        shades.append(QColor(image.pixel(image.width() // 2, image.height() * 2 // 3)).lightness())
        assert w.text.theme is DARK  # the window is as it was
    assert shades[0] > 200 > 60 > shades[1]


NUMBERS = {
    "watch": ("Text", "State", "All heads", "Decay", "In-context learning rate", "Next token"),
    "why": ("Why", "Remember", "The edit of this token"),
    "look_state": ("Attention map", "Health", "Spectrum"),
}


@pytest.mark.parametrize("perspective", NUMBERS)
def test_every_docks_numbers(written, tmp_path, perspective):
    w = written.window
    getattr(w, perspective)()
    by_title = {p.title: p for p in w.panels}
    for title in NUMBERS[perspective]:
        written.wait(lambda title=title: by_title[title].numbers() != {})
        numbers = by_title[title].numbers()
        for suffix in (".csv", ".npz"):
            save_numbers(numbers, tmp_path / f"a{suffix}")
        with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
            assert len(file.files) == len(numbers)
        if len({np.shape(a) for a in numbers.values()}) > 1:
            with pytest.raises(ValueError, match="several tables"):
                save_numbers(numbers, tmp_path / "a.parquet")
            continue
        save_numbers(numbers, tmp_path / "a.parquet")
        table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
        for name, array in numbers.items():
            found = table[name].to_pylist()
            assert found == np.ravel(array).tolist() or np.array_equal(
                np.array(found, float), np.ravel(array), equal_nan=True
            )


def test_a_row_for_every_token(written):
    w = written.window
    numbers = w.text.numbers()
    assert list(numbers)[:6] == ["token", "id", "text", "generated", "probability", "surprisal"]
    assert len(numbers["text"]) == 32
    assert numbers["generated"].sum() == 20
    s = w.selection
    norms = numbers[f"removed_norm, layer {s.layer} head {s.head}"]
    assert norms[-1] == pytest.approx(w.picture.observed("removed_norm")[s.layer, s.head], rel=1e-6)
    assert (w.state.numbers()[f"layer {s.layer} head {s.head}"]
            == w.picture.wkv[s.layer, s.head]).all()  # fmt: skip


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    save_numbers({"x": np.arange(3)}, path)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        save_numbers({"x": np.arange(9)}, path)
    assert path.read_text() == "x\n0\n1\n2\n"
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
