"""Held-back images that show the same as images learnt from: their scores say nothing about new images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from biounet.images.likeness import SAME, likeness
from biounet.planning.split import Split

_MOST_NAMED = 4

Thumbnails = Mapping[str, npt.NDArray[np.float32]]


def overlap_warnings(split: Split, thumbnails: Thumbnails) -> tuple[str, ...]:
    """A warning where held-back images are near-duplicates of images learnt from, with the remedy; else nothing.

    Images of which a part is on either side are left out: that is said with the split. ``thumbnails``: of every
    image by its name, as `images.likeness.thumbnail` makes them.
    """
    held = {e.name for e in split.validation} - {e.name for e in split.training}
    learnt = [e.name for e in split.training if e.name not in held]
    pairs = []
    for name in (e.name for e in split.validation if e.name in held and learnt):
        alike = likeness(thumbnails[name], [thumbnails[other] for other in learnt])
        if alike.max() >= SAME:
            pairs.append((name, learnt[int(alike.argmax())], float(alike.max())))
    if not pairs:
        return ()
    shown = ", ".join(f"{name} as {other} ({value:.3f})" for name, other, value in pairs[:_MOST_NAMED])
    more = f" and {len(pairs) - _MOST_NAMED} more" if len(pairs) > _MOST_NAMED else ""
    return (
        f"warning: {len(pairs)} held-back image{'s show' if len(pairs) > 1 else ' shows'} the same as one learnt from: "
        f"{shown}{more} (correlation), so the score says little about new images; hold all of them back with "
        "--validation",
    )


def alike_groups(names: Sequence[str], thumbnails: Thumbnails) -> list[list[int]]:
    """Positions of images that show the same, together; each image without a double is a group of its own.

    In the order of each group's first image. Likeness is passed on: what is like a member belongs to the group.
    """
    group = list(range(len(names)))
    for index, name in enumerate(names[:-1]):
        alike = likeness(thumbnails[name], [thumbnails[other] for other in names[index + 1 :]])
        for other in index + 1 + np.flatnonzero(alike >= SAME):
            joined, kept = max(group[index], group[other]), min(group[index], group[other])
            group = [kept if value == joined else value for value in group]
    return [[i for i, value in enumerate(group) if value == first] for first in sorted(set(group))]
