"""The readers: what each is begun with, and what is done with what it reads."""

from __future__ import annotations

import functools
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from safetensors.numpy import save, save_file

import goose_viz as gv
from goose_viz.checkpoint import read_checkpoint
from goose_viz.tokenizer import read_tokenizer
from goose_viz.trace import Trace, open_trace
from goose_viz.writing import write_model
from tests.conftest import save_random
from tests.goose_viz import layout_files, pth_writer

from . import mutations as mutate

_CONFIG = gv.config.Config(2, 16, 2, 8, 40, 23, 5, 8, 3, 9, "safetensors")
_TEXT = "3 1 4 1 5"  # the tiny model reads ids


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    Attributes
    ----------
    name : str
    file : str
        What the file is called, in a folder of its own; of a trace, the folder's name.
    seeds : callable (Path) -> list of bytes
        Files that it reads well, made in a folder; where there are several, each is damaged.
    damage : callable (Random, bytes) -> bytes
    read : callable (Path) -> object
        Read the file, and use what it says.
    """

    name: str
    file: str
    seeds: Callable[[Path], list[bytes]]
    damage: Callable[[random.Random, bytes], bytes]
    read: Callable[[Path], object]


def _tiny(folder: Path) -> Path:
    path = folder / "tiny.safetensors"
    if not path.exists():
        save_random(path, _CONFIG)
    return path


def _still(data: bytes, folder: Path) -> bytes:
    """The same file whenever and wherever it was written: safetensors shuffles what it says."""
    if data.startswith(b"PK"):
        return mutate.packed(mutate.members(data))
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + n].replace(str(folder).encode(), b"folder"))
    ordered = {"__metadata__": dict(sorted(header.pop("__metadata__", {}).items())), **header}
    plain = json.dumps(ordered).encode()
    return len(plain).to_bytes(8, "little") + plain + data[8 + n :]


_models: dict[str, gv.Model] = {}


def _model() -> gv.Model:
    """The tiny model; the reference computes with it, since nothing is compiled then."""
    return _models["tiny"]


def prepare(folder: Path) -> None:
    """Load what snapshots and sessions go on with."""
    _models["tiny"] = gv.load_model(_tiny(folder), device="reference")


def _session() -> gv.Session:
    session = gv.Session(_model(), gv.Sampler(seed=1), gv.Probe(["decay", "removed_norm"]))
    session.feed([3, 1, 4])
    list(session.run(3))
    return session


def _load(path: Path) -> object:
    model = gv.load_model(path, device="reference")
    return model.forward([0, model.config.vocab_size - 1], model.new_state())


def _safetensors(folder: Path) -> list[bytes]:
    return [_still(_tiny(folder).read_bytes(), folder)]


def _tensors(folder: Path) -> dict[str, np.ndarray]:
    return {n: t.float32() for n, t in read_checkpoint(_tiny(folder)).tensors.items()}


def _pth(folder: Path) -> list[bytes]:
    path, kinds = folder / "a.pth", ("bf16", "fp32")
    out = []
    for kind in kinds:
        pth_writer.write_tensors(path, layout_files.bits(_tensors(folder), kind))
        out.append(_still(path.read_bytes(), folder))
    return out


def _st(folder: Path) -> list[bytes]:
    """As web-rwkv has it: the low-rank matrices lie the other way round."""
    path = folder / "a.st"
    turned = {
        n: np.ascontiguousarray(a.T) if n[-2:] in ("w1", "w2", "a1", "a2", "v1", "v2", "g1", "g2")
        else a
        for n, a in _tensors(folder).items()
    }  # fmt: skip
    save_file(turned, path)
    return [_still(path.read_bytes(), folder)]


def _gguf(folder: Path) -> list[bytes]:
    out = []
    for dtype in ("fp32", "fp16"):
        path = folder / f"{dtype}.gguf"
        write_model(str(_tiny(folder)), path, "gguf", dtype, None, True, lambda *_: None)
        out.append(path.read_bytes())
    return out


def _folder(folder: Path) -> Path:
    """A Transformers folder, beside which the config is damaged."""
    path = folder / "hf"
    if not path.exists():
        write_model(str(_tiny(folder)), path, "hf", "auto", None, True, lambda *_: None)
    return path


def _config(folder: Path) -> list[bytes]:
    return [(_folder(folder) / "config.json").read_bytes()]


def _load_beside(path: Path) -> object:
    weights = path.parent / "model.safetensors"
    if not weights.exists():
        shutil.copy(_folder(_home[0]) / "model.safetensors", weights)
    return _load(path.parent)


_home: list[Path] = []


def _lines(folder: Path) -> list[bytes]:
    pieces = {1: b"a", 2: b" ", 3: b"\n\n", 4: b"\xff\xfe", 7: "好 x".encode(), 9: b"'\""}
    rows = []
    for i, piece in pieces.items():
        literal = repr(piece) if i == 4 else repr(piece.decode())
        rows.append(f"{i} {literal} {len(piece)}")
    return ["\n".join(rows).encode()]


def _vocabulary(folder: Path) -> list[bytes]:
    return [json.dumps({"1": "a", "2": "\n", "5": [255, 254], "6": "é", "7": " "}).encode()]


def _tokenizer_json(folder: Path) -> list[bytes]:
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    from goose_viz.tokenizer.greedy import GreedyTokenizer
    from goose_viz.writing.vocabulary_out import tokenizer_json

    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|endoftext|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    bpe.train_from_iterator(["the cat sat on the mat, the dog ran"], trainer)
    greedy = tokenizer_json(GreedyTokenizer([b"", b"a", b" ", b"\xff", b"ab"], "x"))
    assert greedy is not None
    return [bpe.to_str().encode(), greedy.encode()]


def _use_tokenizer(path: Path) -> object:
    tokenizer = read_tokenizer(path)
    said = tokenizer.encode("a a")
    stream = tokenizer.stream()
    for token in (*said, 0, tokenizer.vocab_size - 1):
        tokenizer.label(token)
        stream.push(token)
    return stream.flush(), tokenizer.decode(said)


def _snapshot(ending: str) -> Callable[[Path], list[bytes]]:
    def seeds(folder: Path) -> list[bytes]:
        path, session = folder / f"snapshot{ending}", _session()
        gv.save_snapshot(path, session)
        plain = _still(path.read_bytes(), folder)
        session.apply(gv.Zero(0, 1))
        list(session.run(2))
        gv.save_snapshot(path, session)
        return [plain, _still(path.read_bytes(), folder)]

    return seeds


def _resume(path: Path) -> object:
    session = gv.load_snapshot(path).resume(_model())
    return session.goto(0), list(session.run(2)), session.text


def _state(folder: Path) -> list[bytes]:
    path = folder / "state.safetensors"
    _session().state.save(path)
    return [_still(path.read_bytes(), folder)]


def _use_state(path: Path) -> object:
    state = gv.State.load(path)
    state.check(_model().config)
    return _model().forward([1], state)


def _sessions(folder: Path) -> list[bytes]:
    path, session = folder / "a.goose", _session()
    session.apply(gv.Forget(1))
    list(session.run(2))
    session.goto(3)
    session.branch(3, 5)
    gv.save_session(path, session, {"prompt": "a", "docks": b"abc", "layer": 1})
    return [_still(path.read_bytes(), folder)]


def _reopen(path: Path) -> object:
    session = gv.load_session(path).open(_model())
    branches = session.branches
    session.switch(len(branches) - 1)
    return session.goto(1), list(session.run(1)), session.text


_ROW = np.array([0])
#: The files of a trace that are read, and what reads them.  An array's own ``zarr.json`` is none:
#: that of the whole says the same.
_TRACES: dict[str, tuple[Callable[[Trace], object], ...]] = {
    "decay/c/0/0/0": (lambda t: t.numbers("decay", _ROW), lambda t: t.frames(_ROW, ("decay",))),
    "text/c/0": (lambda t: t.text,),
    "token_top/c/0/0": (lambda t: t.column("token_top"),),
    "branch/c/0": (lambda t: t.way(),),
}


def _trace_folder(folder: Path) -> Path:
    path = folder / "whole.zarr"
    if not path.exists():
        names = {"decay", "removed_norm", "wkv"}
        gv.record(_model(), _TEXT, 4, path, observables=names, sampler=gv.Sampler(seed=1))
    return path


def _trace(file: str) -> Callable[[Path], list[bytes]]:
    return lambda folder: [(_trace_folder(folder) / file).read_bytes()]


def _use_trace(file: str) -> Callable[[Path], object]:
    """Read a copy of the trace in which one file is another."""

    def read(path: Path) -> object:
        copy = _with(path, file)
        if file == "zarr.json":
            return _use_whole(open_trace(copy))
        if copy not in _datasets:  # opening takes the most time, and only chunks change
            _datasets[copy] = xarray.open_dataset(copy, engine="zarr", chunks=None, cache=False)
        for use in _TRACES[file]:
            trace = open_trace(copy)
            trace.dataset = _datasets[copy]
            use(trace)
        return None

    return read


_datasets: dict[Path, xarray.Dataset] = {}


def _with(path: Path, file: str) -> Path:
    copy = path.parent / "run.zarr"
    if not copy.exists():
        shutil.copytree(_trace_folder(_home[0]), copy)
    (copy / file).write_bytes(path.read_bytes())
    return copy


def _use_whole(trace: Trace) -> object:
    used = [trace.text, trace.way(), len(trace), repr(trace), trace.lineage(0)]
    if len(trace):
        used += [
            trace.numbers("decay", _ROW),
            trace.frames(_ROW, observables=("removed_norm",)),
            trace.column("token_top"),
        ]
    return used


def _conditions(folder: Path) -> list[bytes]:
    return [
        b"removed_norm [ 1 , 1 ] > 5",
        b"max ( written_norm ) > 10 and entropy < 0.1 or rank >= 3",
        b"not ( mean ( decay [ 1 ] ) >= 0.9 )",
        b'token == " dog" or "the end"',
    ]


def _use_condition(path: Path) -> object:
    words = path.read_bytes().decode("utf-8", "replace")
    session = _session()
    condition = gv.Condition(words, _model().config)
    return list(session.find(condition)), list(session.run(1, until=condition))


def _tuned(folder: Path) -> list[bytes]:
    """State-tuned files, as trainers write them."""
    path, wkv = folder / "tuned.pth", _session().state.wkv.astype(np.float32)
    tensors = {f"blocks.{i}.att.time_state": w for i, w in enumerate(wkv)}
    out = []
    for kind in ("bf16", "fp32"):
        pth_writer.write_tensors(path, layout_files.bits(tensors, kind))
        out.append(_still(path.read_bytes(), folder))
    return out


def _fla_state(folder: Path) -> list[bytes]:
    path, state = folder / "fla.safetensors", _session().state
    arrays = {}
    for i in range(len(state.wkv)):
        arrays[f"{i}.recurrent_state"] = state.wkv[i].astype(np.float32).copy()
        arrays[f"{i}.conv_state"] = state.att_shift[i].astype(np.float32).copy()
        arrays[f"{i}.ffn_state"] = state.ffn_shift[i].astype(np.float32).copy()
    save_file(arrays, path)
    return [_still(path.read_bytes(), folder)]


def _raw_state(folder: Path) -> list[bytes]:
    buffer = np.arange(_CONFIG.n_layer * 10 * _CONFIG.n_embd, dtype=np.float32) / 1e3
    np.save(folder / "raw.npy", buffer)
    return [(folder / "raw.npy").read_bytes(), buffer.tobytes()]


def _begin(layout: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        found = gv.load_state(path, _model().config, layout)
        session = gv.Session(_model(), gv.Sampler(seed=1), initial=found.state)
        return session.feed([1, 2]), session.goto(0)

    return read


def _requests(_: Path) -> list[bytes]:
    plain = {"model": "tiny", "prompt": "3 1 4", "max_tokens": 3, "seed": 1, "n": 2, "stop": ["9"],
             "temperature": 0.5, "top_p": 0.9, "presence_penalty": 0.1, "logprobs": 2,
             "echo": True}  # fmt: skip
    chat = {"model": "tiny", "messages": [{"role": "system", "content": "1"},
                                          {"role": "user", "content": [{"type": "text",
                                                                       "text": "2"}]}],
            "max_completion_tokens": 2, "stream": True, "logprobs": True, "top_logprobs": 1,
            "stream_options": {"include_usage": True}, "session": "a"}  # fmt: skip
    ids = {"model": "tiny", "prompt": [[1, 2], [3]], "stream": True, "max_tokens": 2}
    return [json.dumps(body).encode() for body in (plain, chat, ids)]


_served: list[Any] = []


def _ask(path: Path) -> object:
    """Send it to both routes, and as a memory; whatever it is, the server lives and says why."""
    from starlette.testclient import TestClient

    from goose_viz.serving import Settings, make_app

    if not _served:
        app = make_app(_model(), Settings(most_tokens=8, hosts=("*",), sessions=4))
        _served.append(TestClient(app, raise_server_exceptions=True).__enter__())
    client, body = _served[0], path.read_bytes()
    client.put("/v1/state/a", content=_state_bytes())
    for route in ("/v1/completions", "/v1/chat/completions"):
        answer = client.post(route, content=body, headers={"content-type": "application/json"})
        if answer.status_code != 200:
            words = answer.json()["error"]["message"]
            if answer.status_code >= 500 or not words or "\n" in words:
                raise AssertionError(f"{answer.status_code}: {words!r}")
    return client.put("/v1/state/b", content=body)


@functools.cache
def _state_bytes() -> bytes:
    state = _session().state
    return save({n: np.ascontiguousarray(a) for n, a in state.arrays().items()},
                {"format": "goose-viz state 1", "wkv": gv.state.ORIENTATION})  # fmt: skip


READERS = {
    r.name: r
    for r in (
        Reader("safetensors", "m.safetensors", _safetensors, mutate.of_safetensors, _load),
        Reader("st", "m.st", _st, mutate.of_safetensors, _load),
        Reader("pth", "m.pth", _pth, mutate.of_zip, _load),
        Reader("gguf", "m.gguf", _gguf, mutate.of_bytes, _load),
        Reader("config", "config.json", _config, mutate.of_json, _load_beside),
        Reader("tokenizer-json", "tokenizer.json", _tokenizer_json, mutate.of_json, _use_tokenizer),
        Reader("vocabulary-text", "vocab.txt", _lines, mutate.of_lines, _use_tokenizer),
        Reader("vocabulary-json", "vocab.json", _vocabulary, mutate.of_json, _use_tokenizer),
        Reader("state", "s.safetensors", _state, mutate.of_safetensors, _use_state),
        Reader("state-tuned", "t.pth", _tuned, mutate.of_zip, _begin("auto")),
        Reader("state-fla", "f.safetensors", _fla_state, mutate.of_safetensors, _begin("auto")),
        Reader("state-raw", "r.bin", _raw_state, mutate.of_bytes, _begin("rwkv.cpp")),
        Reader("requests", "body.json", _requests, mutate.of_json, _ask),
        Reader("snapshot", "s.safetensors", _snapshot(".safetensors"), mutate.of_safetensors,
               _resume),
        Reader("snapshot-npz", "s.npz", _snapshot(".npz"), mutate.of_zip, _resume),
        Reader("session", "s.goose", _sessions, mutate.of_safetensors, _reopen),
        *(
            Reader(f"trace {file}", "damaged", _trace(file),
                   mutate.of_json if file.endswith("json") else mutate.of_bytes, _use_trace(file))
            for file in ("zarr.json", *_TRACES)
        ),
        Reader("conditions", "words", _conditions, mutate.of_words, _use_condition),
    )
}  # fmt: skip
