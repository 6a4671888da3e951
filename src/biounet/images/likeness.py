"""Which images show the same, perhaps mirrored, turned, brighter or noisier: told by small pictures of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

SAME = 0.97  # likeness of two images from which they are taken to show the same
_SIDE = {2: 64, 3: 24}

Floats = npt.NDArray[np.float32]


def thumbnail(image: npt.NDArray[Any]) -> Floats:
    """A small picture of an image (C, *spatial) of zero mean and unit length, slow changes of brightness removed."""
    grey = image.mean(axis=0, dtype=np.float32)
    limit = _SIDE[grey.ndim]
    factors = [min(1.0, limit / n) for n in grey.shape]
    blurred = ndimage.gaussian_filter(grey, [0.5 / f for f in factors])
    small = ndimage.zoom(blurred, factors, order=1, grid_mode=True, mode="nearest")
    low, high = np.percentile(small, (1, 99))
    small = np.clip(small, low, high)
    fine = small - ndimage.gaussian_filter(small, limit / 8)
    fine -= fine.mean()
    length = float(np.sqrt((fine * fine).sum()))
    return np.asarray(fine / length if length > 1e-6 else np.zeros_like(fine), np.float32)


def likeness(one: Floats, others: Sequence[Floats]) -> Floats:
    """Correlation of a thumbnail with each of the others, the largest over all its turns; 0 for another shape."""
    result = np.zeros(len(others), np.float32)
    alike = [index for index, other in enumerate(others) if other.shape == one.shape]
    if alike:
        views = [one, *(view for _, view in turns(one) if view.shape == one.shape)]
        flat = np.stack([view.ravel() for view in views])
        result[alike] = (np.stack([others[index].ravel() for index in alike]) @ flat.T).max(axis=1)
    return result


def turns(mask: npt.NDArray[Any]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """An image or mask mirrored and turned in every way that keeps its shape, each with its name in words."""
    names = "ZYX"[-mask.ndim :]
    for flips in itertools.product((False, True), repeat=mask.ndim):
        for swapped in (False, True) if mask.shape[-1] == mask.shape[-2] else (False,):
            axes = [axis for axis, flip in enumerate(flips) if flip]
            if not axes and not swapped:
                continue
            turned = np.flip(mask.swapaxes(-1, -2) if swapped else mask, tuple(axes))
            yield _turn_name(names, axes, swapped), np.ascontiguousarray(turned)


def _turn_name(names: str, axes: list[int], swapped: bool) -> str:
    across = [names[axis] for axis in axes]
    if swapped and len(across) == 1:
        return "turned by a quarter" if across[0] in "YX" else f"transposed and mirrored along {across[0]}"
    if swapped:
        return "transposed" + (f" and mirrored along {' and '.join(across)}" if across else "")
    return "turned by a half" if across == ["Y", "X"] else f"mirrored along {' and '.join(across)}"
