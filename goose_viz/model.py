"""A loaded model: what it is, what it reads and writes, and the one call that runs it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from goose_gpu.formats import FORMATS
from goose_viz.checkpoint import read_file, resolve
from goose_viz.checkpoint.folder import INDEX, shards
from goose_viz.config import Config
from goose_viz.convert import Progress, as_kept
from goose_viz.errors import GooseError
from goose_viz.files import assets, path_of
from goose_viz.probe import Probe, Recorder
from goose_viz.ranking import Candidates
from goose_viz.state import State
from goose_viz.tokenizer import Tokenizer, choose_tokenizer, named_tokenizer
from goose_viz.weights import Weights, check_weights

DEFAULT_MODEL = "stories-7M"
DEFAULT_PROMPT = "Once upon a time, there was a little girl named Lily."
DTYPES = tuple(FORMATS)  #: how weights can be kept


PORTION = 128  #: tokens of a prompt per forward call: a long one can be watched and cancelled


class Engine(Protocol):
    """What runs a model on a device."""

    config: Config
    dtype: str
    nbytes: int
    n_parameters: int
    state_dtype: np.dtype[Any]

    @property
    def bytes_read(self) -> int:
        """What the last single token took from memory, the state's way back included."""

    def new_state(self) -> State:
        """The state before the first token."""

    def forward(
        self,
        tokens: Sequence[int],
        state: State,
        all_logits: bool,
        recorder: Recorder | None,
        report: Callable[[float], None],
        candidates: Candidates | None = None,
    ) -> NDArray[Any]:
        """Feed checked tokens; logits (V,) of the last or (T, V) of all; state in place.

        ``report`` is told the share done, now and then; when it raises, the state is half-way.
        ``candidates`` are filled where the device finds them faster than the host.
        """

    def forward_many(self, tokens: Sequence[int], states: Sequence[State]) -> NDArray[Any]:
        """Feed a checked token to each of several states, all different; logits (B, V)."""


