"""Random damage to files: to single bytes and numbers, to what lies where, and to values in JSON and CSV."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

from fuzzing.seeds import Ranges, Seed

STRUCTURE_SHARE = 0.75  # of the mutations that begin in headers, directories and metadata

_NUMBERS = (0, 1, -1, 2, 7, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 10**12)
_VALUES: tuple[Any, ...] = (
    None, True, "", "x" * 300, "../../../etc/passwd", "\x00", "1e999", [], {}, [[]], -1, 0, 1.5, 1e308, 10**12,
    10**30, [10**9] * 3, {"a": None}, "ignore", "region", [0, 10**10],
)  # fmt: skip
_CELLS = (
    "",
    "nan",
    "inf",
    "-1",
    "1e308",
    "99999999999999999999",
    "x",
    '"',
    ",,,",
    "\x00",
    "../../../etc/passwd",
    "é" * 50,
)


def mutated(seed: Seed, rng: random.Random) -> tuple[bytes, bool]:
    """The file's bytes after one to four changes, and whether the first was to its structure."""
    structural = rng.random() < STRUCTURE_SHARE
    if seed.text and structural and rng.random() < 0.7:
        data = _changed_text(seed, rng)
    else:
        ranges = seed.structure if structural else [(0, len(seed.data))]
        data = rng.choice(_CHANGES)(seed.data, _place(ranges, rng), rng)
    for _ in range(rng.choice((0, 0, 0, 1, 3))):
        ranges = [(a, min(b, len(data))) for a, b in seed.structure if a < len(data)] or [(0, len(data))]
        if data:
            data = rng.choice(_CHANGES)(data, _place(ranges, rng), rng)
    return (seed.wrap(data) if seed.wrap else data), structural


def _place(ranges: Ranges, rng: random.Random) -> int:
    start, stop = rng.choice(ranges)
    return rng.randrange(start, max(start + 1, stop))


def _flip(data: bytes, at: int, rng: random.Random) -> bytes:
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :] if at < len(data) else data


def _byte(data: bytes, at: int, rng: random.Random) -> bytes:
    return data[:at] + bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))]) + data[at + 1 :]


def _number(data: bytes, at: int, rng: random.Random) -> bytes:
    """A number of 2, 4 or 8 bytes in either order, at the place or aligned to its size."""
    size, code = rng.choice(((2, "H"), (4, "I"), (8, "Q")))
    at = at // size * size if rng.random() < 0.5 else at
    value = rng.choice((*_NUMBERS, rng.randrange(2**32))) % (1 << (8 * size))
    return data[:at] + struct.pack(rng.choice("<>") + code, value) + data[at + size :]


def _cut(data: bytes, at: int, rng: random.Random) -> bytes:
    return data[:at]


def _remove(data: bytes, at: int, rng: random.Random) -> bytes:
    return data[:at] + data[at + rng.choice((1, 2, 4, 12, 60)) :]


def _repeat(data: bytes, at: int, rng: random.Random) -> bytes:
    size = rng.choice((1, 4, 12, 100))
    return data[:at] + data[at : at + size] * rng.choice((2, 3, 50)) + data[at + size :]


def _insert(data: bytes, at: int, rng: random.Random) -> bytes:
    return data[:at] + rng.randbytes(rng.choice((1, 4, 16, 200))) + data[at:]


def _copy(data: bytes, at: int, rng: random.Random) -> bytes:
    """Some bytes overwritten by others of the file."""
    size, other = rng.choice((2, 4, 12)), rng.randrange(len(data))
    return data[:at] + data[other : other + size] + data[at + size :]


_CHANGES: tuple[Callable[[bytes, int, random.Random], bytes], ...] = (
    _flip, _byte, _byte, _number, _number, _number, _cut, _remove, _repeat, _insert, _copy,
)  # fmt: skip


def _changed_text(seed: Seed, rng: random.Random) -> bytes:
    if seed.text == "csv":
        rows = [line.split(",") for line in seed.data.decode().splitlines()]
        row = rng.choice(rows)
        row[rng.randrange(len(row))] = rng.choice(_CELLS)
        if rng.random() < 0.2:
            rows.insert(rng.randrange(len(rows)), rng.choice(rows) * rng.choice((1, 2, 100)))
        return "\n".join(",".join(row) for row in rows).encode()
    content = json.loads(seed.data)
    places = list(_places(content))
    parent, key = rng.choice(places)
    action = rng.random()
    if action < 0.7:
        parent[key] = rng.choice(_VALUES)
    elif action < 0.85:
        del parent[key]
    else:
        other, name = rng.choice(places)
        parent[key] = json.loads(json.dumps(other[name]))
    if rng.random() < 0.03:
        return b"[" * 100_000
    return json.dumps(content).encode()


def _places(content: Any) -> list[tuple[Any, Any]]:
    """Every value in nested lists and objects, as (what holds it, its key)."""
    keys = list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    own = [(content, key) for key in keys]
    return own + [place for parent, key in own for place in _places(parent[key])]
