"""Arrays larger than memory, kept block by block: the grid of blocks, and where their contents lie.

Knows nothing of files: a `Store` may be a folder (`prediction.block_store`) or memory.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError

Array = npt.NDArray[Any]
Index = tuple[int, ...]
Place = Sequence[int]
Read = Callable[[Place, Place], Array]  # the window start..stop of an array, (*spatial)


class Store(Protocol):
    """Named arrays that belong together, under a key."""

    def has(self, key: str) -> bool:
        """Whether something was put there, as a whole."""

    def put(self, key: str, arrays: Mapping[str, Array]) -> None:
        """Keep these arrays, all or none."""

    def get(self, key: str, *names: str) -> dict[str, Array]:
        """The arrays that were put there, or those of these ``names`` alone."""


class MemoryStore:
    """A `Store` in memory."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, Array]] = {}

    def has(self, key: str) -> bool:
        """Whether something was put there."""
        return key in self._kept

    def put(self, key: str, arrays: Mapping[str, Array]) -> None:
        """Keep these arrays."""
        self._kept[key] = dict(arrays)

    def get(self, key: str, *names: str) -> dict[str, Array]:
        """The arrays that were put there, or those of these ``names`` alone."""
        kept = self._kept[key]
        return {name: kept[name] for name in names} if names else kept


@dataclass(frozen=True)
class Grid:
    """An array of ``shape`` cut into blocks of ``block`` pixels, the last of each axis perhaps smaller.

    ``fewer``: blocks per axis where the last ones are to be larger instead, as the last tiles of a plan are.
    Raises `UsageError` for shapes and blocks that do not fit together or have no pixel.
    """

    shape: tuple[int, ...]
    block: tuple[int, ...]
    fewer: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.block) or min(self.shape) < 1 or min(self.block) < 1:
            raise UsageError(f"shape {self.shape} in blocks of {self.block}: as many axes, at least 1 pixel each")

    @property
    def counts(self) -> Index:
        """Blocks per axis."""
        return self.fewer or tuple(-(-n // b) for n, b in zip(self.shape, self.block, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    def __iter__(self) -> Iterator[Index]:
        yield from np.ndindex(*self.counts)

    def bounds(self, index: Index) -> tuple[Index, Index]:
        """First pixel of a block, and one behind its last."""
        start = tuple(i * b for i, b in zip(index, self.block, strict=True))
        ends = zip(self.shape, start, self.block, index, self.counts, strict=True)
        return start, tuple(n if i == count - 1 else s + b for n, s, b, i, count in ends)

    def touched(self, start: Place, stop: Place) -> Iterator[Index]:
        """The blocks that share a pixel with the window, in raster order."""
        sides = zip(start, stop, self.block, self.counts, strict=True)
        yield from itertools.product(*(range(min(a // b, n - 1), min(-(-e // b), n)) for a, e, b, n in sides))

    def widened(self, start: Place, stop: Place, by: int) -> tuple[Index, Index]:
        """The window with so many pixels more on every side, where there are any."""
        return tuple(max(0, a - by) for a in start), tuple(
            min(n, e + by) for e, n in zip(stop, self.shape, strict=True)
        )

    def assemble(
        self, start: Place, stop: Place, part_of: Callable[[Index, tuple[slice, ...]], Array], dtype: npt.DTypeLike
    ) -> Array:
        """The window start..stop, put together from ``part_of(index, part)`` of the blocks it touches."""
        result = np.empty([e - a for a, e in zip(start, stop, strict=True)], dtype)
        for index in self.touched(start, stop):
            first, last = self.bounds(index)
            low, high = tuple(map(max, start, first)), tuple(map(min, stop, last))
            result[window(start, low, high)] = part_of(index, window(first, low, high))
        return result


def window(origin: Place, start: Place, stop: Place) -> tuple[slice, ...]:
    """Slices of start..stop in an array whose first pixel is ``origin``."""
    return tuple(slice(a - o, e - o) for o, a, e in zip(origin, start, stop, strict=True))


def key_of(layer: str, index: Index) -> str:
    """Where a block of a layer is kept."""
    return f"{layer}/{'-'.join(map(str, index))}"


def for_each(
    indices: Iterable[Index], work: Callable[[Index], None], *, threads: int = 1, told: Callable[[], None] | None = None
) -> None:
    """Do ``work`` for every block, some side by side; ``told`` is called after each, in order."""
    with ThreadPoolExecutor(threads, thread_name_prefix="blocks") as executor:
        for _ in executor.map(work, indices):
            if told:
                told()


class Cache:
    """The arrays of a store that were used last, ``most_bytes`` of them at most (and always one); for threads, too."""

    def __init__(self, store: Store, most_bytes: int = 64 << 20) -> None:
        self.store, self._most, self._size = store, most_bytes, 0
        self._kept: OrderedDict[tuple[str, str], Array] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str, name: str) -> Array:
        """One of the arrays under a key."""
        with self._lock:
            if (key, name) in self._kept:
                self._kept.move_to_end((key, name))
                return self._kept[key, name]
        array = self.store.get(key, name)[name]
        with self._lock:
            if (key, name) not in self._kept:
                self._kept[key, name] = array
                self._size += array.nbytes
            while self._size > self._most and len(self._kept) > 1:
                self._size -= self._kept.popitem(last=False)[1].nbytes
        return array