class Model:
    """An RWKV-7 model, ready to run.

    Attributes
    ----------
    config : Config
    tokenizer : Tokenizer
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"`` … or ``"reference"``.
    device_words : str
        The card with its driver, or why the CPU was taken; empty if there is nothing to say.
    dtype : str
        How the weights are kept: ``"fp32"``, ``"bf16"``, ``"fp16"``, ``"int8"``, ``"int4"``;
        ``"fp64"`` on the reference.
    nbytes : int
        Memory that the weights take.
    n_parameters : int
        Numbers in the checkpoint.
    name : str
        The file's or folder's name.
    source : Path
        Where it was loaded from.
    notes : tuple of str
        Sentences on what was not as it should be in its files, and what was made of it.
    files : dict of Path to tuple
        The files that its tensors lie in, and what told each from another when it was opened.
    lock : RLock
        Held by whoever computes: the engine has one set of scratch memory.
    """

    def __init__(
        self,
        engine: Engine,
        weights: Weights,
        tokenizer: Tokenizer,
        device: str,
        source: Path,
        device_words: str,
        notes: Sequence[str] = (),
        files: Mapping[Path, tuple[int, ...]] | None = None,
    ) -> None:
        self._engine, self._weights = engine, weights
        self.config = engine.config
        self.tokenizer = tokenizer
        self.device = device
        self.device_words = device_words
        self.dtype = engine.dtype
        self.nbytes = engine.nbytes
        self.n_parameters = engine.n_parameters
        self.source = source
        self.name = _name(source)
        self.notes = tuple(notes)
        self.lock = threading.RLock()
        self.files = dict(files or {})

    def __repr__(self) -> str:
        """What it is and where it runs."""
        return f"<Model {self.name}: {self.config.shape}, {self.device} {self.dtype}>"

    def new_state(self) -> State:
        """The state before the first token."""
        return self._engine.new_state()

    def numbers(self, name: str, rows: int | slice | None = None) -> NDArray[np.float64]:
        """A tensor, or rows of it, as float64: the numbers that the engine computes with.

        Parameters
        ----------
        name : str
            BlinkDL's, ``"blocks.0.att.output.weight"``.
        rows : int or slice, optional
            Of a matrix whose rows are outputs or tokens.
        """
        self._check_files()
        tensor = self._weights.tensors[name]
        if isinstance(rows, int):
            (row,) = self.numbers(name, slice(rows, rows + 1))
            return np.asarray(row)
        if rows is not None:
            begin, end, _ = rows.indices(tensor.shape[0])
            tensor = tensor.rows(begin, end)
        return as_kept(tensor, name, self.dtype).astype(np.float64)

    def _check_files(self) -> None:
        """Raise if a file that its tensors are mapped from is shorter or another by now.

        What lies behind the end of a mapped file ends the process when it is looked at.
        """
        for file, facts in self.files.items():
            found = facts_of(file)
            if found is not None and found[:2] == facts[:2] and found != facts:
                raise GooseError(
                    f"{file.name} was written over since it was opened; open the model again"
                )

    def bytes_read(self) -> int:
        """Bytes that a single token takes from memory, the state's way back included.

        On the CPU those of the last one: what a zero of the channel mix would have met is not read.
        """
        return self._engine.bytes_read

    def forward(
        self,
        tokens: Sequence[int],
        state: State,
        all_logits: bool = False,
        probe: Probe | None = None,
        progress: Callable[[float], None] | None = None,
        candidates: Candidates | None = None,
    ) -> NDArray[Any]:
        """Feed tokens; the state advances in place.

        Parameters
        ----------
        tokens : sequence of int
            At least one, each from 0 to vocab_size - 1.
        state : State
            What came before.
        all_logits : bool
            Whether to return the logits behind every token or behind the last.
        probe : Probe, optional
            Gets one frame per token.
        progress : callable (float), optional
            Told the share done, several times for many tokens.  It may raise to stop; the state is
            half-way then, and of no further use.  It must not use a model itself.
        candidates : Candidates, optional
            Filled with what sampling needs of the last logits, by devices that find it themselves.

        Returns
        -------
        ndarray
            float32 (V,) or (T, V); float64 on the reference device.

        Raises
        ------
        ValueError
            If there is no token or one outside the vocabulary; the state is untouched then.
        StateError
            If the state is that of a model of another shape.
        """
        tokens = [int(t) for t in tokens]
        if not tokens:
            raise ValueError("no tokens to feed; expected at least one")
        self._check_tokens(tokens)
        dtype = self._engine.state_dtype
        state.make_ready(self.config, dtype)
        recorder = None
        if probe is not None:
            recorder = Recorder(probe, self.config, tokens, dtype)
        with self.lock:
            logits = self._engine.forward(
                tokens, state, all_logits, recorder, progress or _nobody, candidates
            )
        if probe is not None and recorder is not None:
            probe.frames.extend(recorder.frames())
        return logits

    def forward_many(self, tokens: Sequence[int], states: Sequence[State]) -> NDArray[Any]:
        """Feed one token to each of several sequences; every state advances in place.

        On the CPU the weights are read once for all of them: for corpora, for several
        continuations, for comparisons.  The logits and states are those of `forward` with one
        token, bit for bit, but that other devices go through the sequences one by one.

        Parameters
        ----------
        tokens : sequence of int
            (B,), one for each state.
        states : sequence of State
            What came before in each sequence; no state may be there twice.

        Returns
        -------
        ndarray
            float32 (B, V); float64 on the reference device.

        Raises
        ------
        ValueError
            If there is no token or one outside the vocabulary, if the numbers differ or a state is
            there twice; all states are untouched then.
        StateError
            If a state is that of a model of another shape.
        """
        tokens, states = [int(t) for t in tokens], list(states)
        if not tokens or len(tokens) != len(states):
            raise ValueError(
                f"{len(tokens)} tokens for {len(states)} states; expected one for each, and at "
                "least one"
            )
        self._check_tokens(tokens)
        if len({id(state) for state in states}) < len(states):
            raise ValueError("a state is there twice; give each sequence a copy of its own")
        for state in states:
            state.make_ready(self.config, self._engine.state_dtype)
        with self.lock:
            return self._engine.forward_many(tokens, states)

    def _check_tokens(self, tokens: list[int]) -> None:
        V = self.config.vocab_size
        wrong = next((t for t in tokens if not 0 <= t < V), None)
        if wrong is not None:
            raise ValueError(f"token {wrong} is outside the vocabulary; expected 0 to {V - 1}")


