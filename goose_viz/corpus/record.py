"""Record every document of files: a task each, done again by no one who finds it finished."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from goose_viz.corpus.store import FORMAT, Corpus, Store
from goose_viz.documents import Document, read_documents
from goose_viz.errors import GooseError
from goose_viz.model import Model
from goose_viz.model_source import ModelSource
from goose_viz.observables import OBSERVABLES
from goose_viz.sampling import Sampler
from goose_viz.scheduling import Lost, each
from goose_viz.trace import record
from goose_viz.trace.fingerprint import Fingerprint

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class _Work:
    """What is done with each document; travels to workers."""

    store: str
    source: ModelSource
    tokens: int
    observables: tuple[str, ...]
    layers: tuple[int, ...] | None
    every: int
    sampler: Sampler
    stop_at_end: bool
    made_with: dict[str, Any]  # which weights, in which type, and how texts are read

    def about(self) -> dict[str, Any]:
        """What makes the numbers what they are, for a store that is gone on with."""
        return {
            "tokens": self.tokens,
            "observables": list(self.observables),
            "layers": None if self.layers is None else list(self.layers),
            "every": self.every,
            "sampler": json.loads(json.dumps(asdict(self.sampler))),  # lists, as a file has them
            "stop_at_end": self.stop_at_end,
            **self.made_with,
        }


def record_corpus(
    model: Model | ModelSource,
    files: Iterable[str | os.PathLike[str]],
    store: str | os.PathLike[str],
    *,
    tokens: int = 0,
    observables: Iterable[str] | None = None,
    layers: Iterable[int] | None = None,
    every: int = 1,
    sampler: Sampler | None = None,
    stop_at_end: bool = False,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Corpus:
    """Record every document of files, each as a trace of its own.

    Called again it goes on: what is finished is looked at, and not done again.

    Parameters
    ----------
    model : Model or ModelSource
        The latter loads where the work is done, and nowhere else.
    files : iterable of str or path
        Texts, whose documents may be separated by lines ``<|endoftext|>``; ``.jsonl``, each line an
        object whose ``text`` is a document; folders of such.
    store : str or path
        A new folder or what fsspec takes; or what an earlier call with the same settings wrote.
        Workers must be able to write there.
    tokens : int
        To write behind each document.
    observables, layers, every
        As in `record`.
    sampler : Sampler, optional
        Seed 0 when left out: a document's tokens are the same whoever writes them, and when.
    stop_at_end : bool
        Whether the model's end token is one of the sampler's stops too.
    scheduler : str, optional
        Address of a dask scheduler whose workers do it; this process when left out.
    progress : callable, optional
        Called with a share and words; what it raises ends the recording.

    Returns
    -------
    Corpus
        Its ``failed`` tells of documents that could not be recorded.

    Raises
    ------
    GooseError
        If something of this will not do, or the store is of other settings or other weights.
    OSError
        If something could not be written; what was finished stays.
    """
    documents = read_documents(os.fspath(f) for f in files)
    place = Store(os.fspath(store))
    source = model if isinstance(model, ModelSource) else ModelSource.of(model)
    names = set(OBSERVABLES) - {"wkv"} if observables is None else set(observables)
    work = _Work(
        place.url, source.anywhere() if scheduler is not None else source, tokens,
        tuple(sorted(names)), None if layers is None else tuple(layers), every,
        sampler if sampler is not None else Sampler(seed=0),
        stop_at_end, {},
    )  # fmt: skip
    if scheduler is not None and place.in_memory:
        raise GooseError(f"{place.url} is this process's own memory; workers cannot write there")
    ((_, made_with),) = each(_made_with, [work.source], scheduler)
    if isinstance(made_with, Lost):
        raise GooseError(f"the model cannot be loaded: {made_with.sentence}")
    work = replace(work, made_with=made_with)
    _begin(place, work)
    failed: dict[str, str] = {}
    for n, (index, found) in enumerate(each(partial(_do, work), documents, scheduler), 1):
        why = found.sentence if isinstance(found, Lost) else found
        if why is not None:
            failed[documents[index].name] = why
        if progress is not None:
            progress(n / len(documents), f"{n} of {len(documents)} documents")
    return Corpus(place, failed)


def _begin(place: Store, work: _Work) -> None:
    """Have the store say what it is of, or see that it is of the same."""
    known, about = place.about(), {"format": FORMAT, **work.about()}
    if known is None:
        place.begin(about)
        return
    for name, value in about.items():
        if known.get(name) != value:
            raise GooseError(
                f"{place.url} was recorded with {name} {known.get(name)}, not {value}; choose "
                "another store, or the same settings to go on"
            )


def _do(work: _Work, document: Document) -> str | None:
    """Record a document, unless it is there; why not, if it will not do."""
    model, place = work.source.model(), Store(work.store)
    if (found := _made_with(work.source)) != work.made_with:
        raise GooseError(
            f"the model of this worker is another: {found}, expected {work.made_with}; give all "
            "workers the same file"
        )
    if place.finished(document.name) is not None:
        return None
    sampler, end = work.sampler, model.tokenizer.end_token
    if work.stop_at_end and end is not None:
        sampler = replace(sampler, stop=(*sampler.stop, end))
    try:
        with place.place_for(document, _scratch()) as path:
            record(
                model, document.text, work.tokens, path, observables=work.observables,
                layers=work.layers, every=work.every, sampler=sampler,
            )  # fmt: skip
    except GooseError as error:
        return str(error)
    except OSError:
        if place.finished(document.name) is None:
            raise
        # another process did the same document, and removed what looked left behind
    return None


def _made_with(source: ModelSource) -> dict[str, Any]:
    """What makes a model's numbers what they are, beside the kind of device."""
    model = source.model()
    weights = Fingerprint(model)
    weights.wait()
    tokenizer = model.tokenizer
    return {
        "model": model.name, "model_sha256": weights.found, "dtype": model.dtype,
        "tokenizer": tokenizer.name, "start_token": tokenizer.start_token,
        "vocab_size": model.config.vocab_size,
    }  # fmt: skip


def _scratch() -> str | None:
    """Where a worker of a cluster wants its files, which are removed with it."""
    try:
        from distributed import get_worker

        return str(get_worker().local_directory)
    except (ImportError, ValueError):  # no worker
        return None
