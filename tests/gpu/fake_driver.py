"""A CUDA driver made of Python: numba-cuda and cuda.core drive it as they would a card's.

A small C library of the driver's name forwards every function that is asked for to this module.
Kernels are run by `ptx_machine`.  Streams are as lazy as a card may be: nothing that was sent to
one happens before somebody waits for it, so that a missing wait or a missing dependency between
streams shows.  Fresh memory is full of NaN.  What is not known is answered with "not found", and
the caller says which function it was.
"""

from __future__ import annotations

import ctypes
import subprocess
import threading
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from pathlib import Path

import numpy as np

from tests.gpu import ptx_machine

_C = """
typedef int (*resolver)(const char *, void **);
static resolver resolve;
void fake_set_resolver(resolver r) { resolve = r; }
int cuGetProcAddress_v2(const char *s, void **p, int v, unsigned long long f, int *status) {
    int missing = resolve(s, p); if (status) *status = missing ? 1 : 0; return missing ? 500 : 0; }
int cuGetProcAddress(const char *s, void **p, int v, unsigned long long f) {
    return cuGetProcAddress_v2(s, p, v, f, 0); }
#define FORWARD(name, types, names) int name types { void *p; \\
    return resolve(#name, &p) ? 500 : ((int (*) types)p) names; }
FORWARD(cuInit, (unsigned a), (a))
FORWARD(cuDeviceGetCount, (int *a), (a))
FORWARD(cuDriverGetVersion, (int *a), (a))
FORWARD(cuDeviceGet, (int *a, int b), (a, b))
FORWARD(cuDeviceGetName, (char *a, int b, int c), (a, b, c))
FORWARD(cuDeviceGetAttribute, (int *a, int b, int c), (a, b, c))
"""

OUT_OF_MEMORY, INVALID_CONTEXT, NOT_FOUND, UNJOINED = 2, 201, 500, 904
MULTIPROCESSORS = 4
CAPABILITY = (9, 0)
TOTAL_MEMORY = 1 << 30