def facts_of(file: Path) -> tuple[int, ...] | None:
    """(device, inode, bytes, time of the last change); another file in its place has others."""
    try:
        found = file.stat()
    except OSError:  # removed: what is mapped stays
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _name(source: Path) -> str:
    """What to call a model from there: a file's name, unless many models' files have it."""
    for place in (source, *source.parents):
        if place.name.startswith("models--"):  # Hugging Face's cache
            return place.name.rpartition("--")[2]
    if source.is_dir():
        return source.name
    stem = source.name.split(".")[0]
    many = ("model", "pytorch_model", "consolidated")
    return (source.absolute().parent.name or stem) if stem in many else source.stem


def _nobody(share: float) -> None:
    """Progress that nobody asked for."""


def embedded_models() -> list[str]:
    """Names of the models that ship with the program."""
    folder = assets() / "models"
    return sorted(p.name for p in folder.iterdir() if (p / "model.safetensors").exists())


def example_prompt(source: str | os.PathLike[str] | None) -> str:
    """A text to go on from: the prompt.txt in a model's folder, else a story's beginning.

    Parameters
    ----------
    source : str or path, optional
        As in `load_model`.
    """
    name = DEFAULT_MODEL if source is None else os.fspath(source)
    place = assets() / "models" / name if name in embedded_models() else path_of(name)
    own = (place if place.is_dir() else place.parent) / "prompt.txt"
    try:
        return own.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return DEFAULT_PROMPT


def load_model(
    source: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    tokenizer: str | Tokenizer | None = None,
    progress: Progress | None = None,
) -> Model:
    """Load an RWKV-7 model.

    Parameters
    ----------
    source : str or path, optional
        A ``.pth``, ``.safetensors``, ``.st`` or ``.gguf`` file, a folder, or the name of an
        embedded model; the embedded demo model when left out.
    device : str
        ``"auto"`` takes an NVIDIA card if one can be used, the CPU otherwise; ``"cpu"``;
        ``"cuda"`` or ``"cuda:1"`` …; ``"reference"``, the float64 oracle.
    dtype : str
        ``"auto"`` keeps the checkpoint's own type; ``"fp32"``, ``"bf16"``, ``"fp16"``,
        ``"int8"`` (with a scale a row) and ``"int4"`` (with a scale for 32 numbers; embedding, head
        and low-rank matrices in int8) convert.
    tokenizer : str or Tokenizer, optional
        ``"world"``, ``"bytes"``, ``"ids"``, a tokenizer.json or a vocabulary in RWKV's form; found
        by itself when left out.
    progress : callable (float, str), optional
        Told the share done, from 0 to 1, and what is going on.

    Raises
    ------
    GooseError
        If the file, the device, the dtype or the tokenizer will not do; the message says why.
    """
    report = progress or (lambda fraction, words: None)
    parse_device(device)  # before anything is read
    if dtype not in ("auto", *DTYPES):
        raise GooseError(f"dtype {dtype!r} is unknown; expected one of auto, {', '.join(DTYPES)}")
    opened = open_model(source, tokenizer, report)
    try:
        engine, device, words = build_engine(opened.weights, device, dtype, report)
    except MemoryError:
        raise _too_large(opened.path) from None
    report(1.0, "ready")
    return Model(engine, opened.weights, opened.tokenizer, device, opened.path, words,
                 opened.notes, opened.files)  # fmt: skip


@dataclass(frozen=True)
class Opened:
    """A model whose file was looked at and found whole; no number was converted yet.

    Attributes
    ----------
    weights : Weights
    tokenizer : Tokenizer
    path : Path
        What was asked for: a file, a folder.
    notes : tuple of str
        Sentences on what was not as it should be in its files, and what was made of it.
    files : dict of Path to tuple
        See `Model.files`.
    """

    weights: Weights
    tokenizer: Tokenizer
    path: Path
    notes: tuple[str, ...]
    files: dict[Path, tuple[int, ...]]

    @property
    def name(self) -> str:
        """What to call it."""
        return _name(self.path)


