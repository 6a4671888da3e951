"""Which level of a pyramid is read and by what it is resampled, so that a pixel is as large as the model learnt."""

from __future__ import annotations

import math

from biounet.errors import DataError, UsageError
from biounet.images.regions import Regions
from biounet.model_file import Model
from biounet.results.stack import pixel_size

SAME = 1.05  # pixel sizes that differ by less are taken as equal
_WORTH_SAYING = 1.25
_MOST = 16.0  # times that pixels may be larger or smaller: beyond, the size stated is hardly the true one


def choose_level(
    model: Model, regions: Regions, given: tuple[float, ...] | None, notes: list[str]
) -> tuple[int, tuple[float, ...]]:
    """The level whose pixels are nearest to the model's in size, and the factor per axis that is left.

    ``given``: pixel size in um in place of what the file states, per axis or one for all. Factors are 1
    where sizes are equal to 5 % or not known. ``notes`` takes what is to be said. Raises `DataError` where
    they are more than sixteen times apart.
    """
    wanted, found = model.pixel_size_um, pixel_size(regions, given, model.ndim)
    plain = (1.0,) * model.ndim
    if wanted is None or len(wanted) != model.ndim:
        if given is not None:
            raise UsageError("--pixel-size: the model does not know at which pixel size it learnt; leave it out")
        return 0, plain
    if found is None:
        notes += filter(None, [said_without_size(model, found)])
        return 0, plain
    scales = []
    for level in range(len(regions.levels)):
        sizes = zip(found, regions.factors(model.ndim, level), wanted, strict=True)
        scales.append(tuple(size * factor / aim for size, factor, aim in sizes))
    level = min(range(len(scales)), key=lambda i: (round(sum(abs(math.log(s)) for s in scales[i]), 6), i))
    factors = tuple(near(scale) for scale in scales[level])
    if max(max(s, 1 / s) for s in factors) > _MOST:
        raise DataError(
            f"{regions.source}: pixels of {show_size(found)}, the model learnt at {show_size(wanted)}: nothing is "
            f"resampled by more than {_MOST:g}; --pixel-size says what the size is, if this is not it"
        )
    if max(max(s, 1 / s) for s in scales[0]) > _WORTH_SAYING:
        at = f"level {level} of its pyramid, " if level else ""
        notes.append(
            f"pixels of {show_size(found)}, the model learnt at {show_size(wanted)}: {at}"
            f"resampled by {' x '.join(f'{factor:.3g}' for factor in factors)}"
        )
    return level, factors


def said_without_size(model: Model, size: tuple[float, ...] | None) -> str:
    """What is assumed of an image of this pixel size, where it states none and the model has one; "" otherwise."""
    wanted = model.pixel_size_um
    if wanted is None or len(wanted) != model.ndim or size is not None:
        return ""
    return (
        f"the file states no pixel size, the model learnt at {show_size(wanted)}: taken as equal; "
        "--pixel-size says what it is"
    )


def needs_scale(model: Model, pixel_size_um: tuple[float, ...] | None) -> bool:
    """Whether an image of this pixel size has to be resampled for the model."""
    wanted = model.pixel_size_um
    if wanted is None or pixel_size_um is None or len(wanted) != len(pixel_size_um):
        return False
    return any(max(a / b, b / a) >= SAME for a, b in zip(wanted, pixel_size_um, strict=True))


def near(factor: float) -> float:
    """A factor, or 1 where it is as good as that."""
    return 1.0 if max(factor, 1 / factor) < SAME else factor


def show_size(size: tuple[float, ...]) -> str:
    """A pixel size for people: 0.25 um, or 1 x 0.25 x 0.25 um."""
    values = size if len(set(size)) > 1 else size[:1]
    return " x ".join(f"{value:.4g}" for value in values) + " um"
