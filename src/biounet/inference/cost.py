"""What one tile costs: operations and bytes, in whole numbers, from the network's description alone.

Nothing is timed at run time, so the same image gets the same tiles on every run. Sizes may be
integers or integer arrays that broadcast against each other: a search asks for all shapes at once.
Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Size = Sequence[Any]  # input pixels per axis: int, or integer arrays that broadcast

_CALL = 20_000_000  # operations that starting one call is worth, about a tenth of a millisecond
_FOREIGN_WIDTH = 64  # channels that a network without a description is taken to have at the top

# Of an engine and a precision: the memory that computing one tile takes, as a share of the largest
# sum of values that must exist at one time in fp32. Measured by benchmarks/memory.py.
MEMORY = {
    ("torch", "fp32"): 1.6,
    ("torch", "bf16"): 0.9,
    ("openvino", "fp32"): 1.3,
    ("openvino", "bf16"): 0.8,
    ("openvino", "int8"): 1.0,
    ("onnx", "fp32"): 1.5,
}


class Cost(Protocol):
    """What an engine says of the tiles it is given."""

    def work(self, size: Size) -> Any:
        """Operations for one tile of this input size."""

    def memory(self, size: Size) -> Any:
        """Bytes that computing one tile of this input size takes, besides weights and libraries."""


@dataclass(frozen=True)
class PixelCost:
    """The same for every input pixel: of functions about which nothing else is known."""

    operations: int = 1
    bytes: int = 1

    def work(self, size: Size) -> Any:
        """Operations, proportional to the input."""
        return _product(size) * self.operations

    def memory(self, size: Size) -> Any:
        """Bytes, proportional to the input."""
        return _product(size) * self.bytes


@dataclass(frozen=True)
class UNetCost:
    """Exact operations of a U-Net, and the values it holds at its peak as the forward pass goes.

    ``pooling``: factor per level and axis. ``share``: of the engine, see `MEMORY`.
    ``stem``: pixels per axis that are taken together before the first level and parted behind the last.
    """

    in_channels: int
    classes: int
    width: int
    pooling: tuple[tuple[int, ...], ...]
    share: float = 1.0
    stem: tuple[int, ...] = ()

    def work(self, size: Size) -> Any:
        """Two operations a multiplication, convolutions only, and what starting a call is worth."""
        return self._walk(size)[0] + _CALL

    def memory(self, size: Size) -> Any:
        """Bytes at the peak."""
        return np.ceil(self.share * 4 * self._walk(size)[1]).astype(np.int64)

    def _walk(self, size: Size) -> tuple[Any, Any]:
        """Operations, and the most values held at one time: skips, a block's input and its tensors."""
        ndim, depth = len(size), len(self.pooling)
        size = [np.asarray(n, dtype=np.int64) for n in size]
        taps = 3**ndim
        operations: Any = 0
        peak: Any = 0
        skips: list[Any] = []
        before = self.in_channels
        if self.stem:
            given = before * _product(size)
            size = [n // block for n, block in zip(size, self.stem, strict=True)]
            operations = 2 * given * self.width
            peak, before = given + self.width * _product(size), self.width
        for level in range(depth + 1):
            channels = self.width * 2**level
            given = before * _product(size)
            first, size = channels * _product([n - 2 for n in size]), [n - 4 for n in size]
            second = channels * _product(size)
            operations = operations + 2 * taps * (before * first + channels * second)
            peak = np.maximum(peak, sum(skips) + given + first + second)
            if level < depth:
                skips.append(second)
                size = [n // f for n, f in zip(size, self.pooling[level], strict=True)]
            before = channels
        for level in reversed(range(depth)):
            channels = self.width * 2**level
            given = 2 * channels * _product(size)
            size = [n * f for n, f in zip(size, self.pooling[level], strict=True)]
            up = channels * _product(size)
            first, size = channels * _product([n - 2 for n in size]), [n - 4 for n in size]
            second = channels * _product(size)
            operations = operations + 2 * (2 * channels * up + taps * (2 * channels * first + channels * second))
            held = sum(skips[: level + 1]) + given
            peak = np.maximum(peak, held + np.maximum(3 * up, 2 * up + first + second))
        if self.stem:
            size = [n * block for n, block in zip(size, self.stem, strict=True)]
        return operations + 2 * self.width * self.classes * _product(size), peak


@dataclass(frozen=True)
class EnsembleCost:
    """Of networks that are computed one after the other, whose probabilities of ``classes`` are kept."""

    members: tuple[Cost, ...]
    classes: int

    def work(self, size: Size) -> Any:
        """The sum of all members'."""
        return sum(member.work(size) for member in self.members)

    def memory(self, size: Size) -> Any:
        """Bytes of the largest member, and of what was found by all."""
        largest = self.members[0].memory(size)
        for member in self.members[1:]:
            largest = np.maximum(largest, member.memory(size))
        return largest + 4 * (len(self.members) + 1) * self.classes * _product(size)


def cost_of(description: Mapping[str, Any], engine: str = "torch", precision: str = "fp32") -> Cost:
    """The cost of a network by its description, as an engine computes it.

    Of a foreign network only its input is known: a width of 64 at the top is taken for it.
    """
    share = MEMORY[engine, precision]
    if description.get("name") == "ensemble":
        members = description["members"]
        return EnsembleCost(tuple(cost_of(m, engine, precision) for m in members), int(members[0]["classes"]))
    if description.get("name") != "unet":
        held = 6 * _FOREIGN_WIDTH  # skip, up-convolved, both together (2), a convolution's input and output
        return PixelCost(operations=2 * 9 * _FOREIGN_WIDTH**2, bytes=math.ceil(share * 4 * held))
    stem = tuple(int(n) for n in description.get("stem", ()))
    return UNetCost(
        int(description["in_channels"]),
        int(description["classes"]),
        int(description["width"]),
        tuple(tuple(level) for level in description["pooling"]),
        share,
        stem if max(stem, default=1) > 1 else (),
    )


def _product(size: Size) -> Any:
    result: Any = 1
    for n in size:
        result = result * np.asarray(n, dtype=np.int64)
    return result
