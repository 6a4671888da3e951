"""Does a module do what its declared geometry says? An impulse test and a shift test.

Exact tiling rests on the declaration, so a foreign module is tried before it is trusted: nothing
outside the reach may matter, a shift by the period must shift the result, sizes must fit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError
from biounet.geometry import Geometry

Array = npt.NDArray[np.float32]
Function = Callable[[Array], Array]

_TOLERANCE = 2e-5  # of the largest |output|: rounding, as everywhere in fp32


def verify_geometry(function: Function, geometry: Geometry, in_channels: int, *, seed: int = 0) -> None:
    """Raise `UsageError` unless ``function`` behaves as ``geometry`` declares.

    ``function`` maps float32 (N, in_channels, *size) to (N, K, *output) and must be in evaluation
    mode (no dropout, fixed statistics). Checked on random input: the output size for two
    admissible sizes; equality under shifts by one period on every axis; and that perturbing
    everything outside the reach of an output pixel leaves it as it was, at every phase of the period.
    """
    rng = np.random.default_rng(seed)
    size = tuple(axis.admissible(sum(axis.reach) + axis.smallest + 2 * axis.period) for axis in geometry.axes)
    image = rng.standard_normal((1, in_channels, *size)).astype(np.float32)
    whole = _checked(function, image, geometry)
    tolerance = _TOLERANCE * float(np.abs(whole).max())
    for axis in range(geometry.ndim):
        _check_shift(function, image, whole, geometry, axis, tolerance)
        _check_reach(function, image, whole, geometry, axis, tolerance)


def _checked(function: Function, image: Array, geometry: Geometry) -> Array:
    output = np.asarray(function(image))
    expected = geometry.output_size(image.shape[2:])
    if output.shape[2:] != expected:
        raise UsageError(
            f"the network gives {output.shape[2:]} for an input of {image.shape[2:]}, "
            f"but its declared geometry says {expected}; correct the margin"
        )
    return output


def _check_shift(
    function: Function, image: Array, whole: Array, geometry: Geometry, axis: int, tolerance: float
) -> None:
    period = geometry.axes[axis].period
    shifted = _checked(function, np.take(image, range(period, image.shape[axis + 2]), axis + 2), geometry)
    expected = np.take(whole, range(period, whole.shape[axis + 2]), axis + 2)
    difference = float(np.abs(shifted - expected).max())
    if difference > tolerance:
        raise UsageError(
            f"the network does not commute with a shift by its declared period {period} on axis {axis} "
            f"(difference {difference:.3g}); instance or group normalisation and padding destroy this"
        )


def _check_reach(
    function: Function, image: Array, whole: Array, geometry: Geometry, axis: int, tolerance: float
) -> None:
    facts = geometry.axes[axis]
    middle = whole.shape[axis + 2] // 2
    for position in range(middle, middle + facts.period):
        centre = position + facts.margin[0]
        disturbed = image.copy()
        view = np.moveaxis(disturbed, axis + 2, 0)
        view[: max(0, centre - facts.reach[0])] += 10.0
        view[centre + facts.reach[1] + 1 :] -= 10.0
        output = _checked(function, disturbed, geometry)
        difference = float(np.abs(np.take(output - whole, position, axis + 2)).max())
        if difference > tolerance:
            raise UsageError(
                f"an output pixel depends on input farther than the declared reach {facts.reach} on "
                f"axis {axis} (difference {difference:.3g}); correct the reach"
            )
