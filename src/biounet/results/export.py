"""Predictions on their way to other programs: which objects they are, and the files that hold them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import BiounetError, UsageError
from biounet.exchange.challenge import frame_number, write_masks
from biounet.exchange.objects import Labels, Objects, ProbabilityOf, mean_probability
from biounet.exchange.save import EXPORTS, save_objects
from biounet.images.formats import read_header, stem_name
from biounet.images.image import Image
from biounet.images.regions import Regions
from biounet.labels.components import components
from biounet.model_file import Model
from biounet.results.stack import pixel_size, place_in_stack

EXPORTED = (*EXPORTS, "ctc")


def objects_of(
    model: Model,
    image: Image | Regions,
    item: npt.NDArray[Any],
    *,
    labels: Labels,
    classes: Labels | None,
    probabilities: ProbabilityOf,
    index: int | None,
    given: tuple[float, ...] | None = None,
) -> Objects:
    """The objects of one predicted plane or volume; of a class model the face-connected pieces of each class.

    ``item``: its pixels (C, *spatial) as the model saw them; ``labels`` (*spatial), ``classes`` by id and
    ``probabilities`` what was found. ``index``: which item of its image it is, None where it is the only one.
    ``given``: pixel size in um in place of what the file states.
    """
    if model.task == "classes":
        kinds, labels = labels, components(labels)
        classes = np.zeros(int(labels.max(initial=0)) + 1, np.int32)
        classes[labels] = kinds
    z, t = place_in_stack(image, model.ndim, index)
    return Objects(
        labels,
        stem_name(image.source),
        item,
        model.channels,
        classes,
        model.classes,
        mean_probability(labels, probabilities, classes),
        pixel_size(image, given, model.ndim),
        z=z,
        t=t,
        file_channels=image.size("C"),
    )


def export(path: Path, objects: Sequence[Objects], out: Path, kinds: Sequence[str]) -> list[Path]:
    """Write the objects of one input file as each of ``kinds``; the paths written."""
    written = save_objects(out, stem_name(path), kinds, objects)
    if "ctc" in kinds:
        sequence = path.parent.name if re.fullmatch(r"\d\d", path.parent.name) else "01"
        written += write_masks(out, objects, sequence=sequence)
    return written


def check_frames(inputs: Sequence[Path], kinds: Sequence[str]) -> None:
    """Raise `UsageError` where challenge masks are wanted of files that are no frames of one sequence.

    A file that cannot be read is passed over: it fails when its turn comes.
    """
    if "ctc" not in kinds:
        return
    wrong = [path.name for path in inputs if frame_number(stem_name(path)) is None]
    if wrong and len(inputs) > 1:
        raise UsageError(
            f"--save ctc: {wrong[0]} does not say which frame it is; name the files t000, t001, ..., or give one stack"
        )
    for path in inputs if not wrong else ():
        if (times := _times(path)) > 1:
            raise UsageError(
                f"--save ctc: {path.name} holds {times} times, but its name says that it is one frame; give a file for "
                "each frame, or call the film by another name"
            )


def _times(path: Path) -> int:
    """How many times a file holds; pages without axes are planes of one, as where the challenge's layout is read."""
    try:
        header = read_header(path, fits=False)
    except BiounetError:
        return 0
    return header.size("T") * (header.size("I") if "Z" in header.axes else 1)
