"""What this process takes now, and how a limit for the whole of it is divided."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from biounet.errors import UsageError
from biounet.inference.engines import Engine
from biounet.inference.predict import show_bytes, tile_memory
from biounet.inference.tiling import TilePlan, cheapest_tiles, plan_tiles

CACHE_BYTES = 48 << 20  # of decoded blocks, and as much of decoded pixels
_RESERVE = 160 << 20  # caches, a window on its way, what libraries take when first used
_TILE_SHARE = 0.85  # of what is left, for a tile: allocators keep some of what was given back
_BLOCK_BYTES = 90  # a pixel while objects are joined: ids, masks, and copies of them
THREADS = min(4, os.cpu_count() or 1)  # that join objects, each with a block of its own
_LARGEST_BLOCK = {2: 1024, 3: 96}


@dataclass(frozen=True)
class Budget:
    """A limit for the process in bytes, and what it took before anything was computed."""

    limit: int
    base: int

    @property
    def left(self) -> int:
        """Bytes beside the program, its libraries and caches; below 0 where not even these fit."""
        return self.limit - self.base - _RESERVE

    @property
    def free(self) -> int:
        """Bytes for a tile."""
        return int(self.left * _TILE_SHARE)

    def plan(self, size: Sequence[int], engine: Engine, tile: int | None = None) -> TilePlan:
        """The cheapest tiles, or those asked for, whose computation keeps the limit.

        Raises `UsageError` with the least limit that would do.
        """
        smallest = plan_tiles(size, engine.geometry, 1 if tile is None else tile)
        needed = tile_memory(smallest, engine)
        if needed > self.free:
            least = int(needed / _TILE_SHARE + 1.1 * self.base) + _RESERVE  # what the program takes differs a little
            what = "the smallest tile" if tile is None else f"--tile {tile}"
            raise UsageError(
                f"--memory {show_bytes(self.limit)} is too small for {what}: the program takes "
                f"{show_bytes(self.base)} and the tile {show_bytes(needed)}; the least is {show_bytes(least)}"
            )
        if tile is not None:
            return smallest
        return cheapest_tiles(size, engine.geometry, self.free, work=engine.cost.work, memory=engine.cost.memory)

    def block(self, ndim: int, reach: int) -> int:
        """Side of the blocks in which objects are joined, whose ``reach`` is read around them."""
        side = int((max(0, self.left) / 2 / THREADS / _BLOCK_BYTES) ** (1 / ndim)) - 2 * reach
        return max(_LARGEST_BLOCK[ndim] // 4, min(_LARGEST_BLOCK[ndim], side))


def process_bytes() -> int:
    """Bytes of memory that this process holds now (at its peak, where the system does not say)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        import resource

        return pages * resource.getpagesize()
    except (OSError, ValueError, IndexError, ImportError):
        return peak_bytes()


def peak_bytes() -> int:
    """Most bytes of memory that this process has held so far, since its program was started.

    On Linux not what `getrusage` says, whose peak a process takes over from the one that started it.
    """
    if sys.platform == "win32":
        return 500 << 20  # about what the libraries take
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        most = next((line for line in lines if line.startswith("VmHWM:")), None)
        if most is not None:
            return int(most.split()[1]) << 10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
