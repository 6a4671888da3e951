"""What is to be said of an image before it is predicted: what was assumed of it, and what makes no sense."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.images.image import Image, drops_alpha, said_of_alpha
from biounet.images.regions import Regions
from biounet.images.sampling import all_windows, is_large, sample_windows
from biounet.model_file import Model
from biounet.prediction.inputs import said_of_grey
from biounet.prediction.scale import said_without_size


def said_of_image(image: Image, items: Sequence[npt.NDArray[Any]], model: Model) -> Iterator[str]:
    """Remarks on an image in memory; ``items``: its planes or volumes with the model's channels, (C, *spatial)."""
    yield from image.notes
    if said := said_without_size(model, image.pixel_size(model.ndim)):
        yield said
    channels = image.size("C")
    if image.alpha:
        dropped = drops_alpha(image)
        yield said_of_alpha(dropped)
        channels -= dropped
    yield from said_of_grey(model, channels)
    yield from said_of_constant([np.ptp(item.reshape(len(item), -1), axis=1).max(initial=0) == 0 for item in items])


def said_of_constant(constant: Sequence[bool]) -> Iterator[str]:
    """The remark on an image some of whose items have no contrast."""
    if any(constant):
        which = "all" if len(constant) == 1 else f"in {sum(constant)} of {len(constant)} planes all"
        yield f"{which} pixels have one value: there is nothing to see, and what is found means nothing"


def said_of_unseen(count: int) -> str:
    """The remark on objects that were found at the model's pixel size and have no pixel of a coarser file."""
    were = "object is" if count == 1 else "objects are"
    return f"{count} {were} smaller than a pixel of the file, and left out of labels and counts"


def is_constant(regions: Regions, item: int, channels: Sequence[int], *, ndim: int) -> bool:
    """Whether each of these channels of an item has one value; read window by window until two pixels differ."""
    shape = regions.spatial_shape(ndim)
    spread = sample_windows(shape) if is_large(shape) else []  # where there is a wide margin of one value
    first = None
    for start, stop in chain(spread, all_windows(shape)):
        pixels = regions.read(item, start, stop, ndim=ndim)[list(channels)].reshape(len(channels), -1)
        first = pixels[:, :1] if first is None else first
        if (pixels != first).any():
            return False
    return True
