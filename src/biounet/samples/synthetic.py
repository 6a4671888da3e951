"""Pictures of crowded, touching cells with exact truth, in two and three dimensions.

The picture imitates differential interference contrast: what is seen is mostly the slope of the
optical path, so a cell is bright on one side and dark on the other and its inside is hardly
brighter than the background. A threshold therefore finds pieces of cells; a person, or a network
that looks at texture and outline, finds the cells.

Knows nothing of files, networks or settings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import edt
import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from biounet.errors import UsageError
from biounet.labels.components import components, relabel_by_first_pixel

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]


def synthetic_cells(
    shape: Sequence[int] = (256, 256),
    *,
    seed: int,
    cells: int | None = None,
    diameter_px: float = 34.0,
    noise: float = 1.0,
) -> tuple[npt.NDArray[np.uint8], Labels]:
    """A picture of cells and its truth: image uint8 and labels int32, both of ``shape`` (Z)YX.

    ``cells`` is the number of cells to place, if they find room (default: as many as cover a good
    half of a 2D picture). Cells of which little is left, at the picture's edge or beside others,
    appear in neither picture nor truth, so there can be fewer.
    ``diameter_px`` is their mean diameter, ``noise`` scales shot and camera noise (0: none).
    Touching cells share a border without a gap; ids 1..n run by first pixel in raster order, each
    object is one face-connected piece, 0 is background. The same arguments give the same arrays.
    Raises `UsageError` for a shape that is not 2D or 3D or has a side below 1.
    """
    shape = tuple(int(n) for n in shape)
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise UsageError(f"shape (={shape}) must have 2 or 3 sides of at least 1 pixel")
    if diameter_px < 6:
        raise UsageError(f"diameter_px (={diameter_px}) must be at least 6 to show a cell's inside")
    if (cells is not None and cells < 0) or noise < 0:
        raise UsageError(f"cells (={cells}) and noise (={noise}) must not be negative")
    rng = np.random.default_rng(seed)
    radius = diameter_px / 2
    labels = _place_cells(shape, radius, cells, rng)
    brightness = _draw(labels, radius, rng)
    return _photograph(brightness, noise, rng), labels


def _smooth(shape: tuple[int, ...], sigma_px: float, rng: np.random.Generator) -> Floats:
    """Gaussian random field of unit standard deviation with structures of about ``sigma_px``."""
    white = rng.standard_normal(shape, dtype=np.float32)
    waves = ndimage.fourier_gaussian(fft.rfftn(white), sigma_px, n=shape[-1])
    field: Floats = np.asarray(fft.irfftn(waves, s=shape), dtype=np.float32)
    field -= field.mean()
    spread = float(field.std())
    return field / np.float32(spread) if spread > 0 else np.zeros_like(field)


def _blur(field: Floats, sigma_px: float) -> Floats:
    return np.asarray(ndimage.gaussian_filter(field, sigma_px), dtype=np.float32)


def _place_cells(shape: tuple[int, ...], radius: float, cells: int | None, rng: np.random.Generator) -> Labels:
    """Deformed ellipses that share what they would overlap along the line of equal distance."""
    bend = [_smooth(shape, radius * 0.45, rng) * (0.16 * radius) for _ in shape]
    nearest = np.ones(shape, np.float32)
    labels = np.zeros(shape, np.int32)
    for number, centre in enumerate(_centres(shape, radius, cells, rng), start=1):
        matrix, extent = _ellipsoid(len(shape), radius, rng)
        window = tuple(
            slice(max(0, math.floor(c - extent)), min(n, math.ceil(c + extent) + 1))
            for c, n in zip(centre, shape, strict=True)
        )
        distance = _elliptic_distance(window, centre, matrix, bend)
        closer = distance < nearest[window]
        nearest[window][closer] = distance[closer]
        labels[window][closer] = number
    return _whole_cells(labels, 0.3 * _ball_size(radius, len(shape)))


def _ball_size(radius: float, ndim: int) -> float:
    return float(math.pi ** (ndim / 2) / math.gamma(ndim / 2 + 1) * radius**ndim)


def _centres(
    shape: tuple[int, ...], radius: float, cells: int | None, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Random places, shape (n, axes), at least 1.45 radii apart, with some regions left nearly empty."""
    wanted = round(0.66 * math.prod(shape) / _ball_size(radius, len(shape))) if cells is None else cells
    crowd = _smooth(shape, 3 * radius, rng)
    empty = float(np.quantile(crowd, 0.3))
    chosen = np.empty((wanted, len(shape)))
    count = 0
    for _ in range(60 * wanted):
        if count == wanted:
            break
        place = rng.uniform(-0.4 * radius, np.add(shape, 0.4 * radius))
        spot = tuple(min(max(0, int(p)), n - 1) for p, n in zip(place, shape, strict=True))
        loner = rng.uniform() < 0.04
        if crowd[spot] < empty and not loner:
            continue
        if (((chosen[:count] - place) ** 2).sum(1) > (1.45 * radius) ** 2).all():
            chosen[count] = place
            count += 1
    return chosen[:count]


