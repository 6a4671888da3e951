"""The same field among the images learnt from and those held back, as `train` would divide them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from biounet.checks.finding import Finding, Spot
from biounet.checks.survey import Survey
from biounet.datasets.examples import Example
from biounet.geometry import pointwise_geometry
from biounet.images.likeness import SAME, likeness, thumbnail
from biounet.planning.split import Split, split_examples
from biounet.settings import standard


def near_duplicates(survey: Survey) -> Iterator[Finding]:
    """Pairs of a learnt and a held-back image that show the same, perhaps mirrored, turned, brighter or noisier."""
    if len(survey.examples) < 3:
        return  # a part of one image is held back, behind a guard
    split = planned_split(survey)
    held = {example.name for example in split.validation}
    learnt = {example.name for example in split.training} - held
    prints = {e.name: thumbnail(e.image) for e in survey.examples}
    others = [name for name in prints if name in learnt]
    for name in (n for n in prints if n in held and others):
        alike = likeness(prints[name], [prints[other] for other in others])
        best = int(alike.argmax())
        if alike[best] >= SAME:
            yield _finding(name, others[best], float(alike[best]), int((alike >= SAME).sum()))


def planned_split(survey: Survey) -> Split:
    """The division into learnt and held-back images that `train` makes of all images, read or not."""
    read = {example.name: example for example in survey.examples}
    stub = np.array([[0, 1]], np.int32)
    examples: Sequence[Example] = [
        read.get(item.name) or Example(item.name, stub[None], stub) for item in survey.dataset.items
    ]
    return split_examples(
        examples,
        pointwise_geometry(survey.dataset.ndim),
        sequence=survey.dataset.is_sequence,
        share=standard().data.validation_share,
    )


def _finding(name: str, other: str, likeness: float, count: int) -> Finding:
    more = f", and {count - 1} more learnt from" if count > 1 else ""
    return Finding(
        "near_duplicates",
        "warning",
        name,
        f"held back, but shows the same as {other}, which is learnt from{more} (correlation {likeness:.3f})",
        "the score of a held-back image that was learnt from says nothing about new images",
        f"remove one of the two, or hold both back: train --validation {name},{other}",
        likeness,
        (Spot(name), Spot(other)),
    )
