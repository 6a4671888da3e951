"""What a plan chooses from the fingerprint of the data, each choice with its reason.

A setting that is None is chosen here, by the rules of `network_choices` and `sample_choices`; any value
that a user gives stays. Everything follows from data and settings, so the same data give the same plan.
What of it was measured, and what not yet, stands in docs/results.md.
"""

from __future__ import annotations

import math

from biounet.geometry import Geometry
from biounet.planning.fingerprint import Fingerprint
from biounet.planning.network_choices import MOST_INPUT, NETWORK_RULES, check_axes, input_size
from biounet.planning.rules import Choice, with_value
from biounet.planning.sample_choices import SAMPLE_RULES
from biounet.settings import NETWORK_TAKES, Settings

_ABSENT = frozenset({"stem", "depth", "pooling", "batch_norm"})  # settings of a network that some have not


def choose(settings: Settings, found: Fingerprint, *, task: str) -> tuple[Settings, tuple[Choice, ...]]:
    """Settings without any None that a plan decides, and the choices that were made, in order.

    ``task``: "instances" or "classes". Settings that have a value are left alone. Each rule sees what
    those before it chose. Raises `UsageError` for a setting with another number of axes than the images.
    """
    check_axes(settings, len(found.largest))
    chosen: list[Choice] = []
    takes = NETWORK_TAKES[settings.network.name]
    for rule in (*NETWORK_RULES, *SAMPLE_RULES, _dice):
        choice = rule(settings, found, task)
        if choice is not None and choice.key.removeprefix("network.") not in _ABSENT.difference(takes):
            settings = with_value(settings, choice.key, choice.value)
            chosen.append(choice)
    return settings, tuple(chosen)


def _dice(settings: Settings, found: Fingerprint, task: str) -> Choice | None:
    if settings.loss.dice is not None:
        return None
    if settings.network.name != "unet":
        return Choice("loss.dice", 0.0, "the cross-entropy alone, as this network was published")
    if task == "instances":
        return Choice("loss.dice", 1.0, "draws outlines of objects more precisely")
    return Choice("loss.dice", 0.0, "with it membranes broke more often")


def margin_warning(settings: Settings, found: Fingerprint, geometry: Geometry) -> str | None:
    """Words where a given depth makes the samples of a volume mostly margin, with the remedy."""
    if geometry.ndim == 2:
        return None
    size = input_size(settings, found, geometry)
    ratio = math.prod(size) / math.prod(geometry.output_size(size))
    if ratio <= MOST_INPUT:
        return None
    return (
        f"warning: with its margin a sample has {ratio:.0f} times the voxels of its output; "
        "let the plan choose the depth, as --set network.depth=null"
    )


def reach_warning(geometry: Geometry, found: Fingerprint) -> str | None:
    """Words where large objects exceed what an output pixel can see, with the remedy."""
    if found.diameters_px is None:
        return None
    reach, large = min(max(axis) for axis in geometry.reach), found.diameters_px[2]
    if large <= reach:
        return None
    return (
        f"warning: large objects ({large:.0f} px) exceed the network's reach ({reach} px), so their middle may stay "
        "empty; give a larger stem or depth, as --set network.stem=3"
    )