def _ellipsoid(ndim: int, radius: float, rng: np.random.Generator) -> tuple[npt.NDArray[np.float64], float]:
    """A matrix that maps a randomly sized and turned ellipsoid to the unit ball, and its extent."""
    axes = radius * rng.uniform(0.85, 1.25) * np.exp(rng.uniform(-0.28, 0.28, ndim))
    turn, _ = np.linalg.qr(rng.standard_normal((ndim, ndim)))
    return (turn / axes).T, float(axes.max()) + 0.6 * radius


def _elliptic_distance(
    window: tuple[slice, ...],
    centre: npt.NDArray[np.float64],
    matrix: npt.NDArray[np.float64],
    bend: list[Floats],
) -> Floats:
    grid = np.meshgrid(*(np.arange(s.start, s.stop) for s in window), indexing="ij")
    offset = np.stack([g - c + b[window] for g, c, b in zip(grid, centre, bend, strict=True)])
    squares: npt.NDArray[np.float64] = (np.tensordot(matrix, offset, 1) ** 2).sum(0)
    return np.sqrt(squares).astype(np.float32)


def _whole_cells(labels: Labels, smallest_px: float) -> Labels:
    """Each cell's largest face-connected piece, without cells smaller than ``smallest_px``."""
    pieces = components(labels)
    sizes = np.bincount(pieces.ravel())
    owner = np.zeros(sizes.size, np.int64)
    owner[pieces.ravel()] = labels.ravel()
    keep = np.zeros(sizes.size, bool)
    largest: dict[int, int] = {}
    for piece in range(1, sizes.size):
        best = largest.get(int(owner[piece]))
        if best is None or sizes[piece] > sizes[best]:
            largest[int(owner[piece])] = piece
    kept = [piece for piece in largest.values() if sizes[piece] >= smallest_px]
    keep[kept] = True
    return relabel_by_first_pixel(np.where(keep[pieces], pieces, 0).astype(np.int32))


def _draw(labels: Labels, radius: float, rng: np.random.Generator) -> Floats:
    """Noise-free brightness around 1: slopes of the path, granules, nuclei, rims and debris."""
    depth = edt.edt(labels, black_border=False).astype(np.float32)
    number = int(labels.max(initial=0)) + 1
    inside = labels > 0
    thickness = _per_cell(rng.uniform(0.5, 1.3, number))[labels]
    dome = thickness * radius * (1 - np.exp(-depth / (0.3 * radius))) * inside
    slope = _slope(_blur(dome, 0.8), rng)
    tone = _per_cell(rng.normal(0.36, 0.13, number))[labels]
    brightness = 1 + 0.16 * slope + tone + 0.012 * _smooth(labels.shape, 1.0, rng)
    brightness += _granules(labels, depth, radius, rng)
    brightness += _rims(labels, rng)
    return brightness + _debris(labels.shape, radius, rng)


def _per_cell(values: npt.NDArray[np.float64]) -> Floats:
    values[0] = 0
    return values.astype(np.float32)


