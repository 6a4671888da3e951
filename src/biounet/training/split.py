"""Which images are held back to judge the model, stated and never random neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from biounet.geometry import Geometry
from biounet.images.examples import Example
from biounet.images.selection import select

_FEW = 3  # below this many images a block of one is held back instead of an image
_BLOCK_SHARE = 0.25


@dataclass(frozen=True)
class Split:
    """Examples to learn from and examples to judge by, with the reason for this choice."""

    training: tuple[Example, ...]
    validation: tuple[Example, ...]
    reason: str


def split_examples(
    examples: Sequence[Example],
    geometry: Geometry,
    *,
    sequence: bool,
    share: float,
    named: str | None = None,
) -> Split:
    """Hold back some examples.

    ``named`` chooses them (see `images.selection.select`). Otherwise, of a sequence (slices of a
    stack, frames of a film) the last ``share`` with one more left out between as a guard; of
    independent images every so-manyth; and with fewer than three images, one end of the last one,
    a guard band as wide as the network's reach left out between.
    """
    names = [example.name for example in examples]
    if named is not None:
        held = select(names, named, "--validation")
        return _by_position(examples, held, [], f"as named by --validation {named!r}")
    if len(examples) < _FEW:
        return _block(examples, geometry)
    count = max(1, round(share * len(examples)))
    if sequence:
        held = list(range(len(examples) - count, len(examples)))
        guard = [held[0] - 1] if len(examples) - count > 2 else []
        left = f", {names[guard[0]]} left out between as a guard" if guard else ""
        return _by_position(examples, held, guard, f"the last {count} of a sequence{left}")
    held = sorted({int((k + 0.5) * len(examples) / count) for k in range(count)})
    return _by_position(examples, held, [], f"{count} of {len(examples)} images, evenly spaced by name")


def _by_position(examples: Sequence[Example], held: list[int], guard: list[int], reason: str) -> Split:
    kept = tuple(e for i, e in enumerate(examples) if i not in held and i not in guard)
    validation = tuple(examples[i] for i in held)
    if not kept:
        return Split(tuple(examples), validation, f"{reason}; nothing else is left, so they are learnt from too")
    shown = ", ".join(e.name for e in validation[:6]) + (" ..." if len(validation) > 6 else "")
    return Split(kept, validation, f"{shown}: {reason}")


def _block(examples: Sequence[Example], geometry: Geometry) -> Split:
    """The end of the last image's longest axis, behind a guard band of the network's reach."""
    last = examples[-1]
    axis = int(np.argmax(last.labels.shape))
    size = last.labels.shape[axis]
    border = size - max(1, round(_BLOCK_SHARE * size))
    guard = min(max(geometry.reach[axis]), border // 2)
    learnt, judged = last.labels.copy(), last.labels.copy()
    np.moveaxis(learnt, axis, 0)[border - guard :] = -1
    np.moveaxis(judged, axis, 0)[:border] = -1
    if not (learnt >= 0).any() or not (judged > 0).any():
        return Split(tuple(examples), (last,), "too little is annotated to hold anything back: judged on itself")
    reason = (
        f"{last.name} from {border} to {size} on axis {axis} (too few images to hold one back), "
        f"{guard} px before it left out as a guard"
    )
    return Split((*examples[:-1], last.with_labels(learnt)), (last.with_labels(judged),), reason)
