"""Who does what among threads that share work: without a lock, and without waiting to meet.

Work is a row of tasks, cut into phases; a task may begin when all tasks of the phases before its
own are done.  A thread draws the next ticket, waits until that ticket's phase is open, does the
task, and whoever finishes the last task of a phase opens the next one.  Nobody waits for a thread
that has not come: one alone does all of it, a late one joins where the others are.

Ticket numbers grow for ever, job after job, so that a thread which comes too late finds no ticket
of its own job.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from goose_viz.compiled import compiled
from goose_viz.cpu.building import I64

#: int64 numbers of a counter array: three counters, each with cache lines of its own.
COUNTERS = 48
NEXT, _DONE, OPEN = 0, 16, 32  # next ticket; tasks finished; tickets whose phase is open
_SPINS = 400  # pauses, some 20 microseconds, before the core is offered to others
_X86 = platform.machine().lower() in ("x86_64", "amd64")
_WINDOWS = platform.system() == "Windows"


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


@intrinsic
def _load(typingctx: Any, array: Any, index: Any) -> Any:
    """An int64 that other threads write; what they wrote before it is seen too."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(_pointer(context, builder, array, *args), "acquire", 8)

    return types.int64(array, types.int64), code


@intrinsic
def _store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write an int64 that other threads read, after all that was written before."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, array, *args[:2])
        builder.store_atomic(args[2], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), code


@intrinsic
def _add_one(typingctx: Any, array: Any, index: Any) -> Any:
    """Add one; the number before."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, array, *args)
        return builder.atomic_rmw("add", pointer, ir.Constant(I64, 1), "acq_rel")

    return types.int64(array, types.int64), code


@intrinsic
def _replace(typingctx: Any, array: Any, index: Any, old: Any, new: Any) -> Any:
    """Write ``new`` if ``old`` is there still; whether it was."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, array, *args[:2])
        result = builder.cmpxchg(pointer, args[2], args[3], "acq_rel", "acquire")
        return builder.extract_value(result, 1)

    return types.boolean(array, types.int64, types.int64, types.int64), code


@intrinsic
def _pause(typingctx: Any) -> Any:
    """Let the core's other work go first, for some 50 ns."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if _X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(
                cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), []
            )
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def _yield(typingctx: Any) -> Any:
    """Offer the core to any other thread that wants it."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        name = "SwitchToThread" if _WINDOWS else "sched_yield"
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), code


@compiled
def draw(counters, limit):
    """The next ticket below the limit, or -1."""
    while True:
        ticket = _load(counters, NEXT)
        if ticket >= limit:
            return -1
        if _replace(counters, NEXT, ticket, ticket + 1):
            return ticket


@compiled
def is_open(counters, ticket):
    """Whether a ticket's phase has begun."""
    return _load(counters, OPEN) > ticket


@compiled
def _wait_until(counters, which, value):
    """Return when a counter has come to a value."""
    spins = 0
    while _load(counters, which) < value:
        spins += 1
        if spins < _SPINS:
            _pause()
        else:
            _yield()


@compiled
def wait(counters, ticket):
    """Return when a ticket's phase has begun."""
    _wait_until(counters, OPEN, ticket + 1)


@compiled
def finish(counters):
    """One task is done; how many are, all jobs together."""
    return _add_one(counters, _DONE) + 1


@compiled
def wait_for_all(counters, limit):
    """Return when so many tasks are done, all jobs together."""
    _wait_until(counters, _DONE, limit)


@compiled
def open_until(counters, ticket):
    """Let the tickets below this one begin."""
    _store(counters, OPEN, ticket)
