"""Damage: of bytes, of texts, of JSON, and inside the containers that checkpoints come in."""

from __future__ import annotations

import io
import json
import random
import struct
import warnings
import zipfile

Bytes = bytes
_NUMBERS = (0, -1, 1, 2, 255, 256, 2**15, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64,
            10**30, -(2**63), 0.5, -0.0, 1e308, 1e999, float("nan"))  # fmt: skip
_OTHERS = (None, True, False, "", "0", "null", "NaN", "é", "\x00", "../..", "a" * 300, [], {}, [[]],
           [0], {"a": 1}, [None], ["a"], "[]", "{}", [1, 2, 3], [-1], [2**40, 2**40])  # fmt: skip
_WORDS = (b"\x00", b"\xff" * 4, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x00" * 8, b"-1", b"1e999",
          b"NaN", b"null", b"[]", b"{}", b'"', b"\\", b"\n", b"\xef\xbb\xbf", b"9" * 25,
          struct.pack("<Q", 1 << 40), struct.pack("<Q", 1 << 63), struct.pack("<I", 1 << 31),
          struct.pack("<d", float("nan")), b"PK\x03\x04", b"GGUF", b"((((", b"cos\nsystem\n",
          b"[" * 2000, b"{\"a\":" * 2000)  # fmt: skip

_PARTS = (b"(", b")", b"not", b"and", b"or", b"<", b"-", b"1e999", b"nan", b"10" * 200, b"any",
          b'"', b"[0]", b"*")  # fmt: skip


def of_bytes(rng: random.Random, data: Bytes, most: int = 6) -> Bytes:
    """Some bytes are others, gone, twice there, or come from a list of troublemakers."""
    out = bytearray(data)
    for _ in range(rng.randint(1, most)):
        # mostly near the beginning, where headers are
        span = len(out) if rng.random() < 0.5 else min(len(out), 512)
        at = rng.randrange(span + 1)
        match rng.randrange(8):
            case 0 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(out):
                out[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
            case 2:
                del out[at : at + rng.choice((1, 2, 4, 8, 64, 4096))]
            case 3:
                out[at:at] = out[at : at + rng.choice((1, 4, 8, 64))]
            case 4:
                word = rng.choice(_WORDS)
                out[at : at + len(word)] = word
            case 5:
                out[at:at] = rng.choice(_WORDS)
            case 6:
                other = rng.randrange(len(out) + 1)
                n = rng.choice((1, 4, 8, 32))
                out[at : at + n] = out[other : other + n]
            case 7 if rng.random() < 0.3:
                del out[at:]
    return bytes(out)


def of_value(rng: random.Random, value: object, depth: int = 0) -> object:
    """JSON in which one thing is another; JSON inside a string is gone into."""
    if rng.random() < 0.15 + 0.05 * depth or not isinstance(value, dict | list | str):
        return _another(rng, value)
    if isinstance(value, str):
        if value[:1] in ("{", "["):
            try:
                return json.dumps(of_value(rng, json.loads(value), depth + 1))
            except (ValueError, RecursionError):
                pass
        return of_bytes(rng, value.encode("utf-8", "surrogatepass"), 2).decode("utf-8", "replace")
    if not value:
        return _another(rng, value)
    if isinstance(value, list):
        items = list(value)
        at = rng.randrange(len(items))
        match rng.randrange(6):
            case 0:
                del items[at]
            case 1:
                items.insert(at, items[rng.randrange(len(items))])
            case _:
                items[at] = of_value(rng, items[at], depth + 1)
        return items
    fields = dict(value)
    key = rng.choice(list(fields))
    match rng.randrange(7):
        case 0:
            del fields[key]
        case 1:
            fields[key] = fields[rng.choice(list(fields))]
        case 2:
            fields[str(of_value(rng, key, depth + 1))] = fields.pop(key)
        case _:
            fields[key] = of_value(rng, fields[key], depth + 1)
    return fields


def _another(rng: random.Random, value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.5:
        return value + rng.choice((-1, 1, 2, 1000))
    return rng.choice(_NUMBERS if rng.random() < 0.5 else _OTHERS)


def of_json(rng: random.Random, data: Bytes) -> Bytes:
    """A JSON file: its values, or its bytes."""
    if rng.random() < 0.25:
        return of_bytes(rng, data)
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = of_value(rng, value)
    return json.dumps(value).encode("utf-8", "surrogatepass")


def of_safetensors(rng: random.Random, data: Bytes) -> Bytes:
    """The header's values under a length that fits, or bytes anywhere."""
    if rng.random() < 0.25:
        return of_bytes(rng, data)
    n = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + n], data[8 + n :]
    if rng.random() < 0.85:
        header = of_json(rng, header)
    else:
        body = of_bytes(rng, body)
    return len(header).to_bytes(8, "little") + header + body


def of_zip(rng: random.Random, data: Bytes) -> Bytes:
    """What a member holds, its name, or whether it is there; or bytes anywhere."""
    if rng.random() < 0.2:
        return of_bytes(rng, data)
    there = members(data)
    weights = [5 if name.endswith((".pkl", "metadata.npy")) else 1 for name, _ in there]
    at = rng.choices(range(len(there)), weights)[0]
    name, content = there[at]
    match rng.randrange(10):
        case 0:
            del there[at]
        case 1:
            there[at] = rng.choice(there)[0], content
        case 2:
            there[at] = name, rng.choice(there)[1]
        case 3:
            there[at] = name, content[: rng.randrange(len(content) + 1)]
        case _:
            there[at] = name, of_bytes(rng, content)
    return packed(there, zipfile.ZIP_DEFLATED if rng.random() < 0.2 else zipfile.ZIP_STORED)


def members(data: Bytes) -> list[tuple[str, Bytes]]:
    """What a zip holds, by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return [(name, file.read(name)) for name in file.namelist()]


def packed(there: list[tuple[str, Bytes]], method: int = zipfile.ZIP_STORED) -> Bytes:
    """A zip of that, of no day."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name that is there twice is meant
        for name, content in there:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            file.writestr(info, content)
    return out.getvalue()


def of_lines(rng: random.Random, data: Bytes) -> Bytes:
    """Lines of text: words change places and are others."""
    if rng.random() < 0.4:
        return of_bytes(rng, data)
    lines = data.split(b"\n")
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(lines))
        words = lines[at].split(b" ")
        k = rng.randrange(len(words))
        words[k] = rng.choice((str(rng.choice(_NUMBERS)).encode(), rng.choice(_WORDS), words[-1]))
        lines[at] = b" ".join(words)
    return b"\n".join(lines)


def of_words(rng: random.Random, data: Bytes) -> Bytes:
    """A sentence of a small language: its parts, in any order."""
    if rng.random() < 0.3:
        return of_bytes(rng, data)
    parts = data.split(b" ")
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(parts) + 1)
        match rng.randrange(4):
            case 0:
                parts[at:at] = [rng.choice(parts)] if parts else []
            case 1:
                del parts[at : at + 1]
            case 2:
                parts[at:at] = [rng.choice(_PARTS)]
            case 3:
                rng.shuffle(parts)
    if rng.random() < 0.02:
        parts = [rng.choice((b"(", b"not", b"-"))] * rng.choice((50, 5000)) + parts
    return b" ".join(parts)