def open_model(
    source: str | os.PathLike[str] | None,
    tokenizer: str | Tokenizer | None,
    report: Progress | None = None,
) -> Opened:
    """Find a model, map its file, check its shapes and choose its tokenizer.

    Raises
    ------
    GooseError
        If the file or the tokenizer will not do; the message says why.
    """
    path, embedded = _find(source)
    if report is not None:
        report(0.0, f"opening {path.name}")
    try:
        place = resolve(path)
        parts = shards(place) if place.name.endswith(INDEX) else [place]
        files = {f: facts for f in parts if (facts := facts_of(f)) is not None}  # ahead of mapping
        checkpoint = read_file(place)
        weights = check_weights(checkpoint, place)
        V, notes = weights.config.vocab_size, list(weights.notes)
        if tokenizer is None:
            beside = place if path.is_file() else place.parent
            chosen = choose_tokenizer(beside, V, checkpoint.vocabulary, notes)
        else:
            chosen = named_tokenizer(tokenizer, V) if isinstance(tokenizer, str) else tokenizer
    except MemoryError:
        raise _too_large(path) from None
    if embedded:
        chosen.start_token = 0
    return Opened(weights, chosen, path, tuple(notes), files)


def _too_large(path: Path) -> GooseError:
    return GooseError(
        f"{path.name} does not fit into the free memory; try dtype='bf16', or a smaller model"
    )


def build_engine(
    weights: Weights, device: str, dtype: str, report: Progress
) -> tuple[Engine, str, str]:
    """What computes with these weights: (engine, device, what to say of the device).

    Raises
    ------
    GooseError
        If the device or the dtype will not do.
    """
    kind, ordinal, words = choose_device(device)
    if kind == "reference":
        from goose_viz.reference import ReferenceEngine

        return ReferenceEngine(weights), kind, ""
    if dtype == "auto":
        dtype = weights.default_dtype
    if kind == "cuda":
        from goose_gpu import CardError
        from goose_viz.cuda import CudaEngine

        try:
            engine = CudaEngine(weights, ordinal, dtype, report)
            return engine, device_name(ordinal), engine.words
        except CardError as error:
            words = _why_no_card(error, device)
    from goose_viz.cpu import CpuEngine

    return CpuEngine(weights, dtype, report), "cpu", words


def choose_device(device: str) -> tuple[str, int, str]:
    """("cpu", "cuda" or "reference", number of the card, why no card was taken).

    Nothing of CUDA is loaded yet.

    Raises
    ------
    GooseError
        If there is no such device, or the card that was asked for cannot be used.
    """
    kind, ordinal = parse_device(device)
    if kind not in ("auto", "cuda"):
        return kind, 0, ""
    from goose_gpu import CardError, choose_card, simulated

    try:
        if kind == "auto" and simulated():
            raise CardError("the CUDA simulator is for tests; device='cuda' asks for it")
        choose_card(ordinal)
    except CardError as error:
        return "cpu", 0, _why_no_card(error, device)
    return "cuda", ordinal, ""


def device_name(ordinal: int) -> str:
    """What a card is called: ``"cuda"``, ``"cuda:1"`` …."""
    return f"cuda:{ordinal}" if ordinal else "cuda"


def _why_no_card(error: Exception, device: str) -> str:
    """Why the CPU is taken; an error where the card was asked for by name."""
    if device != "auto":
        raise GooseError(str(error)) from None
    return str(error).removesuffix("; use device='cpu'")


def parse_device(device: str) -> tuple[str, int]:
    """("auto", "cpu", "cuda" or "reference", number of the card)."""
    kind, _, number = device.partition(":")
    if kind in ("auto", "cpu", "reference", "cuda") and not number and device == kind:
        return kind, 0
    if kind == "cuda" and number.isdecimal():
        return kind, int(number)
    raise GooseError(
        f"device {device!r} is unknown; expected auto, cpu, cuda, cuda:1 (a second card) or "
        "reference"
    )


def _find(source: str | os.PathLike[str] | None) -> tuple[Path, bool]:
    """(path, whether it is an embedded model)."""
    name = DEFAULT_MODEL if source is None else os.fspath(source)
    embedded = assets() / "models" / name
    if name in embedded_models():
        return embedded, True
    path = path_of(name)
    if not path.exists() and path.name == name and not path.suffix:
        raise GooseError(
            f"{name}: no file or folder of that name, and no embedded model either; embedded are "
            f"{', '.join(embedded_models())}"
        )
    return path, path.resolve().parent == (assets() / "models").resolve()
