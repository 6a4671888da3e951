"""Which images are held back to judge the model, stated and never random neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from biounet.datasets.examples import Example
from biounet.datasets.selection import select
from biounet.errors import UsageError
from biounet.geometry import Geometry

FEW = 3  # below this many images a block of one is held back instead of an image
_BLOCK_SHARE = 0.25


@dataclass(frozen=True)
class Split:
    """Examples to learn from and examples to judge by, with the reason for this choice."""

    training: tuple[Example, ...]
    validation: tuple[Example, ...]
    reason: str

    @property
    def facts(self) -> dict[str, Any]:
        """Plain values that differ where two divisions of the same images do."""
        held_back, learnt = ({e.name for e in side} for side in (self.validation, self.training))
        both = dict.fromkeys(held_back & learnt, "partly held back")
        return {
            "reason": self.reason,
            "images": dict.fromkeys(learnt, "learnt from") | dict.fromkeys(held_back, "held back") | both,
        }


def split_examples(
    examples: Sequence[Example],
    geometry: Geometry,
    *,
    sequence: bool,
    share: float,
    named: str | None = None,
) -> Split:
    """Hold back some examples.

    ``named`` chooses them (see `datasets.selection.select`). Otherwise, of a sequence (slices of a
    stack, frames of a film) the last ``share`` with one more left out between as a guard; of
    independent images every so-manyth; and with fewer than three images, one end of the last one,
    a guard band as wide as the network's reach left out between (narrower, and said so, where the
    image has no room for it). Where nothing could be learnt from the rest, nothing is held back.

    Raises `UsageError` when ``named`` leaves nothing to learn from.
    """
    if named is not None:
        return _named(examples, named)
    if len(examples) < FEW:
        return _block(examples, geometry)
    count = min(len(examples) - 1, max(1, round(share * len(examples))))
    if sequence:
        held = list(range(len(examples) - count, len(examples)))
        guard = [held[0] - 1] if len(examples) - count > 2 else []
        left = f", {examples[guard[0]].name} left out between as a guard" if guard else ""
        return _by_position(examples, held, guard, f"the last {count} of a sequence{left}")
    held = sorted({int((k + 0.5) * len(examples) / count) for k in range(count)})
    return _by_position(examples, held, [], f"{count} of {len(examples)} images, evenly spaced by name")


def _named(examples: Sequence[Example], named: str) -> Split:
    held = select([example.name for example in examples], named, "--validation")
    if not teaches([example for i, example in enumerate(examples) if i not in held]):
        raise UsageError(
            f"--validation {named!r}: the {len(examples) - len(held)} images that are left show no object or no "
            "background to learn from; hold back fewer"
        )
    return _by_position(examples, held, [], "as named by --validation")  # the text itself may be a path


def _by_position(examples: Sequence[Example], held: list[int], guard: list[int], reason: str) -> Split:
    kept = tuple(e for i, e in enumerate(examples) if i not in held and i not in guard)
    validation = tuple(examples[i] for i in held)
    shown = ", ".join(e.name for e in validation[:6]) + (" ..." if len(validation) > 6 else "")
    if not teaches(kept):
        reason = f"{shown}: {reason}; the others show no object or no background, so all are learnt from too"
        return Split(tuple(examples), validation, reason)
    return Split(kept, validation, f"{shown}: {reason}")


def _block(examples: Sequence[Example], geometry: Geometry) -> Split:
    """The end of the last image's longest axis, behind a guard band of the network's reach."""
    last = examples[-1]
    axis = int(np.argmax(last.labels.shape))
    size, reach = last.labels.shape[axis], max(geometry.reach[axis])
    border = size - max(1, round(_BLOCK_SHARE * size))
    guard = min(reach, border // 2)
    learnt, judged = last.labels.copy(), last.labels.copy()
    np.moveaxis(learnt, axis, 0)[border - guard :] = -1
    np.moveaxis(judged, axis, 0)[:border] = -1
    training = (*examples[:-1], last.with_labels(learnt))
    if not teaches(training) or not (judged > 0).any():
        return Split(tuple(examples), (last,), "too little is annotated to hold anything back: judged on itself")
    narrow = f" (the network reaches {reach}, the image has no room for more)" if guard < reach else ""
    reason = (
        f"{last.name} from {border} to {size} on axis {axis} (too few images to hold one back), "
        f"{guard} px before it left out as a guard{narrow}"
    )
    return Split(training, (last.with_labels(judged),), reason)


def teaches(examples: Sequence[Example]) -> bool:
    """Whether these show both sides of what is to be told apart: background and something else."""
    return any((e.labels == 0).any() for e in examples) and any((e.labels > 0).any() for e in examples)
