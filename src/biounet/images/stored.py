"""Arrays of which parts are read where they lie: as they are in a file, or in chunks that are decoded.

Knows nothing of axes, files' headers or images.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Index = tuple[slice, ...]
CACHE_BYTES = 64 << 20


class Stored(Protocol):
    """An array of ``shape`` and ``dtype`` that lies in a file.

    ``chunk``: what is decoded together, per axis; 1 where single values can be had.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of every axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """As stored, perhaps in foreign byte order."""

    @property
    def chunk(self) -> tuple[int, ...]:
        """What is decoded together, per axis."""

    def read(self, index: Index) -> Array:
        """The part that slices with start and stop, one per axis, select."""


class Cache:
    """The chunks decoded last, up to a number of bytes; the very last one is kept whatever its size."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit, self.held = limit, 0
        self._chunks: OrderedDict[Any, Array] = OrderedDict()

    def get(self, key: Any, decode: Callable[[], Array]) -> Array:
        """The chunk of this key, decoded where it is not held."""
        if key in self._chunks:
            self._chunks.move_to_end(key)
            return self._chunks[key]
        chunk = decode()
        self._chunks[key] = chunk
        self.held += chunk.nbytes
        while self.held > self.limit and len(self._chunks) > 1:
            self.held -= self._chunks.popitem(last=False)[1].nbytes
        return chunk


@dataclass(frozen=True, eq=False)
class Mapped:
    """Values that lie in a file one after the other, from ``offset`` bytes on.

    The file is mapped for each reading and let go after it, so that pages of it do not count as this
    process's memory.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool = False

    @property
    def chunk(self) -> tuple[int, ...]:
        """Single values can be had."""
        return (1,) * len(self.shape)

    def read(self, index: Index) -> Array:
        """A copy of the part that the slices select; `ValueError` where the file has become shorter."""
        order = "F" if self.fortran else "C"
        mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, order)  # type: ignore[call-overload]
        return np.array(mapped[index])


@dataclass(frozen=True, eq=False)
class Chunked:
    """Chunks on a grid, each decoded whole: ``decode(position)`` gives the one at a grid position, cut at the edge."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...]
    decode: Callable[[tuple[int, ...]], Array]
    cache: Cache = field(default_factory=Cache)

    def read(self, index: Index) -> Array:
        """The part that the slices select, from as many chunks as it touches."""
        result = np.empty([part.stop - part.start for part in index], self.dtype)
        ranges = [
            range(part.start // step, (part.stop - 1) // step + 1) if part.stop > part.start else range(0)
            for part, step in zip(index, self.chunk, strict=True)
        ]
        for position in product(*ranges):
            whole = self.cache.get((id(self), position), partial(self.decode, position))
            begin = [at * step for at, step in zip(position, self.chunk, strict=True)]
            source, target = [], []
            for part, first, size in zip(index, begin, whole.shape, strict=True):
                low, high = max(part.start, first), min(part.stop, first + size)
                source.append(slice(low - first, high - first))
                target.append(slice(low - part.start, high - part.start))
            result[tuple(target)] = whole[tuple(source)]
        return result


@dataclass(frozen=True, eq=False)
class Whole:
    """An array of which any part needs all of it: read when the first part is wanted, and kept."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], Array]
    held: list[Array] = field(default_factory=list)

    @property
    def chunk(self) -> tuple[int, ...]:
        """All of it."""
        return self.shape

    def read(self, index: Index) -> Array:
        """The part that the slices select, a view."""
        if not self.held:
            array = self.load()
            if array.shape != self.shape:
                raise ValueError(f"declares the shape {self.shape} and holds {array.shape}")
            self.held.append(array)
        return self.held[0][index]
