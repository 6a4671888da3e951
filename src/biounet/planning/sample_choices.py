"""Rules for the samples that a network learns from: their size, and how far they are varied."""

from __future__ import annotations

from biounet.planning.fingerprint import Fingerprint
from biounet.planning.network_choices import SIDE, chosen_geometry, input_size, planned_tile
from biounet.planning.rules import Choice, Rule
from biounet.settings import Settings

_STD_PX = 10.0  # of the deformation, as in the paper
_STD_SHARE = 0.05  # of the distance between two vectors of the grid, that the paper's 10 px are of an input of 428

_UPRIGHT_DEGREES = 20.0  # of rotation where images have an up and a down


def _tile(settings: Settings, found: Fingerprint, task: str) -> Choice | None:
    if settings.training.tile is not None:
        return None
    sides = planned_tile(settings, found)
    alike = len(set(sides)) == 1
    reason = f"{SIDE[len(sides)]} pixels a side behind the stem" + ("" if alike else ", as long in space on each axis")
    return Choice("training.tile", sides[0] if alike else sides, reason)


def _elastic(settings: Settings, found: Fingerprint, task: str) -> Choice | None:
    if settings.augmentation.elastic_std_px is not None:
        return None
    key = "augmentation.elastic_std_px"
    if settings.network.name != "unet":
        return Choice(key, _STD_PX, "as in the paper")
    size = input_size(settings, found, chosen_geometry(settings, len(found.largest)))
    steps = settings.augmentation.elastic_grid - 1
    apart = min((n - 1) * spacing / steps for n, spacing in zip(size, found.spacing, strict=True))
    if apart * _STD_SHARE >= _STD_PX:
        return Choice(key, _STD_PX, "as in the paper")
    value = round(apart * _STD_SHARE, 1)
    return Choice(
        key, value, f"the vectors of the grid are {apart:.0f} px apart; the paper's 10 px would fold the image"
    )


def _mirror(settings: Settings, found: Fingerprint, task: str) -> Choice | None:
    if settings.augmentation.mirror is not None:
        return None
    if found.upright is None:
        return Choice("augmentation.mirror", True, "nothing tells left from right in the annotation")
    first, second, images = found.upright
    return Choice(
        "augmentation.mirror", False, f"class {second} lies on the same side of class {first} in {images} images"
    )


def _rotation(settings: Settings, found: Fingerprint, task: str) -> Choice | None:
    if settings.augmentation.rotation_degrees is not None:
        return None
    if found.upright is None:
        return Choice("augmentation.rotation_degrees", 180.0, "nor up from down")
    return Choice("augmentation.rotation_degrees", _UPRIGHT_DEGREES, "so the images have an up and a down")


SAMPLE_RULES: tuple[Rule, ...] = (_tile, _elastic, _mirror, _rotation)
