"""Runs a kernel's PTX in NumPy: the compiled code itself, lane by lane, where there is no card.

All threads of many blocks are the lanes of NumPy arrays.  A lane has its own program counter; the
lanes at the lowest one go next, so that lanes that part come together again behind a branch.  What
a card would let pass in silence is an error here:

- an access outside an array that was passed, or off its alignment;
- a shuffle, matrix instruction or barrier that not all its lanes reach;
- shared memory that one warp writes and another reads or writes without a barrier between
  (the lock-step would hide it);
- a read of shared memory that nothing has written: it is filled with NaN.

It knows the instructions that these kernels compile to, and names the first it does not know.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

_INT = {f"{k}{n}": np.dtype(f"{'i' if k == 's' else 'u'}{n // 8}")
        for k in "sub" for n in (8, 16, 32, 64)}  # fmt: skip
TYPES = {
    **_INT,
    "f16": np.dtype("f2"),
    "f32": np.dtype("f4"),
    "f64": np.dtype("f8"),
    "pred": np.dtype(bool),
}
SHARED = np.uint64(1 << 62)  # generic addresses from here on are shared memory
WARP_WIDE = ("bar", "barrier", "shfl", "mma", "ldmatrix")
LANES_AT_ONCE = 8192


class KernelFault(AssertionError):
    """The kernel did what a card must not be made to do."""


@dataclass
class Instruction:
    """One line of PTX."""

    text: str
    guard: str | None
    negated: bool
    op: list[str]
    args: list


@dataclass
class Program:
    """A kernel's code, its parameters and its static shared memory."""

    params: list[tuple[str, str]]
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    shared: dict[str, int] = field(default_factory=dict)
    static_bytes: int = 0


def _operands(text: str) -> list:
    parts, depth, word = [], 0, ""
    for ch in text:
        depth += (ch in "{[" and 1) or ((ch in "}]" and -1) or 0)
        if ch == "," and depth == 0:
            parts.append(word.strip())
            word = ""
        else:
            word += ch
    if word.strip():
        parts.append(word.strip())
    return [[p.strip() for p in x[1:-1].split(",")] if x.startswith("{") else x for x in parts]


