"""One input of a prediction in memory, from what was read to what is to be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import BiounetError
from biounet.exchange.objects import Objects
from biounet.images.image import Image
from biounet.inference.predict import Prediction
from biounet.inference.tiling import TilePlan
from biounet.model_file import Model
from biounet.results.ome_zarr import Ids
from biounet.results.request import Done
from biounet.results.stack import stack_of
from biounet.results.write import Results, reader_of


@dataclass
class File:
    """One input on its way: what was read, what is found, what became of it."""

    path: Path
    done: Done
    image: Image | None = None
    items: list[npt.NDArray[Any]] = field(default_factory=list)
    plan: TilePlan | None = None
    by_blocks: bool = False
    found: list[Prediction] = field(default_factory=list)
    exports: list[Objects] = field(default_factory=list)
    error: BiounetError | None = None

    def fails(self, error: BiounetError) -> None:
        """Note the first error of this input."""
        if self.error is None:
            self.error = error
            self.done.error = " ".join(str(error).split())

    def results(self, model: Model) -> Results:
        """What was found in an image that is in memory, a stack of items first where it is one."""
        assert self.image is not None
        first, middle = self.found[0], len(self.items) // 2
        stack = stack_of(self.image, model.ndim, len(self.found))

        def ids(kind: str, arrays: Sequence[npt.NDArray[np.int32]]) -> Ids:
            read = stack.read([reader_of(array) for array in arrays])
            largest = max(int(array.max(initial=0)) for array in arrays)
            return Ids(kind, read, stack.shape(arrays[0].shape), largest, stack.axes, stack.pixel_size_um)

        found = [ids("labels", [one.labels for one in self.found])]
        if first.classes is not None:
            found.append(ids("classes", [one.classes[one.labels] for one in self.found if one.classes is not None]))
        maps = np.stack([one.probabilities for one in self.found], axis=1)
        return Results(
            self.path,
            found,
            sum(int(one.labels.max(initial=0)) for one in self.found) if model.task == "instances" else None,
            len(model.classes),
            reader_of(maps.reshape(len(maps), *stack.shape(first.probabilities.shape[1:]))),
            lambda: (self.items[middle], self.found[middle].labels),
            lambda: self.exports,
        )
