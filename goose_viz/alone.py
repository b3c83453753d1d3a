"""One thread at a time in a model: what a window and a notebook share must not be used at once.

An engine has one set of scratch memory, and a session's cursor is one; whoever uses them holds the
model's lock for as long as it takes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from goose_viz.model import Model

P = ParamSpec("P")
R = TypeVar("R")


class _Has(Protocol):
    model: Model


S = TypeVar("S", bound=_Has)


def alone(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """The method, with the lock of the object's model held."""

    @functools.wraps(method)
    def work(self: S, /, *args: P.args, **options: P.kwargs) -> R:
        with self.model.lock:
            return method(self, *args, **options)

    return work


def alone_each(
    method: Callable[Concatenate[S, P], Iterator[R]],
) -> Callable[Concatenate[S, P], Iterator[R]]:
    """The generator, with the lock held while it works on its next item."""

    @functools.wraps(method)
    def work(self: S, /, *args: P.args, **options: P.kwargs) -> Iterator[R]:
        items = method(self, *args, **options)
        while True:
            with self.model.lock:
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item

    return work