class LaunchConfig(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = [
        *((n, c_uint) for n in ("gx", "gy", "gz", "bx", "by", "bz", "shared")),
        ("stream", c_void_p), ("attributes", c_void_p), ("n_attributes", c_uint),
    ]  # fmt: skip


class Stream:
    """What was sent and has not happened yet."""

    def __init__(self) -> None:
        self.queue: list = []
        self.graph: list | None = None  # where it goes instead, while it is recorded
        self.recorded_into: Graph | None = None


class Graph:
    """Recorded work: a list of operations for each stream that took part."""

    def __init__(self, origin: Stream) -> None:
        self.origin = origin
        self.lists: dict[int, list] = {}
        self.handle = 0


class Driver:
    """The driver's functions, by their names; handles are small integers."""

    def __init__(self) -> None:
        self.memory: dict[int, np.ndarray] = {}  # device
        self.host: dict[int, np.ndarray] = {}  # pinned
        self.streams: dict[int, Stream] = {0: Stream(), 1: Stream(), 2: Stream()}
        self.events: dict[int, tuple] = {}
        self.done: set = set()
        self.serial = 100
        self.names: dict[int, str] = {}
        self.programs: dict[object, ptx_machine.Program] = {}  # by numba's kernel
        self.graphs: dict[int, Graph] = {}
        self.threads = threading.local()
        self.launched: list[str] = []
        self.graph_launches = 0
        self._kept: list = []
        self._pointers: dict[str, int] = {}
        self.asked_in_vain: set[str] = set()

    @property
    def contexts(self) -> list[int]:
        """The stack of contexts of the calling thread."""
        if not hasattr(self.threads, "contexts"):
            self.threads.contexts = []
        return self.threads.contexts

    def handle(self) -> int:
        self.serial += 1
        return self.serial

    # -- how it gets called ----------------------------------------------------------------------

    def install(self, folder: Path) -> None:
        """Build the library and load it: from now on it is the process's CUDA driver."""
        source, library = folder / "driver.c", folder / "libcuda.so.1"
        source.write_text(_C)
        command = ["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", library, source]
        subprocess.run(command, check=True)
        handle = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        prototype = ctypes.CFUNCTYPE(c_int, c_char_p, POINTER(c_void_p))
        resolver = prototype(self._resolve)
        self._kept += [handle, resolver]
        handle.fake_set_resolver(resolver)

    def watch_the_compiler(self) -> None:
        """Learn each kernel's PTX, fresh or from numba's cache, before it is launched.

        Not by its name: kernels that other processes compiled and kept may have the same.
        """
        from numba.cuda import dispatcher

        launch = dispatcher._Kernel.launch

        def learn(kernel, *args, **options):
            if kernel not in self.programs:
                ptx = kernel._codelibrary.get_asm_str(CAPABILITY)
                self.programs[kernel] = ptx_machine.parse(ptx)
            self.threads.program = self.programs[kernel]
            launch(kernel, *args, **options)

        dispatcher._Kernel.launch = learn

    def _resolve(self, symbol: bytes, out) -> int:
        name = symbol.decode().removesuffix("_v2").removesuffix("_v3").removesuffix("_ptsz")
        function = getattr(self, name, None)
        types = SIGNATURES.get(name)
        if function is None or types is None:
            self.asked_in_vain.add(name)
            return NOT_FOUND
        if name not in self._pointers:

            def guarded(*args, function=function):
                try:
                    return function(*args) or 0
                except BaseException as error:  # nothing may leave a callback
                    print(f"{function.__name__}: {error!r}", flush=True)
                    return 999

            callback = ctypes.CFUNCTYPE(c_int, *types)(guarded)
            self._kept.append(callback)
            self._pointers[name] = ctypes.cast(callback, c_void_p).value
        out[0] = self._pointers[name]
        return 0

    # -- devices and contexts --------------------------------------------------------------------

    def cuInit(self, flags): ...

    def cuDriverGetVersion(self, out):
        out[0] = 13000

    def cuDeviceGetCount(self, out):
        out[0] = 1

    def cuDeviceGet(self, out, ordinal):
        out[0] = ordinal

    def cuDeviceGetName(self, out, size, device):
        ctypes.memmove(out, b"Card of Python\0", 15)

    def cuDeviceGetAttribute(self, out, attribute, device):
        out[0] = {16: MULTIPROCESSORS, 75: CAPABILITY[0], 76: CAPABILITY[1], 10: 32, 1: 1024}.get(
            attribute, 1
        )

    def cuDeviceGetUuid(self, out, device):
        ctypes.memset(out, 7, 16)

    def cuDevicePrimaryCtxRetain(self, out, device):
        out[0] = 77

    def cuDevicePrimaryCtxRelease(self, device): ...

    def cuDevicePrimaryCtxGetState(self, device, flags, active):
        flags[0], active[0] = 0, 1

    def cuCtxPushCurrent(self, context):
        self.contexts.append(context)

    def cuCtxPopCurrent(self, out):
        out[0] = self.contexts.pop() if self.contexts else 0

    def cuCtxGetCurrent(self, out):
        out[0] = self.contexts[-1] if self.contexts else 0

    def cuCtxSetCurrent(self, context):
        self.contexts[-1:] = [context]

    def cuCtxGetDevice(self, out):
        out[0] = 0

    def cuCtxGetId(self, context, out):
        out[0] = 1

    def cuCtxSynchronize(self):
        for stream in list(self.streams.values()):
            self.drain(stream)

    def cuGetErrorName(self, error, out):
        out[0] = ctypes.cast(ctypes.c_char_p(b"CUDA_ERROR"), c_void_p).value

    cuGetErrorString = cuGetErrorName

    # -- memory ----------------------------------------------------------------------------------

    def cuMemGetInfo(self, free, total):
        free[0] = TOTAL_MEMORY - sum(a.size for a in self.memory.values())
        total[0] = TOTAL_MEMORY

    def _allocate(self, where, size) -> int:
        room = np.full(size + 256, 0xFF, np.uint8)
        start = -room.ctypes.data % 256
        array = room[start : start + size]
        where[array.ctypes.data] = array
        return array.ctypes.data

    def cuMemAlloc(self, out, size):
        if size + sum(a.size for a in self.memory.values()) > TOTAL_MEMORY:
            return OUT_OF_MEMORY
        out[0] = self._allocate(self.memory, size)
        return 0

    def cuMemFree(self, pointer):
        if not self.contexts:
            return INVALID_CONTEXT
        self.cuCtxSynchronize()
        del self.memory[pointer]
        return 0

    def cuMemHostAlloc(self, out, size, flags):
        out[0] = self._allocate(self.host, size)

    def cuMemFreeHost(self, pointer):
        self.cuCtxSynchronize()
        del self.host[pointer]

    def _pinned(self, pointer, size) -> bool:
        return any(s <= pointer and pointer + size <= s + a.size for s, a in self.host.items())

    def _device(self, pointer, size) -> None:
        if not any(s <= pointer and pointer + size <= s + a.size for s, a in self.memory.items()):
            raise ptx_machine.KernelFault(f"{size} bytes at {pointer:#x} are not the card's")

    def _move(self, to, source, size):
        return lambda: ctypes.memmove(to, source, size)

    def cuMemcpyHtoD(self, to, source, size):
        self._device(to, size)
        self._move(to, source, size)()

    def cuMemcpyDtoH(self, to, source, size):
        self._device(source, size)
        self._move(to, source, size)()

    def cuMemcpyHtoDAsync(self, to, source, size, stream):
        self._device(to, size)
        if not self._pinned(source, size):  # staged before the call returns
            staged = ctypes.create_string_buffer(ctypes.string_at(source, size), size)
            self.send(stream, lambda: ctypes.memmove(to, staged, size))
        else:
            self.send(stream, self._move(to, source, size))

    def cuMemcpyDtoHAsync(self, to, source, size, stream):
        self._device(source, size)
        assert self._pinned(to, size), "an asynchronous copy to memory that is not pinned"
        self.send(stream, self._move(to, source, size))

    def cuMemcpyDtoDAsync(self, to, source, size, stream):
        self._device(source, size)
        self._device(to, size)
        self.send(stream, self._move(to, source, size))

    def cuMemcpyDtoD(self, to, source, size):
        self._move(to, source, size)()

    def cuMemsetD8Async(self, to, byte, size, stream):
        self._device(to, size)
        self.send(stream, lambda: ctypes.memset(to, byte, size))

    def cuMemsetD8(self, to, byte, size):
        ctypes.memset(to, byte, size)

    # -- streams and events ----------------------------------------------------------------------

    def stream(self, handle) -> Stream:
        return self.streams[handle or 0]

    def send(self, handle, work) -> None:
        stream = self.stream(handle)
        if stream.graph is not None:
            stream.graph.append(work)
        else:
            stream.queue.append(work)

    def drain(self, stream: Stream, until=None) -> None:
        """Let a stream's work happen, all of it or up to a mark."""
        while stream.queue and until not in self.done:
            work = stream.queue.pop(0)
            if callable(work):
                work()
                continue
            kind, mark, other = work
            if kind == "record":
                self.done.add(mark)
            elif mark not in self.done:
                self.drain(other, mark)

    def cuStreamCreate(self, out, flags):
        out[0] = self.handle()
        self.streams[out[0]] = Stream()

    def cuStreamCreateWithPriority(self, out, flags, priority):
        return self.cuStreamCreate(out, flags)

    def cuStreamDestroy(self, handle): ...

    def cuCtxGetStreamPriorityRange(self, least, greatest):
        least[0], greatest[0] = 0, -5

    def cuStreamGetPriority(self, handle, out):
        out[0] = 0

    def cuStreamGetFlags(self, handle, out):
        out[0] = 1

    def cuStreamGetCtx(self, handle, out):
        out[0] = 77

    def cuStreamGetDevice(self, handle, out):
        out[0] = 0

    def cuStreamSynchronize(self, handle):
        stream = self.stream(handle)
        assert stream.graph is None, "a wait while recording"
        self.drain(stream)

    def cuEventCreate(self, out, flags):
        out[0] = self.handle()

    def cuEventDestroy(self, event): ...

    def cuEventRecord(self, event, handle):
        stream = self.stream(handle)
        mark = (event, self.handle())
        self.events[event] = (mark, stream)
        self.send(handle, ("record", mark, None))

    def cuStreamWaitEvent(self, handle, event, flags):
        mark, source = self.events[event]
        stream = self.stream(handle)
        graph = source.recorded_into
        if graph is not None and stream.graph is None:  # it joins the recording
            assert not stream.queue or not graph.lists.get(id(stream)), "work on both sides"
            stream.recorded_into = graph
            stream.graph = graph.lists.setdefault(id(stream), [])
        self.send(handle, ("wait", mark, source))

    def cuEventSynchronize(self, event):
        mark, source = self.events[event]
        self.drain(source, mark)
        assert mark in self.done

    def cuEventQuery(self, event):
        return 0 if self.events[event][0] in self.done else 600

    # -- recordings ------------------------------------------------------------------------------

    def cuStreamBeginCapture(self, handle, mode):
        stream = self.stream(handle)
        graph = Graph(stream)
        graph.handle = self.handle()
        self.graphs[graph.handle] = graph
        stream.recorded_into = graph
        stream.graph = graph.lists.setdefault(id(stream), [])

    def cuStreamIsCapturing(self, handle, out):
        out[0] = int(self.stream(handle).graph is not None)

    def cuStreamGetCaptureInfo(self, handle, status, number, graph, deps, edges, n):
        into = self.stream(handle).recorded_into
        status[0] = int(into is not None)
        for target, value in ((number, 1), (graph, into.handle if into else 0), (n, 0)):
            if target:
                target[0] = value

    def cuStreamEndCapture(self, handle, out):
        origin = self.stream(handle)
        graph = origin.recorded_into
        waited = {work[1] for work in graph.lists[id(origin)] if not callable(work)}
        for stream in self.streams.values():
            if stream.recorded_into is graph:
                if stream is not origin and stream.graph:
                    last = stream.graph[-1]
                    if callable(last) or last[0] != "record" or last[1] not in waited:
                        return UNJOINED
                stream.graph = stream.recorded_into = None
        out[0] = graph.handle
        return 0

    def cuGraphInstantiateWithParams(self, out, graph, params):
        out[0] = self.handle()
        self.graphs[out[0]] = self.graphs[graph]

    def cuGraphInstantiateWithFlags(self, out, graph, flags):
        return self.cuGraphInstantiateWithParams(out, graph, None)

    cuGraphInstantiate = cuGraphInstantiateWithFlags

    def cuGraphDestroy(self, graph): ...

    def cuUserObjectCreate(self, out, pointer, destroy, count, flags):
        out[0] = self.handle()

    def cuUserObjectRetain(self, thing, count): ...

    def cuUserObjectRelease(self, thing, count): ...

    def cuGraphRetainUserObject(self, graph, thing, count, flags): ...

    def cuGraphReleaseUserObject(self, graph, thing, count): ...

    def cuGraphExecDestroy(self, graph): ...

    def cuGraphUpload(self, graph, stream): ...

    def cuGraphLaunch(self, handle, stream):
        graph = self.graphs[handle]
        self.graph_launches += 1

        def work():
            copies = {key: Stream() for key in graph.lists}
            again = {key: list(ops) for key, ops in graph.lists.items()}
            marks = {w[1]: key for key, ops in again.items() for w in ops
                     if not callable(w) and w[0] == "record"}  # fmt: skip
            now = self.handle()
            for key, ops in again.items():
                for w in ops:
                    if callable(w):
                        copies[key].queue.append(w)
                    else:
                        other = copies[marks[w[1]]]
                        copies[key].queue.append((w[0], (w[1], now), other))
            self.drain(copies[id(graph.origin)])
            for other in copies.values():
                self.drain(other)

        self.send(stream, work)

    # -- kernels ---------------------------------------------------------------------------------

    def cuLibraryLoadData(self, out, image, a, b, c, d, e, f):
        out[0] = self.handle()

    def cuLibraryUnload(self, library): ...

    def cuLibraryGetModule(self, out, library):
        out[0] = self.handle()

    def cuLibraryGetKernel(self, out, library, name):
        out[0] = self.handle()
        self.names[out[0]] = name.decode()

    def cuKernelGetFunction(self, out, kernel):
        out[0] = kernel

    def cuKernelGetAttribute(self, out, attribute, kernel, device):
        out[0] = 0

    def cuFuncGetAttribute(self, out, attribute, function):
        out[0] = 0

    def cuModuleGetFunction(self, out, module, name):
        return self.cuLibraryGetKernel(out, module, name)

    def cuModuleUnload(self, module): ...

    def cuLaunchKernelEx(self, config, kernel, params, extra):
        c = config[0]
        return self._launch(
            kernel, (c.gx, c.gy, c.gz), c.bx * c.by * c.bz, c.shared, c.stream, params
        )

    def cuLaunchKernel(self, kernel, gx, gy, gz, bx, by, bz, shared, stream, params, extra):
        return self._launch(kernel, (gx, gy, gz), bx * by * bz, shared, stream, params)

    def _launch(self, kernel, grid, block, shared, stream, params):
        name = self.names[kernel]
        program = self.threads.program  # of the kernel that this thread is about to launch
        values = []
        for i, (_, kind) in enumerate(program.params):
            dtype = ptx_machine.TYPES[kind]
            raw = ctypes.string_at(params[i], dtype.itemsize)
            values.append(np.frombuffer(raw, dtype)[0])

        def work():
            memory = sorted((start, array) for start, array in self.memory.items() if array.size)
            memory = [(array, start) for start, array in memory]
            self.launched.append(name)
            ptx_machine.run(program, grid, block, values, memory, shared)

        self.send(stream, work)


_i, _u, _p, _s, _n = c_int, c_uint, c_void_p, c_size_t, c_char_p
_pi, _pp, _ps = POINTER(c_int), POINTER(c_void_p), POINTER(c_size_t)
SIGNATURES = {
    "cuInit": [_u], "cuDriverGetVersion": [_pi], "cuDeviceGetCount": [_pi],
    "cuDeviceGet": [_pi, _i], "cuDeviceGetName": [_p, _i, _i],
    "cuDeviceGetAttribute": [_pi, _i, _i], "cuDeviceGetUuid": [_p, _i],
    "cuDevicePrimaryCtxRetain": [_pp, _i], "cuDevicePrimaryCtxRelease": [_i],
    "cuDevicePrimaryCtxGetState": [_i, POINTER(c_uint), _pi],
    "cuCtxPushCurrent": [_p], "cuCtxPopCurrent": [_pp], "cuCtxGetCurrent": [_pp],
    "cuCtxSetCurrent": [_p], "cuCtxGetDevice": [_pi], "cuCtxSynchronize": [],
    "cuCtxGetId": [_p, POINTER(c_uint64)],
    "cuGetErrorName": [_i, _pp], "cuGetErrorString": [_i, _pp],
    "cuMemGetInfo": [_ps, _ps], "cuMemAlloc": [_pp, _s], "cuMemFree": [_p],
    "cuMemHostAlloc": [_pp, _s, _u], "cuMemFreeHost": [_p],
    "cuMemcpyHtoD": [_p, _p, _s], "cuMemcpyDtoH": [_p, _p, _s], "cuMemcpyDtoD": [_p, _p, _s],
    "cuMemcpyHtoDAsync": [_p, _p, _s, _p], "cuMemcpyDtoHAsync": [_p, _p, _s, _p],
    "cuMemcpyDtoDAsync": [_p, _p, _s, _p], "cuMemsetD8": [_p, ctypes.c_ubyte, _s],
    "cuMemsetD8Async": [_p, ctypes.c_ubyte, _s, _p],
    "cuStreamCreate": [_pp, _u], "cuStreamCreateWithPriority": [_pp, _u, _i],
    "cuStreamDestroy": [_p], "cuCtxGetStreamPriorityRange": [_pi, _pi],
    "cuStreamGetPriority": [_p, _pi], "cuStreamGetFlags": [_p, POINTER(c_uint)],
    "cuStreamGetCtx": [_p, _pp], "cuStreamGetDevice": [_p, _pi], "cuStreamSynchronize": [_p],
    "cuEventCreate": [_pp, _u], "cuEventDestroy": [_p], "cuEventRecord": [_p, _p],
    "cuStreamWaitEvent": [_p, _p, _u], "cuEventSynchronize": [_p], "cuEventQuery": [_p],
    "cuStreamBeginCapture": [_p, _i], "cuStreamIsCapturing": [_p, _pi],
    "cuStreamGetCaptureInfo": [_p, _pi, POINTER(c_uint64), _pp, _p, _p, _ps],
    "cuStreamEndCapture": [_p, _pp],
    "cuGraphInstantiateWithParams": [_pp, _p, _p],
    "cuGraphInstantiateWithFlags": [_pp, _p, c_uint64], "cuGraphInstantiate": [_pp, _p, c_uint64],
    "cuGraphDestroy": [_p], "cuGraphExecDestroy": [_p], "cuGraphUpload": [_p, _p],
    "cuGraphLaunch": [_p, _p],
    "cuUserObjectCreate": [_pp, _p, _p, _u, _u], "cuUserObjectRetain": [_p, _u],
    "cuUserObjectRelease": [_p, _u], "cuGraphRetainUserObject": [_p, _p, _u, _u],
    "cuGraphReleaseUserObject": [_p, _p, _u],
    "cuLibraryLoadData": [_pp, _p, _p, _p, _u, _p, _p, _u], "cuLibraryUnload": [_p],
    "cuLibraryGetModule": [_pp, _p], "cuLibraryGetKernel": [_pp, _p, _n],
    "cuKernelGetFunction": [_pp, _p], "cuKernelGetAttribute": [_pi, _i, _p, _i],
    "cuFuncGetAttribute": [_pi, _i, _p], "cuModuleGetFunction": [_pp, _p, _n],
    "cuModuleUnload": [_p],
    "cuLaunchKernelEx": [POINTER(LaunchConfig), _p, _pp, _pp],
    "cuLaunchKernel": [_p, *[_u] * 7, _p, _pp, _pp],
}  # fmt: skip
