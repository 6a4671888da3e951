"""What an exported network computes beside what torch computes from the model file, before anybody relies on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import BiounetError, DataError
from biounet.geometry import Geometry
from biounet.inference.agreement import compare
from biounet.model_file import Model

Float32 = npt.NDArray[np.float32]

TOLERANCE = 1e-4  # of the largest |logit|


@dataclass(frozen=True)
class Proof:
    """How far an exported network is from torch, as shares of the largest |logit|.

    ``golden``: on the model's golden sample; ``other``: on two images of another size, ``size``.
    """

    program: str
    golden: float
    other: float
    size: tuple[int, ...]

    @property
    def passed(self) -> bool:
        """Both within 1e-4."""
        return max(self.golden, self.other) <= TOLERANCE

    def __str__(self) -> str:
        shape = "x".join(map(str, self.size))
        return (
            f"{self.program} against torch: differs by {self.golden:.2g} of the largest logit on the golden sample, "
            f"by {self.other:.2g} on two images of {shape} ({TOLERANCE:g} is allowed)"
        )


def golden_of(model: Model) -> tuple[Float32, Float32]:
    """The golden sample; `DataError` where there is none."""
    if model.golden is None:
        raise DataError("the model holds no golden sample, so nothing would prove what is exported; train it again")
    return model.golden


def other_input(model: Model) -> Float32:
    """Two images (2, C, *size) of noise, of a size that differs from the golden sample's on every axis."""
    size = other_size(model.geometry, golden_of(model)[0].shape[2:])
    return np.random.default_rng(1).standard_normal((2, len(model.channels), *size)).astype(np.float32)


def other_size(geometry: Geometry, size: tuple[int, ...]) -> tuple[int, ...]:
    """An admissible size beside ``size``: one period more on the first axis, two on the next, and so on."""
    return tuple(n + (1 + index) * period for index, (n, period) in enumerate(zip(size, geometry.period, strict=True)))


def prove(model: Model, program: str, exported: Callable[[Float32], Any], reference: Callable[[Float32], Any]) -> Proof:
    """Compare an exported network with torch; `BiounetError` where it is further off than 1e-4.

    ``program``: in words, what runs the export. Both take (N, C, *size) and give logits (N, K, *output).
    """
    given, expected = golden_of(model)
    second = other_input(model)
    golden = compare([expected], [np.asarray(exported(given))], "golden sample").difference
    other = compare([reference(second)], [np.asarray(exported(second))], "noise").difference
    proof = Proof(program, golden, other, tuple(second.shape[2:]))
    if not proof.passed:
        raise BiounetError(f"the exported network does not compute what the model learnt: {proof}")
    return proof
