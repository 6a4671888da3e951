"""What is varied in a training sample: one composed map of coordinates, and the grey values.

Ronneberger et al. 2015, section 3.1: shift and rotation, smooth deformation, variation of grey
values. Mirroring, zoom, noise and blur are additions. All geometry is composed into one map before
anything is interpolated, so that the image is interpolated once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from biounet.errors import UsageError
from biounet.samples.elastic import Floats, displacement_field

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Augmentation:
    """How much a training sample is varied; `Augmentation.off()` is a plain crop.

    - ``elastic_std_px``, ``elastic_grid``: see `elastic.displacement_field`; the grid's corners lie
      on the corners of the network's input. Pixels of the finest axis: on coarser axes the
      displacement is as long in space, so fewer pixels.
    - ``rotation_degrees``: angle, uniform from -r to r. ``rotate_in_space``: in 3D also out of the
      YX plane, about a random axis; None does so when the voxels are cubes.
    - ``mirror``: each axis flipped or not, with equal chance.
    - ``scale``: zoom from a to b, uniform in its logarithm; 2 shows objects twice as large.
    - ``shift_px``: how far the network's output may overhang the image (there labels are unknown),
      beyond the random place that it has inside.
    - ``gamma``, ``contrast``: the exponent (on the range of the whole image) and the factor lie from
      1 / (1 + v) to 1 + v, uniform in the logarithm. ``brightness``: what is added, uniform from -v
      to v. ``noise``: standard deviation of Gaussian noise, uniform from 0 to v. Units are those of
      the normalised image; drawn for each channel.
    - ``blur_px``: standard deviation of a Gaussian blur, uniform from 0 to v, pixels of the finest axis.
    """

    elastic_std_px: float
    elastic_grid: int
    rotation_degrees: float
    rotate_in_space: bool | None
    mirror: bool
    scale: tuple[float, float]
    shift_px: int
    gamma: float
    contrast: float
    brightness: float
    noise: float
    blur_px: float

    def __post_init__(self) -> None:
        for name in ("elastic_std_px", "rotation_degrees", "shift_px", "gamma", "contrast", "brightness"):
            self._refuse_negative(name)
        self._refuse_negative("noise")
        self._refuse_negative("blur_px")
        if self.elastic_grid < 2:
            raise UsageError(f"elastic_grid (={self.elastic_grid}) must be at least 2 points a side")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise UsageError(f"scale (={self.scale}) must be a smallest and a largest zoom above 0")

    def _refuse_negative(self, name: str) -> None:
        value = getattr(self, name)
        if not value >= 0:
            raise UsageError(f"{name} (={value}) must be at least 0; 0 switches it off")

    @classmethod
    def off(cls) -> Augmentation:
        """Every variation switched off: samples are plain crops of the mirrored image."""
        return cls(
            elastic_std_px=0, elastic_grid=3, rotation_degrees=0, rotate_in_space=None, mirror=False, scale=(1, 1),
            shift_px=0, gamma=0, contrast=0, brightness=0, noise=0, blur_px=0,
        )  # fmt: skip


def linear_map(augmentation: Augmentation, *, spacing: Sequence[float], rng: np.random.Generator) -> Matrix:
    """Random mirror, rotation and zoom: (ndim, ndim), steps in the sample to steps in the image.

    ``spacing``: size of a pixel per axis, (Z)YX. The rotation is one in space, so that cells keep
    their shape where pixels are not square. Exactly the identity with everything off.
    """
    ndim = len(spacing)
    pixel = np.asarray(spacing, np.float64)
    flips = np.where(rng.random(ndim) < 0.5, -1.0, 1.0) if augmentation.mirror else np.ones(ndim)
    low, high = (math.log(value) for value in augmentation.scale)
    zoom = math.exp(rng.uniform(low, high))
    angle = math.radians(augmentation.rotation_degrees * rng.uniform(-1, 1))
    everywhere = augmentation.rotate_in_space
    if everywhere is None:
        everywhere = bool((pixel == pixel[0]).all())
    axis = rng.standard_normal(3) if everywhere and ndim == 3 else np.array([1.0, 0, 0])
    turn = _rotation(axis / np.linalg.norm(axis), angle)[3 - ndim :, 3 - ndim :]
    return np.asarray(turn * flips * (pixel / pixel[:, None] / zoom))


def _rotation(axis: Matrix, angle: float) -> Matrix:
    """Rotation (3, 3) in ZYX about a unit vector: Rodrigues' formula."""
    z, y, x = axis.tolist()
    cross = np.array([[0, -x, y], [x, 0, -z], [-y, z, 0]])
    return np.asarray(np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross))


