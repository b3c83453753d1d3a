"""A card and what is done with it besides launching: memory, copies, streams, recordings."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from goose_gpu.choice import CardError, choose_card
from goose_gpu.driver import find_cards
from goose_gpu.lanes import SIMULATOR
from goose_gpu.launch import Queue

MIB = 1 << 20


class Card:
    """A card, with a stream to compute on and one beside it to copy on.

    Parameters
    ----------
    ordinal : int
        Which of the driver's cards.

    Attributes
    ----------
    name, driver : str
    tensor_cores : bool
        Whether the 16-bit matrix kernel runs here: compute capability 8.0 and up.
    queue : Queue
        The main stream.
    recording_fault : str
        Why tokens are launched one kernel at a time, if they are; empty otherwise.

    Raises
    ------
    CardError
        If the card cannot be used; the message says why.
    """

    def __init__(self, ordinal: int = 0) -> None:
        choose_card(ordinal)
        self.ordinal = ordinal
        self.recording_fault = ""
        if SIMULATOR:
            self.name, self.driver = "CUDA simulator", "none"
            self.tensor_cores = False
            self.queue = Queue(0, 2)
            self._side: Any = 0
            return
        cards = find_cards()
        self.name = cards.names[ordinal]
        self.driver = "CUDA {}.{}".format(*cards.driver)
        self.tensor_cores = cards.capabilities[ordinal] >= (8, 0)
        try:
            with self.active():
                from cuda.core import Device

                device = Device(ordinal)
                device.set_current()
                self.queue = Queue(device.create_stream(), cards.multiprocessors[ordinal])
                self._side = device.create_stream()
                self._fork, self._join = cuda.event(timing=False), cuda.event(timing=False)
                context = cuda.current_context()
                for pending in (context.memory_manager.deallocations, context.deallocations):
                    _give_back_on_the_card(pending, ordinal)
        except Exception as error:  # a full card, one that another process keeps to itself
            reason = str(error).partition("\n")[0]
            raise CardError(
                f"{self.name} cannot be opened ({reason}); end what else runs on it, or use "
                "device='cpu'"
            ) from None

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Within it, this thread's allocations, copies and launches go to this card."""
        if SIMULATOR:
            yield
        else:
            with cuda.gpus[self.ordinal]:
                yield

    # -- memory ----------------------------------------------------------------------------------

    def memory(self) -> tuple[int, int] | None:
        """(free, total) bytes of the card; None if there is no telling."""
        if SIMULATOR:
            return None
        with self.active():
            free, total = cuda.current_context().get_memory_info()
        return int(free), int(total)

    def require(self, nbytes: int, what: str) -> None:
        """Raise CardError if so much will not fit."""
        memory = self.memory()
        if memory is not None and nbytes > memory[0]:  # something may be waiting to be given back
            gc.collect()
            self.release()
            memory = self.memory()
        if memory is not None and nbytes > memory[0]:
            raise CardError(
                f"{what} needs {nbytes / 1e9:.2f} GB on {self.name}, which has "
                f"{memory[0] / 1e9:.2f} GB free of {memory[1] / 1e9:.2f}; use a 16-bit dtype, a "
                "smaller model or device='cpu', or end what else runs on the card"
            )

    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> Any:
        """A device array of zeros."""
        with self._allocating(int(np.prod(shape)) * np.dtype(dtype).itemsize):
            array = cuda.device_array(shape, dtype)
        if SIMULATOR:
            array[:] = 0
        else:
            cuda.cudadrv.driver.device_memset(array, 0, array.nbytes, self.queue.stream)
        return array

    def upload(self, host: NDArray[Any]) -> Any:
        """A host array on the card, in time for what the main stream is sent next."""
        with self._allocating(host.nbytes):
            return cuda.to_device(host, stream=self.queue.stream)

    @contextlib.contextmanager
    def _allocating(self, nbytes: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if "OUT_OF_MEMORY" not in str(error).upper().replace(" ", "_"):
                raise
            self.require(nbytes, "one more array")
            raise CardError(
                f"{self.name} ran out of memory at {nbytes / MIB:.0f} MiB more; use a 16-bit dtype,"
                " a smaller model or device='cpu'"
            ) from None

    def pinned(self, shape: int | tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """A host array that the card can copy to and from on its own."""
        with self._allocating(int(np.prod(shape)) * np.dtype(dtype).itemsize):
            array: NDArray[Any] = cuda.pinned_array(shape, dtype)
        array[...] = 0
        return array

    def free(self, held: list[Any]) -> None:
        """Let go of the arrays in a list, with the card current as giving back memory wants it."""
        with self.active():
            held.clear()
        self.release()

    def release(self) -> None:
        """Give back at once what arrays that are gone have held."""
        if not SIMULATOR:
            with self.active():
                context = cuda.current_context()
                context.memory_manager.deallocations.clear()  # memory
                context.deallocations.clear()  # events, streams, modules

    # -- copies ----------------------------------------------------------------------------------

    def to_device(self, host: NDArray[Any], device: Any) -> None:
        """Begin to copy a pinned host array to the card, on the main stream."""
        device.copy_to_device(host, stream=self.queue.stream)

    def to_host(self, device: Any, host: NDArray[Any], side: bool = False) -> None:
        """Begin to copy to a pinned host array, on the main stream or the one beside it."""
        device.copy_to_host(host, stream=self._side if side else self.queue.stream)

    def copy(self, source: Any, target: Any) -> None:
        """Begin to copy within the card, on the main stream."""
        target.copy_to_device(source, stream=self.queue.stream)

    def fork(self) -> None:
        """What follows on the side stream waits for what the main one was sent so far."""
        if not SIMULATOR:
            self._fork.record(self.queue.stream)
            self._fork.wait(self._side)

    def join(self) -> None:
        """What follows on the main stream waits for what the side one was sent so far."""
        if not SIMULATOR:
            self._join.record(self._side)
            self._join.wait(self.queue.stream)

    def mark_side(self) -> Any:
        """A mark behind what the side stream was sent so far, for `wait`."""
        if SIMULATOR:
            return None
        mark = cuda.event(timing=False)
        mark.record(self._side)
        return mark

    def wait(self, mark: Any) -> None:
        """Wait on the host until the side stream has passed a mark."""
        if mark is not None:
            mark.synchronize()

    def synchronize(self) -> None:
        """Wait on the host until the main stream is done."""
        if not SIMULATOR:
            self.queue.stream.sync()

    # -- recordings ------------------------------------------------------------------------------

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Something that does the work each time it is called, from the second time as a graph.

        The work is launches and copies with fixed arguments; it must allocate nothing.
        """
        return work if SIMULATOR else Recording(self, work)


class Recording:
    """Launches and copies that become one CUDA graph.

    The first call does them one by one, which compiles and loads every kernel; the second records
    them, and from then on a call is a single launch.  Where a driver refuses to record, the
    launches go on one by one, and the card keeps the reason.
    """

    def __init__(self, card: Card, work: Callable[[], None]) -> None:
        self._card, self._work = card, work
        self._warm = False
        self._graph: Any = None

    def __call__(self) -> None:
        """Do the work."""
        if self._warm and self._graph is None and not self._card.recording_fault:
            try:
                self._graph = self._record()
            except Exception as error:
                self._card.recording_fault = str(error).partition("\n")[0]
        if self._graph is not None:
            self._graph.launch(self._card.queue.stream)
        else:
            self._work()
            self._warm = True

    def _record(self) -> Any:
        builder = self._card.queue.stream.create_graph_builder()
        builder.begin_building(mode="relaxed")  # other threads, and the collector, go on
        try:
            self._work()
        except BaseException:
            with contextlib.suppress(Exception):
                builder.end_building()
            raise
        builder.end_building()
        graph = builder.complete()
        builder.close()
        return graph


def _give_back_on_the_card(pending: Any, ordinal: int) -> None:
    """Have what arrays held given back with their card current.

    Whichever thread collects garbage runs numba's finalizers, one that has no card current too:
    the driver refuses there, and what was to be given back would never be.
    """
    if "clear" in vars(pending):  # another `Card` of the same context has seen to it
        return
    plain = pending.clear

    def clear() -> None:
        with cuda.gpus[ordinal]:
            plain()

    pending.clear = clear