def _slope(path: Floats, rng: np.random.Generator) -> Floats:
    """Derivative of the optical path along a random direction in the image plane."""
    angle = rng.uniform(0, 2 * math.pi)
    slopes = [_difference(path, axis) for axis in (path.ndim - 2, path.ndim - 1)]
    return (math.sin(angle) * slopes[0] + math.cos(angle) * slopes[1]).astype(np.float32)


def _difference(path: Floats, axis: int) -> Floats:
    steps = ndimage.correlate1d(path, [-0.5, 0.0, 0.5], axis=axis, mode="nearest")
    return np.asarray(steps, dtype=np.float32)


def _granules(labels: Labels, depth: Floats, radius: float, rng: np.random.Generator) -> Floats:
    """Organelles: a fine and a coarse grain inside cells, calmer in the nucleus, some vesicles."""
    number = int(labels.max(initial=0)) + 1
    fine = _smooth(labels.shape, 0.9, rng) - 0.7 * _smooth(labels.shape, 2.2, rng)
    coarse = _smooth(labels.shape, 0.12 * radius, rng)
    strength = _per_cell(rng.uniform(0.08, 0.16, number))[labels]
    size = _per_cell(rng.uniform(0.42, 0.62, number))[labels]
    nucleus = 1 / (1 + np.exp(-(depth - size * radius) / (0.04 * radius)))
    grain = strength * (fine + 0.5 * coarse) * (1 - 0.65 * nucleus)
    nucleoli = np.maximum(_smooth(labels.shape, 0.09 * radius, rng) - 1.6, 0) * nucleus
    vesicles = np.maximum(_smooth(labels.shape, 1.1, rng) - 2.2, 0) * rng.choice([-1.0, 1.0])
    cell = (labels > 0) & (depth > 1)
    inside: Floats = grain - 0.1 * nucleus + 0.2 * nucleoli + 0.25 * vesicles
    return np.where(cell, inside, 0).astype(np.float32)


def _rims(labels: Labels, rng: np.random.Generator) -> Floats:
    """A dark membrane at each cell's edge with a bright fringe outside, of uneven strength."""
    edge = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        ahead = np.roll(labels, -1, axis)
        ahead[(slice(None),) * axis + (-1,)] = labels[(slice(None),) * axis + (-1,)]
        edge |= labels != ahead
    strength = 1 + 0.45 * _smooth(labels.shape, 6.0, rng)
    line = _blur(edge.astype(np.float32), 0.7)
    fringe = _blur(edge.astype(np.float32), 2.2)
    return np.asarray(np.maximum(strength, 0.1) * (0.3 * fringe - 0.42 * line), dtype=np.float32)


def _debris(shape: tuple[int, ...], radius: float, rng: np.random.Generator) -> Floats:
    """Dust out of focus, and small sharp bright or dark specks, anywhere in the picture."""
    result = np.zeros(shape, np.float32)
    count = rng.poisson(0.12 * math.prod(shape) / _ball_size(radius, len(shape)))
    for _ in range(count):
        place = tuple(int(p) for p in rng.uniform(0, 1, len(shape)) * shape)
        result[place] += rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.0)
    sharp, dull = 0.05 * radius, 0.22 * radius
    spot = _blur(result, sharp) * _peak(sharp, len(shape))
    ring = _blur(np.roll(result, 7, -1), dull) * _peak(dull, len(shape))
    return 0.5 * spot + 0.16 * ring


def _peak(sigma_px: float, ndim: int) -> float:
    return float((2 * math.pi * sigma_px**2) ** (ndim / 2))


def _photograph(brightness: Floats, noise: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Uneven light, the blur of the optics, shot noise, camera noise and eight bits."""
    light = rng.uniform(0.85, 1.15) + 0.09 * _smooth(brightness.shape, 0.3 * max(brightness.shape), rng)
    seen = _blur(brightness * np.clip(light, 0.6, 1.4), 0.6)
    electrons = 420 * np.maximum(seen, 0.02)
    electrons += noise * np.sqrt(electrons) * rng.standard_normal(seen.shape, dtype=np.float32)
    electrons += noise * 6 * rng.standard_normal(seen.shape, dtype=np.float32)
    return np.clip(np.rint(electrons * (100 / 420)), 0, 255).astype(np.uint8)
