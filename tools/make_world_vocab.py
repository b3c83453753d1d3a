"""Pack the World vocabulary out of the official ``rwkv`` package (Apache-2.0) into an asset.

    python tools/make_world_vocab.py --out assets/tokenizers/rwkv_vocab_v20230424.zlib

The asset is a zlib stream of (length byte, bytes) for every id from 1 on.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import zlib
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    spec = importlib.util.find_spec("rwkv")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    source = Path(spec.submodule_search_locations[0]) / "rwkv_vocab_v20230424.txt"
    pieces = {}
    for line in source.read_text(encoding="utf-8").splitlines():
        number, rest = line.split(" ", 1)
        literal, length = rest.rsplit(" ", 1)
        piece = ast.literal_eval(literal.strip())
        piece = piece.encode() if isinstance(piece, str) else piece
        assert len(piece) == int(length), line
        pieces[int(number)] = piece
    assert sorted(pieces) == list(range(1, len(pieces) + 1)), "ids must run from 1 without a gap"
    packed = b"".join(bytes([len(pieces[i])]) + pieces[i] for i in sorted(pieces))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(zlib.compress(packed, 9))
    print(f"{len(pieces)} tokens, {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