def coordinate_map(shape: Sequence[int], pivot: Sequence[int], source: Sequence[int], *, matrix: Matrix) -> Floats:
    """Where in the image each pixel of the sample comes from, float32 (ndim, *shape).

    The linear map of `linear_map` with the sample's pixel ``pivot`` lying exactly on the image's
    pixel ``source``: source + matrix (p - pivot).
    """
    ndim = len(shape)
    result = np.empty((ndim, *shape), np.float32)
    for axis in range(ndim):
        result[axis] = source[axis]
        for along in range(ndim):
            steps = matrix[axis, along] * (np.arange(shape[along]) - pivot[along])
            result[axis] += steps.astype(np.float32).reshape((-1,) + (1,) * (ndim - 1 - along))
    return result


def deform(
    coordinates: Floats,
    pivot: Sequence[int],
    augmentation: Augmentation,
    *,
    spacing: Sequence[float],
    rng: np.random.Generator,
) -> None:
    """Add a random elastic deformation to a map of coordinates, in place; ``pivot`` stays where it is.

    A deformation is defined up to a shift; holding one known pixel in place keeps it in the sample.
    """
    if augmentation.elastic_std_px == 0:
        return
    pixel = np.asarray(spacing, np.float64)
    std = augmentation.elastic_std_px * pixel.min() / pixel
    shape = coordinates.shape[1:]
    field = displacement_field(shape, rng=rng, grid=augmentation.elastic_grid, std_px=std.tolist())
    for component, coordinate in zip(field, coordinates, strict=True):
        coordinate += component - component[tuple(pivot)]


def vary_grey_values(
    image: Floats,
    ranges: npt.NDArray[Any],
    augmentation: Augmentation,
    *,
    spacing: Sequence[float],
    rng: np.random.Generator,
) -> None:
    """Random gamma, contrast, brightness, blur and noise, each channel by itself, in place.

    ``image``: float32 (C, *spatial), normalised. ``ranges``: (C, 2), lowest and highest value of
    each channel over the whole image, between which gamma acts: never those of the tile.
    """
    blur = augmentation.blur_px * min(spacing) / np.asarray(spacing, np.float64)
    for channel, (low, high) in zip(image, np.asarray(ranges).tolist(), strict=True):
        exponent, factor = _around_one(augmentation.gamma, rng), _around_one(augmentation.contrast, rng)
        offset = rng.uniform(-1, 1) * augmentation.brightness
        if exponent != 1 and high > low:
            _apply_gamma(channel, low, high, exponent)
        if factor != 1:
            channel *= factor
        if offset != 0:
            channel += offset
        if augmentation.blur_px:
            ndimage.gaussian_filter(channel, (blur * rng.uniform()).tolist(), output=channel, mode="mirror")
        if augmentation.noise:
            noise = rng.standard_normal(channel.shape, np.float32)
            noise *= augmentation.noise * rng.uniform()
            channel += noise


def _around_one(variation: float, rng: np.random.Generator) -> float:
    limit = math.log1p(variation)
    return math.exp(rng.uniform(-limit, limit))


def _apply_gamma(channel: Floats, low: float, high: float, exponent: float) -> None:
    """low + (high - low) * ((x - low) / (high - low)) ** exponent, in place; below low stays low."""
    span = high - low
    channel -= low
    channel /= span
    np.maximum(channel, 0, out=channel)
    np.power(channel, np.float32(exponent), out=channel)
    channel *= span
    channel += low