def parse(ptx: str) -> Program:
    """The one entry of a PTX module."""
    ptx = re.sub(r"//[^\n]*", "", ptx)
    entry = re.search(r"\.entry\s+\S+?\((.*?)\)\s*(?:\.\w+[^{;]*)*\{", ptx, re.S)
    params = re.findall(r"\.param\s+\.(\w+)\b[^,]*?(\S+?)\s*(?:,|$)", entry[1].strip())
    program = Program([(name, kind) for kind, name in params])
    extern = []
    for ext, align, name, size in re.findall(
        r"(\.extern\s+)?\.shared\s+\.align\s+(\d+)\s+\.b8\s+([\w$]+)\[(\d*)\]", ptx
    ):
        at = -(-program.static_bytes // int(align)) * int(align)
        if ext:
            extern.append((name, int(align)))
        else:
            program.shared[name] = at
            program.static_bytes = at + int(size)
    for name, align in extern:
        program.shared[name] = -(-program.static_bytes // align) * align
    depth, body = 1, ""
    for ch in ptx[entry.end() :]:
        depth += (ch == "{") - (ch == "}")
        if depth == 0:
            break
        body += ch
    # a brace that opens a scope stands behind a statement's end; one that groups, behind an operand
    body = re.sub(r"(^|[;:}\n])(\s*)\{(?=[^{};]*;)", r"\1\2 ", body)
    body = re.sub(r"(;\s*)\}", r"\1 ", body)
    body = re.sub(r"(;\s*)\}", r"\1 ", body)
    body = re.sub(r"([\w$]+):(?!:)", r"\1:;", body)
    for line in body.split(";"):
        text = " ".join(line.split())
        if not text or text.startswith((".reg", ".loc", ".pragma", ".file")):
            continue
        if text.endswith(":"):
            program.labels[text[:-1]] = len(program.code)
            continue
        guard, negated = None, False
        if text.startswith("@"):
            word, text = text.split(" ", 1)
            negated = word[1] == "!"
            guard = word[1 + negated :]
        name, _, rest = text.partition(" ")
        program.code.append(Instruction(text, guard, negated, name.split("."), _operands(rest)))
    return program


class Machine:
    """One launch of a program over a batch of blocks."""

    def __init__(self, program, values, memory, grid, block, blocks, shared_bytes):
        self.p, self.values, self.memory = program, values, memory
        self.starts = np.array([start for _, start in memory], np.uint64)
        self.threads, self.grid = block, grid
        n = len(blocks) * block
        self.n = n
        self.thread = np.tile(np.arange(block, dtype=np.uint32), len(blocks))
        self.block_of = np.repeat(np.arange(len(blocks)), block)
        self.ids = [np.repeat(np.array([b[i] for b in blocks], np.uint32), block) for i in range(3)]
        self.dynamic_bytes = shared_bytes
        total = -(-(program.static_bytes + shared_bytes + 64) // 16) * 16
        self.shared_end = -(-program.static_bytes // 4) * 4 + shared_bytes
        self.shared_total = total
        self.smem = np.full(len(blocks) * total, 0xFF, np.uint8)
        words = len(blocks) * total // 4
        self.epoch = np.zeros(len(blocks), np.int64)
        self.warp = np.arange(n) // 32
        self.wrote = np.full((words, 2), -1)  # epoch, warp
        self.read = np.full((words, 2), -1)  # epoch, warp; warp -2 for several
        self.regs: dict[str, np.ndarray] = {}
        self.pc = np.zeros(n, np.int64)
        self.live = np.ones(n, bool)
        self.waiting = np.zeros(n, bool)  # at a barrier, for the block
        self.held = np.zeros(n, bool)  # at an instruction of the whole warp, for its other lanes
        self.executed = 0
        self.group = np.zeros(n, np.int64)  # cp.async groups that each lane has closed
        self.flying: list = []

    # -- operands --------------------------------------------------------------------------------

    def value(self, operand: str, kind: np.dtype) -> np.ndarray:
        """An operand's bits as an array of a type, one per lane."""
        negate = operand.startswith("-%")
        if operand.startswith("!"):
            return ~self.value(operand[1:], kind)
        if operand in self.regs:
            raw = self.regs[operand]
            if kind == TYPES["pred"]:
                return raw
            if raw.dtype.itemsize == kind.itemsize:
                return raw.view(kind)
            if raw.dtype.itemsize > kind.itemsize:
                return raw.astype(f"u{kind.itemsize}").view(kind)
            raise KernelFault(f"{operand} is narrower than {kind}")
        if negate:
            return -self.value(operand[1:], kind)
        if operand.startswith("%"):
            return self.special(operand).astype(kind)
        if operand.startswith("0f"):
            return np.full(self.n, int(operand[2:], 16), np.uint32).view(kind)
        if operand.startswith("0d"):
            return np.full(self.n, int(operand[2:], 16), np.uint64).view(kind)
        if operand in self.p.shared:
            return np.full(self.n, self.p.shared[operand], kind)
        if re.fullmatch(r"-?(0x[0-9A-Fa-f]+|\d+)U?", operand):
            number = int(operand.rstrip("U"), 0) & ((1 << (8 * kind.itemsize)) - 1)
            return np.full(self.n, number, f"u{kind.itemsize}").view(kind)
        raise KernelFault(f"nothing is called {operand} yet")

    def special(self, name: str) -> np.ndarray:
        base, _, axis = name[1:].partition(".")
        i = "xyz".find(axis)
        if base == "tid":
            return self.thread if i == 0 else np.zeros(self.n, np.uint32)
        if base == "ntid":
            return np.full(self.n, self.threads if i == 0 else 1, np.uint32)
        if base == "ctaid":
            return self.ids[i]
        if base == "nctaid":
            return np.full(self.n, self.grid[i], np.uint32)
        if base == "dynamic_smem_size":
            return np.full(self.n, self.dynamic_bytes, np.uint32)
        if base == "laneid":
            return self.thread % np.uint32(32)
        raise KernelFault(f"nothing is called {name} yet")

    def put(self, name: str, value: np.ndarray, mask: np.ndarray) -> None:
        """Write a register in the masked lanes."""
        if name == "_":
            return
        if value.dtype != bool:
            value = value.view(f"u{value.dtype.itemsize}")
        old = self.regs.get(name)
        if old is None or old.dtype != value.dtype:
            old = np.zeros(self.n, value.dtype)
        self.regs[name] = np.where(mask, value, old)

    def address(self, operand: str) -> np.ndarray:
        """The bytes address of ``[register + offset]``."""
        base, _, offset = operand[1:-1].replace(" ", "").partition("+")
        known = self.regs.get(base)
        wide = known.astype(np.uint64) if known is not None else self.value(base, TYPES["u64"])
        return wide + np.uint64(int(offset or 0) & (2**64 - 1))

    # -- memory ----------------------------------------------------------------------------------

    def _shared_index(self, address, lanes, size, width):
        byte = (address[lanes] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        if (byte % width).any():
            raise KernelFault(f"shared access of {width} bytes at {byte[byte % width != 0][0]}")
        if (byte + size > self.shared_end).any():
            raise KernelFault(f"shared byte {byte.max()} of {self.shared_end}")
        return (byte + self.block_of[lanes] * self.shared_total) // size

    def _race(self, words, lanes, store: bool) -> None:
        now, warp = self.epoch[self.block_of[lanes]], self.warp[lanes]
        wrote, read = self.wrote[words], self.read[words]
        if ((wrote[:, 0] == now) & (wrote[:, 1] != warp)).any():
            raise KernelFault("shared memory: written by another warp since the last barrier")
        if store:
            if ((read[:, 0] == now) & (read[:, 1] != warp)).any():
                raise KernelFault("shared memory: read by another warp since the last barrier")
            self.wrote[words] = np.stack([now, warp], 1)
        else:
            several = (read[:, 0] == now) & (read[:, 1] != warp)
            mark = np.where(several, -2, warp)
            # lanes of several warps may read one word in this very instruction
            self.read[words] = np.stack([now, mark], 1)
            clash = (self.read[words] != np.stack([now, mark], 1)).any(1)
            self.read[words[clash], 1] = -2

    def access(self, space, address, lanes, dtype, count, store=None):
        """Load (lanes, count) numbers, or store them."""
        size = dtype.itemsize
        if space == "" and len(lanes):
            space = "shared" if (address[lanes] >= SHARED).all() else "global"
        if space == "shared":
            first = self._shared_index(address, lanes, size, size * count)
            buffer = self.smem.view(f"u{size}")
            index = first[:, None] + np.arange(count)
            if size >= 4:
                for i in range(count):
                    self._race((first + i) * size // 4, lanes, store is not None)
            if store is None:
                return buffer[index]
            buffer[index] = store
            return None
        where = address[lanes]
        if ((where & np.uint64(size * count - 1)) != 0).any():
            raise KernelFault(f"global access of {size * count} bytes off its alignment")
        numbers = np.searchsorted(self.starts, where, side="right") - 1
        out = np.empty((len(lanes), count), f"u{size}")
        for number in np.unique(numbers):
            mine = numbers == number
            if number < 0:
                raise KernelFault(f"address {int(where[mine][0]):#x} belongs to no array")
            flat, start = self.memory[number]
            byte = (where[mine] - np.uint64(start)).astype(np.int64)
            if (byte + size * count > flat.size).any():
                raise KernelFault(
                    f"bytes {byte.min()} to {byte.max() + size * count} of an array of {flat.size}"
                )
            view = flat[: flat.size // size * size].view(f"u{size}")
            index = (byte // size)[:, None] + np.arange(count)
            if store is None:
                out[mine] = view[index]
            else:
                view[index] = store[mine]
        return out if store is None else None

    # -- running ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Until every lane has returned."""
        code = self.p.code
        with np.errstate(all="ignore"):
            while True:
                ready = self.live & ~self.waiting & ~self.held
                if not ready.any():
                    if not self.live.any():
                        return
                    raise KernelFault(
                        "lanes wait at a barrier or a shuffle that the others never reach"
                    )
                at = self.pc[ready].min()
                instruction = code[at]
                if instruction.op[0] in WARP_WIDE:  # the lanes of a warp go together
                    here = self.live & ~self.waiting & (self.pc == at)
                    whole = (here | ~self.live).reshape(-1, 32).all(1)
                    self.held = np.where(here, ~whole[self.warp], self.held)
                    mask = here & whole[self.warp]
                    if not mask.any():
                        continue
                else:
                    mask = ready & (self.pc == at)
                self.pc[mask] = at + 1
                if instruction.guard is not None:
                    guard = self.regs[instruction.guard]
                    mask = mask & (~guard if instruction.negated else guard)
                self.executed += 1
                try:
                    self.execute(instruction, mask)
                except KernelFault as fault:
                    raise KernelFault(f"{fault}, in: {instruction.text[:120]}") from None

    def execute(self, ins: Instruction, mask: np.ndarray) -> None:
        name = ins.op[0]
        handler = getattr(self, "op_" + name, None)
        if handler is None:
            raise KernelFault("an instruction that this machine does not know")
        handler(ins, mask)

    def op_bra(self, ins, mask):
        self.pc[mask] = self.p.labels[ins.args[0]]

    def op_ret(self, ins, mask):
        self.live[mask] = False

    op_exit = op_ret

    def op_bar(self, ins, mask):
        self.waiting |= mask
        still = (self.live & ~self.waiting).reshape(-1, self.threads).any(1)
        done = ~still & self.waiting.reshape(-1, self.threads).any(1)
        self.epoch[done] += 1
        self.waiting[done[self.block_of]] = False

    op_barrier = op_bar

    def op_membar(self, ins, mask):
        pass

    op_fence = op_membar

    def op_mov(self, ins, mask):
        kind = TYPES[ins.op[-1]]
        target, source = ins.args
        if isinstance(source, list):
            half = TYPES[f"u{4 * kind.itemsize}"]
            parts = np.stack([self.value(s, half) for s in source], 1)
            self.put(target, parts.copy().view(f"u{kind.itemsize}")[:, 0], mask)
        elif isinstance(target, list):
            parts = self.value(source, kind).copy().view(f"u{kind.itemsize // 2}").reshape(-1, 2)
            for t, part in zip(target, parts.T, strict=True):
                self.put(t, part.copy(), mask)
        else:
            self.put(target, self.value(source, kind), mask)

    def op_ld(self, ins, mask):
        space = next((s for s in ("param", "global", "shared") if s in ins.op), "")
        dtype = TYPES[ins.op[-1]]
        targets = ins.args[0] if isinstance(ins.args[0], list) else [ins.args[0]]
        if space == "param":
            value = self.values[ins.args[1][1:-1]]
            self.put(targets[0], np.full(self.n, value).view(dtype), mask)
            return
        lanes = np.flatnonzero(mask)
        got = self.access(space, self.address(ins.args[1]), lanes, dtype, len(targets))
        for i, target in enumerate(targets):
            full = np.zeros(self.n, dtype)
            full[lanes] = got[:, i].view(dtype)
            width = max(2 if target.startswith("%rs") else 4, dtype.itemsize)
            if target.startswith("%rd"):
                width = 8
            self.put(target, full.astype(f"{dtype.kind}{width}"), mask)

    def op_st(self, ins, mask):
        space = next((s for s in ("global", "shared") if s in ins.op), "")
        dtype = TYPES[ins.op[-1]]
        sources = ins.args[1] if isinstance(ins.args[1], list) else [ins.args[1]]
        lanes = np.flatnonzero(mask)
        values = np.stack([self.value(s, dtype)[lanes] for s in sources], 1)
        self.access(
            space, self.address(ins.args[0]), lanes, dtype, len(sources),
            values.view(f"u{dtype.itemsize}"),
        )  # fmt: skip

    def op_atom(self, ins, mask):
        dtype = TYPES[ins.op[-1]]
        if ins.op[-2] != "add":
            raise KernelFault("an atomic that this machine does not know")
        address, operand = self.address(ins.args[1]), self.value(ins.args[2], dtype)
        old = np.zeros(self.n, dtype)
        for lane in np.flatnonzero(mask):
            one = np.array([lane])
            space = "shared" if "shared" in ins.op else "global"
            got = self.access(space, address, one, dtype, 1)
            old[lane] = got[0, 0]
            self.access(space, address, one, dtype, 1, got + operand[one][:, None])
        self.put(ins.args[0], old, mask)

    def op_cvta(self, ins, mask):
        source = self.value(ins.args[1], TYPES["u64"])
        if "shared" in ins.op:
            source = source ^ SHARED
        self.put(ins.args[0], source, mask)

    def op_setp(self, ins, mask):
        kind = TYPES[ins.op[-1]]
        a, b = self.value(ins.args[1], kind), self.value(ins.args[2], kind)
        test = ins.op[1]
        unordered = kind.kind == "f" and len(test) == 3 and test.endswith("u")
        compare = {
            "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
            "gt": np.greater, "ge": np.greater_equal, "lo": np.less, "ls": np.less_equal,
            "hi": np.greater, "hs": np.greater_equal,
        }  # fmt: skip
        if test in ("nan", "num"):
            nan = np.isnan(a) | np.isnan(b)
            self.put(ins.args[0], nan if test == "nan" else ~nan, mask)
            return
        result = compare[test[:2]](a, b)
        if kind.kind == "f":
            nan = np.isnan(a) | np.isnan(b)
            result = (result | nan) if unordered else (result & ~nan)
        self.put(ins.args[0], result, mask)

    def op_selp(self, ins, mask):
        kind = TYPES[ins.op[-1]]
        a, b = self.value(ins.args[1], kind), self.value(ins.args[2], kind)
        self.put(ins.args[0], np.where(self.value(ins.args[3], TYPES["pred"]), a, b), mask)

    def op_cvt(self, ins, mask):
        to, source = TYPES[ins.op[-2]], TYPES[ins.op[-1]]
        value = self.value(ins.args[1], source)
        if "sat" in ins.op:
            value = np.clip(value, 0, 1)
        if "rni" in ins.op:
            value = np.rint(value)
        elif "rzi" in ins.op:
            value = np.trunc(value)
        self.put(ins.args[0], value.astype(to), mask)

    def op_shfl(self, ins, mask):
        target, _, landed = ins.args[0].partition("|")
        value = self.value(ins.args[1], TYPES["u32"]).reshape(-1, 32)
        distance = self.value(ins.args[2], TYPES["s32"])[0]
        if ins.args[4] not in ("-1", "0xffffffff"):
            raise KernelFault("a shuffle among some lanes only")
        lanes = np.arange(32)
        source = lanes ^ distance if ins.op[2] == "bfly" else lanes - distance
        inside = (source >= 0) & (source < 32)
        source = np.where(inside, source, lanes)
        self.put(target, value[:, source].reshape(-1).copy(), mask)
        if landed:
            self.put(landed, np.tile(inside, self.n // 32), mask)

    # -- copies into shared memory, matrices -----------------------------------------------------

    def op_bfi(self, ins, mask):
        kind = TYPES["u" + ins.op[-1][1:]]
        a, b = self.value(ins.args[1], kind), self.value(ins.args[2], kind)
        at, length = int(ins.args[3]), int(ins.args[4])
        bits = kind.type(((1 << length) - 1) << at)
        self.put(ins.args[0], (b & ~bits) | ((a << kind.type(at)) & bits), mask)

    def op_bfe(self, ins, mask):
        kind = TYPES[ins.op[-1]]
        if kind.kind != "u":
            raise KernelFault("a signed bit field")
        a, at, length = self.value(ins.args[1], kind), int(ins.args[2]), int(ins.args[3])
        self.put(ins.args[0], (a >> kind.type(at)) & kind.type((1 << length) - 1), mask)

    def op_cp(self, ins, mask):
        """Copies land when their group is waited for, as late as a card may let them."""
        if ins.op[2] == "commit_group":
            self.group[mask] += 1
            return
        if ins.op[2] == "wait_group":
            due = self.group - int(ins.args[0])
            late = []
            for lanes, groups, target, values in self.flying:
                ready = mask[lanes] & (groups < due[lanes])
                self.access("shared", target, lanes[ready], TYPES["u32"], 4, values[ready])
                if not ready.all():
                    late.append((lanes[~ready], groups[~ready], target, values[~ready]))
            self.flying = late
            return
        target, source = self.address(ins.args[0]), self.address(ins.args[1])
        lanes = np.flatnonzero(mask)
        size = self.value(ins.args[3], TYPES["u32"]) if len(ins.args) > 3 else None
        values = np.zeros((len(lanes), 4), np.uint32)
        real = lanes if size is None else lanes[size[lanes] > 0]
        values[np.isin(lanes, real)] = self.access("global", source, real, TYPES["u32"], 4)
        self.flying.append((lanes, self.group[lanes], target, values))

    def op_ldmatrix(self, ins, mask):
        warps = np.flatnonzero(mask.reshape(-1, 32)[:, 0])
        address = self.address(ins.args[1])
        for i, target in enumerate(ins.args[0]):  # lanes 8 i … 8 i + 7 name the rows of matrix i
            rows = (warps[:, None] * 32 + 8 * i + np.arange(8)).reshape(-1)
            got = self.access("shared", address, rows, TYPES["u32"], 4)  # 8 rows of 16 bytes
            if "trans" in ins.op:
                square = got.view(np.uint16).reshape(-1, 8, 8).swapaxes(1, 2)
                got = np.ascontiguousarray(square).view(np.uint32)
            out = np.zeros((self.n // 32, 32), np.uint32)
            out[warps] = got.reshape(-1, 32)  # a lane has row lane / 4, pair lane % 4
            self.put(target, out.reshape(-1), mask)

    def op_mma(self, ins, mask):
        kind = ins.op[-2]
        if ins.op[3:6] != ["m16n8k16", "row", "col"]:
            raise KernelFault("a matrix instruction that this machine does not know")

        def numbers(register):  # (warps, 8 groups, 4 threads in a group, 2)
            bits = self.value(register, TYPES["u32"])
            if kind == "bf16":
                pair = np.empty((self.n, 2), np.uint32)
                pair[:, 0], pair[:, 1] = bits << np.uint32(16), bits & np.uint32(0xFFFF0000)
                pair = pair.view(np.float32)
            else:
                pair = bits.view(np.float16).reshape(-1, 2)
            return pair.reshape(-1, 8, 4, 2)

        d, a, b, c = ins.args
        warps = self.n // 32
        # PTX ISA: a lane is groupID 4 + threadID; a0 (row g, k 2t), a1 (g + 8), a2 (k + 8), a3 both
        A = np.empty((warps, 2, 8, 2, 4, 2))
        for i, register in enumerate(a):
            A[:, i % 2, :, i // 2] = numbers(register)
        B = np.empty((warps, 2, 4, 2, 8))  # b0 (k 2t, column g), b1 (k + 8)
        for i, register in enumerate(b):
            B[:, i] = numbers(register).transpose(0, 2, 3, 1)
        C = A.reshape(warps, 16, 16) @ B.reshape(warps, 16, 8)
        parts = C.reshape(warps, 2, 8, 4, 2)  # c0 c1 (row g, columns 2t, 2t + 1), c2 c3 (g + 8)
        for i, (target, old) in enumerate(zip(d, c, strict=True)):
            part = parts[:, i // 2, :, :, i % 2].reshape(-1)
            self.put(target, (part + self.value(old, TYPES["f32"])).astype(np.float32), mask)


def _binary(function):
    def op(self, ins, mask):
        kind = TYPES[ins.op[-1]]
        a, b = self.value(ins.args[1], kind), self.value(ins.args[2], kind)
        self.put(ins.args[0], np.asarray(function(a, b)).astype(kind, copy=False), mask)

    return op


def _unary(function):
    def op(self, ins, mask):
        kind = TYPES[ins.op[-1]]
        value = function(self.value(ins.args[1], kind))
        self.put(ins.args[0], value.astype(kind, copy=False), mask)

    return op


def _divide(a, b):
    if a.dtype.kind == "f":
        return a / b
    b = np.where(b == 0, b.dtype.type(1), b)
    return np.sign(a) * np.sign(b) * (abs(a) // abs(b)) if a.dtype.kind == "i" else a // b


def _shift(left):
    def op(self, ins, mask):
        kind = TYPES[ins.op[-1]]
        value = self.value(ins.args[1], kind)
        count = self.value(ins.args[2], TYPES["u32"]).astype(f"u{kind.itemsize}").view(kind)
        self.put(ins.args[0], value << count if left else value >> count, mask)

    return op


def _multiply(self, ins, mask):
    kind = TYPES[ins.op[-1]]
    a, b = self.value(ins.args[1], kind), self.value(ins.args[2], kind)
    if "wide" in ins.op:
        wide = np.dtype(f"{kind.kind}{2 * kind.itemsize}")
        a, b = a.astype(wide), b.astype(wide)
    elif "hi" in ins.op:
        wide = np.dtype(f"{kind.kind}{2 * kind.itemsize}")
        high = (a.astype(wide) * b.astype(wide)) >> wide.type(8 * kind.itemsize)
        self.put(ins.args[0], high.astype(kind), mask)
        return
    self.put(ins.args[0], a * b, mask)


def _fma(self, ins, mask):
    kind = TYPES[ins.op[-1]]
    a, b, c = (self.value(x, kind) for x in ins.args[1:4])
    if kind.kind == "f":
        value = (a.astype(np.float64) * b + c).astype(kind)
    elif "wide" in ins.op:
        wide = np.dtype(f"{kind.kind}{2 * kind.itemsize}")
        value = a.astype(wide) * b.astype(wide) + self.value(ins.args[3], wide)
    else:
        value = a * b + c
    self.put(ins.args[0], value, mask)


for _name, _function in {
    "add": np.add, "sub": np.subtract, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor, "max": np.fmax, "min": np.fmin, "div": _divide,
    "rem": lambda a, b: np.fmod(a, np.where(b == 0, b.dtype.type(1), b)),
    "copysign": lambda a, b: np.copysign(b, a),
}.items():  # fmt: skip
    setattr(Machine, "op_" + _name, _binary(_function))
for _name, _function in {
    "neg": np.negative, "abs": np.abs, "sqrt": np.sqrt, "ex2": np.exp2, "lg2": np.log2,
    "rcp": lambda a: a.dtype.type(1) / a, "rsqrt": lambda a: a.dtype.type(1) / np.sqrt(a),
    "not": np.invert, "tanh": np.tanh,
}.items():  # fmt: skip
    setattr(Machine, "op_" + _name, _unary(_function))
Machine.op_shl, Machine.op_shr = _shift(True), _shift(False)
Machine.op_mul, Machine.op_fma, Machine.op_mad = _multiply, _fma, _fma


def launch(program: Program, grid, block: int, args, shared: int = 0) -> int:
    """Run a kernel on NumPy arrays, in place; instructions executed, summed over its batches."""
    memory, flat = [], []
    for arg in args:
        if isinstance(arg, np.ndarray):
            assert arg.flags.c_contiguous
            root = arg
            while isinstance(root.base, np.ndarray):
                root = root.base
            offset = arg.ctypes.data - root.ctypes.data  # a card's allocations begin at 256 bytes
            start = (len(memory) + 1 << 40) + offset
            memory.append((arg.reshape(-1).view(np.uint8), start))
            flat += [0, 0, arg.size, arg.itemsize, start, *arg.shape, *arg.strides]
        else:
            flat.append(arg)
    return run(program, grid, block, flat, memory, shared)


def run(program: Program, grid, block: int, values, memory, shared: int = 0) -> int:
    """Run a kernel on raw parameters.

    memory is a list of (bytes, address of the first), by rising addresses; an access outside them
    is a fault.
    """
    grid = (*(grid if isinstance(grid, tuple) else (grid,)), 1, 1)[:3]
    assert len(values) == len(program.params), (len(values), len(program.params))
    parameters = {}
    for (name, kind), value in zip(program.params, values, strict=True):
        dtype = TYPES[kind]
        if dtype.kind == "f":
            parameters[name] = np.array(value, dtype)[()]
        else:
            bits = int(value) & (2**64 - 1)
            parameters[name] = np.array([bits], np.uint64).astype(dtype)[0]
    blocks = [(x, y, z) for z in range(grid[2]) for y in range(grid[1]) for x in range(grid[0])]
    batch = max(1, LANES_AT_ONCE // block)
    executed = 0
    for i in range(0, len(blocks), batch):
        machine = Machine(program, parameters, memory, grid, block, blocks[i : i + batch], shared)
        machine.run()
        executed += machine.executed
    return executed
