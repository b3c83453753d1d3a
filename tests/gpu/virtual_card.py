"""A card made of NumPy: its kernels are compiled as for a real one and run by `ptx_machine`."""

from __future__ import annotations

import contextlib

import numpy as np

from goose_gpu.launch import Queue
from tests.gpu import ptx_machine
from tests.gpu.assembling import ptx_of, signature

_PROGRAMS: dict = {}


class VirtualQueue(Queue):
    """Runs each launch at once."""

    def __init__(self, cc=(9, 0), multiprocessors: int = 2) -> None:
        super().__init__(0, multiprocessors)
        self.cc = cc
        self.log: list[str] = []

    def launch(self, kernel, grid, block, *args, shared=0):
        key = kernel, str(signature(*args)), self.cc
        if key not in _PROGRAMS:
            _PROGRAMS[key] = ptx_machine.parse(ptx_of(kernel, args, self.cc))
        assert block % 32 == 0
        assert block <= 1024
        ptx_machine.launch(_PROGRAMS[key], grid, block, args, shared)
        self.launches += 1
        self.log.append(kernel.py_func.__name__)


class VirtualCard:
    """What `goose_gpu.card.Card` is, without a card."""

    name, driver, ordinal, recording_fault = "virtual card", "none", 0, ""

    def __init__(self, cc=(9, 0)) -> None:
        self.queue = VirtualQueue(cc)
        self.tensor_cores = cc >= (8, 0)

    @contextlib.contextmanager
    def active(self):
        yield

    def memory(self):
        return None

    def require(self, nbytes, what):
        pass

    def zeros(self, shape, dtype):
        return np.zeros(shape, dtype)

    pinned = zeros

    def upload(self, host):
        return host.copy()

    def to_device(self, host, device):
        device[...] = host

    def to_host(self, device, host, side=False):
        assert device.shape == host.shape
        host[...] = device

    copy = to_device

    def fork(self):
        pass

    join = release = synchronize = fork

    def free(self, held):
        held.clear()

    def mark_side(self):
        return None

    def wait(self, mark):
        pass

    def record(self, work):
        return work
