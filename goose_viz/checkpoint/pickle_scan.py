"""A look over a pickle before it is read: whether it stays as small as a list of tensors is.

Even without running anything, an unpickler can be made to hang or to fill the memory by a few
hundred bytes: a memo index of two thousand million, or tuples in tuples whose hash takes twice as
long with every level.
"""

from __future__ import annotations

import pickletools

from goose_viz.errors import CheckpointError

_MAX_DEPTH = 12  # torch.save nests its tuples three deep
_SLICES = ("mark", "stackslice")


def scan(stream: bytes) -> None:
    """Follow the stack of a pickle without building anything.

    Raises
    ------
    CheckpointError
        If it nests deeper, or counts further, than any description of tensors does.
    """
    stack: list[int] = []  # how deep each value nests
    marks: list[int] = []
    memo: dict[int, int] = {}
    for n, (op, argument, _) in enumerate(pickletools.genops(stream)):
        if op.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            if int(argument or 0) > n:  # more names than there were values to name
                raise CheckpointError(
                    f"its pickle names a value number {argument}; none has so many"
                )
            memo[int(argument or 0)] = stack[-1]
        elif op.name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif op.name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument or 0)])
        elif op.name == "MARK":
            marks.append(len(stack))
        else:
            depth = 0
            for kind in reversed([o.name for o in op.stack_before]):
                if kind == "stackslice":
                    continue  # taken with its mark
                if kind == "mark":
                    at = marks.pop()
                    depth = max([depth, *stack[at:]])
                    del stack[at:]
                else:
                    depth = max(depth, stack.pop())
            if op.name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"):
                stack.append(0)  # the container lives on; what matters is what a key can nest
                continue
            inside = depth + 1 if op.name.startswith("TUPLE") else 0
            if inside > _MAX_DEPTH:
                raise CheckpointError(
                    f"its pickle nests tuples {inside} deep; torch.save needs three"
                )
            stack.extend([inside] * len(op.stack_after))
