"""Archives of arrays that claim more than they hold."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

import goose_viz as gv
from goose_viz.archives import Archive, read_npy, read_npz
from goose_viz.checkpoint import read_checkpoint
from tests.goose_viz import pth_writer

ARRAYS = {
    "numbers": np.arange(6, dtype=np.float32).reshape(2, 3),
    "turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "none": np.zeros((0, 4), np.int8),
    "one": np.array(3),
    "text": np.array("é – 好"),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_as_numpy_reads_them(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    found = read_npz(tmp_path / "a.npz")
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        assert found[name].flags.writeable
        np.testing.assert_array_equal(found[name], array)
        np.save(tmp_path / "a.npy", array)
        np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), array)


def _header(shape, dtype="<f4"):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out, {"shape": shape, "fortran_order": False, "descr": dtype}
    )
    return out.getvalue()


SHAPES = [(1 << 28,), (1 << 70,), (1 << 33, 1 << 33), (-1,), (-1, -2), (0, 1 << 80), (3,)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_header_that_says_more_makes_no_room(tmp_path, shape):
    content = _header(shape) + bytes(8)
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("wkv.npy", content)
    tracemalloc.start()
    with pytest.raises(ValueError, match="header says"):
        read_npy(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="header says"):
        read_npz(tmp_path / "a.npz")
    with pytest.raises(gv.StateError):
        gv.load_snapshot(tmp_path / "a.npz")
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


def test_what_unpacks_to_far_more_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file:
        header = _header((80 << 20,))
        with file.open("wkv.npy", "w", force_zip64=True) as entry:
            entry.write(header)
            for _ in range(320):
                entry.write(bytes(1 << 20))
    with pytest.raises(gv.StateError, match="unpacks to 335,"):
        gv.load_snapshot(tmp_path / "a.npz")


def _claiming(path, name, size):
    """The directory says of an entry that it has so many bytes; nothing else is altered."""
    content = bytearray(path.read_bytes())
    at = content.rindex(name)  # in the directory, 46 bytes behind its entry's begin
    content[at - 46 + 20 : at - 46 + 28] = struct.pack("<II", size, size)
    path.write_bytes(content)


@pytest.mark.parametrize("entry", ["byteorder", "data.pkl", "data/0"])
def test_an_entry_of_a_checkpoint_that_claims_more(tmp_path, entry):
    path = tmp_path / "a.pth"
    pth_writer.write_tensors(path, {"emb.weight": ("fp32", np.zeros((2, 2), np.float32))})
    with zipfile.ZipFile(path) as file:
        name = next(n for n in file.namelist() if n.endswith(entry))
    _claiming(path, name.encode(), 200 << 20)
    tracemalloc.start()
    with pytest.raises(gv.CheckpointError, match="download it again"):
        read_checkpoint(path)
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()
    with pytest.raises(zipfile.BadZipFile, match="claims 209,715,200 bytes"):
        Archive(path)


def test_no_objects_are_read(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], object))
    with pytest.raises(ValueError, match="Python objects"):
        read_npy(tmp_path / "a.npy")
