"""Write pictures one after another as a GIF, an MP4 or a WebM; no Qt here."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.files import whole_file

#: A picture: height, width, and red, green, blue as bytes.
Pixels = NDArray[np.uint8]
Add = Callable[[Pixels], None]

ENDINGS = (".gif", ".mp4", ".webm")
MOST_OF_A_GIF = 150_000_000  # pixels of all its pictures: Pillow has them in memory at its end
_SAMPLES = 16  # pictures that a GIF's 256 colours are chosen from
# what browsers and players know: a codec, and its quality (crf: less is better)
_CODECS: dict[str, tuple[str, dict[str, str]]] = {
    ".mp4": ("libx264", {"crf": "18"}),
    ".webm": ("libvpx-vp9", {"crf": "24", "b": "0", "cpu-used": "4", "row-mt": "1"}),
}


def missing_writer(path: Path) -> str:
    """What has to be installed to write an animation of this name, in words; empty if nothing."""
    try:
        if path.suffix.lower() == ".gif":
            import PIL.Image  # noqa: F401
        else:
            import av  # noqa: F401
    except ImportError:
        return (
            f"a {path.suffix.lower()} needs packages that are not here: "
            "pip install 'goose-viz[animation]'"
        )
    return ""


@contextmanager
def film(path: Path, rate: int) -> Iterator[Add]:
    """An animation that takes its name when it is whole.

    Parameters
    ----------
    path : Path
        Its ending is one of `ENDINGS`.
    rate : int
        Pictures a second; a GIF counts in hundredths of a second, of which it takes two at least.

    Yields
    ------
    callable (Pixels) -> None
        Takes the next picture.  All are as large as the first; of an odd width or height a video
        repeats the last column or row, which its colours need.

    Raises
    ------
    ValueError
        If the ending is another, or what writes it is not installed.
    OSError
        If it cannot be written; an older file of the name is untouched then.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"{path.name}: an animation's name ends in .gif, .mp4 or .webm")
    if words := missing_writer(path):
        raise ValueError(words)
    writer = _gif if ending == ".gif" else _video
    made = io.BytesIO()  # a codec that cannot write on the disk hides why
    with whole_file(path) as file:
        with writer(made, rate, ending) as add:
            yield add
        file.write(made.getbuffer())


@contextmanager
def _video(file: IO[bytes], rate: int, ending: str) -> Iterator[Add]:
    import av

    codec, options = _CODECS[ending]
    with av.open(file, "w", format=ending[1:]) as container:
        stream: Any = container.add_stream(codec, rate, options=dict(options))
        stream.pix_fmt = "yuv420p"  # of the others many players know nothing

        def add(pixels: Pixels) -> None:
            h, w = pixels.shape[:2]
            even = np.pad(pixels, ((0, h % 2), (0, w % 2), (0, 0)), "edge")
            if not stream.codec_context.is_open:
                stream.height, stream.width = even.shape[:2]
            for packet in stream.encode(av.VideoFrame.from_ndarray(even, "rgb24")):
                container.mux(packet)

        yield add
        for packet in stream.encode():
            container.mux(packet)


@contextmanager
def _gif(file: IO[bytes], rate: int, ending: str) -> Iterator[Add]:
    from PIL import Image

    packed: list[bytes] = []  # plots are mostly one colour: a thirtieth of their size
    shape: list[int] = []

    def add(pixels: Pixels) -> None:
        shape[:] = pixels.shape
        packed.append(zlib.compress(np.ascontiguousarray(pixels).data, 1))

    yield add

    def picture(i: int) -> Image.Image:
        flat = np.frombuffer(zlib.decompress(packed[i]), np.uint8)
        return Image.fromarray(flat.reshape(shape))

    # one table of colours for all, or still places would flicker and be written again
    chosen = np.unique(np.linspace(0, len(packed) - 1, min(_SAMPLES, len(packed))).astype(int))
    sample = Image.fromarray(np.concatenate([np.asarray(picture(i)) for i in chosen]))
    table = sample.quantize(256, method=Image.Quantize.FASTOCTREE)
    frames = (
        picture(i).quantize(palette=table, dither=Image.Dither.NONE) for i in range(len(packed))
    )
    shown = 10 * max(2, round(100 / rate))  # ms, of which the format has tens
    next(frames).save(
        file, "GIF", save_all=True, append_images=frames, duration=shown, loop=0, optimize=False
    )
