"""What is to be said of an image before it is predicted: what was assumed of it, and what makes no sense."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.images.image import Image, drops_alpha, said_of_alpha
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
    constant = [k for k, item in enumerate(items) if np.ptp(item.reshape(len(item), -1), axis=1).max(initial=0) == 0]
    if constant:
        which = "all pixels have" if len(items) == 1 else f"in {len(constant)} of {len(items)} planes all pixels have"
        yield f"{which} one value: there is nothing to see, and what is found means nothing"
