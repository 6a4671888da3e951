"""The pictures of a prediction, taken while its images are in memory: layers to toggle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.model_file import Model
from biounet.report.page import Figure
from biounet.report.pictures import Picture, colours, heat, middle_plane, reduced, step_for, task_layer, to_rgb

MOST_PICTURES = 12
_SIDE = 640  # pixels of a picture at most

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Seen:
    """What there is to see of one image: the image (C, *spatial) and its labels (*spatial).

    ``foreground``: probability of all classes but background, (*spatial), None where it was not kept. ``classes``:
    the class of each object by id, None where there is but one.
    """

    image: Array
    labels: Array
    foreground: Array | None = None
    classes: Array | None = None


class Gallery:
    """Small pictures of at most twelve inputs, evenly spaced."""

    def __init__(self, model: Model, inputs: Sequence[Path]) -> None:
        self._model = model
        places = np.linspace(0, len(inputs) - 1, min(MOST_PICTURES, len(inputs))).round().astype(int)
        self._chosen = {inputs[place] for place in places}
        self._figures: dict[str, Figure] = {}

    @property
    def figures(self) -> Mapping[str, Figure]:
        """Figures by the name of the image, in the order they were taken."""
        return self._figures

    def show(self, path: Path, name: str) -> Callable[[Seen], None] | None:
        """What takes the picture of this input; None if it was not chosen."""
        if path not in self._chosen:
            return None

        def take(seen: Seen) -> None:
            self._figures[name] = _figure(name, self._model, seen)

        return take


def _figure(name: str, model: Model, seen: Seen) -> Figure:
    ndim = seen.labels.ndim
    step = step_for(seen.labels, _SIDE)
    plane = middle_plane(seen.labels, ndim)[::step, ::step]
    layers: dict[str, Picture] = {"image": to_rgb(reduced(seen.image, ndim, step))}
    if seen.foreground is not None:
        layers["probability"] = heat(reduced(seen.foreground, ndim, step), limits=(0.0, 1.0))
    layers["prediction"] = task_layer(plane, model.task)
    if seen.classes is not None:
        layers["classes"] = task_layer(seen.classes[plane], "classes")
    coloured = model.task == "classes" or seen.classes is not None
    legend = _class_colours(model.classes) if coloured else {}
    return Figure(name, layers, note=_shown_how(ndim, step), legend=legend)


def _class_colours(names: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """The colour of every class but background in a layer of classes."""
    found = colours(np.arange(len(names)))[1:]
    return {name: (int(r), int(g), int(b)) for name, (r, g, b) in zip(names[1:], found, strict=True)}


def _shown_how(ndim: int, step: int) -> str:
    parts = ["the middle plane"] * (ndim == 3) + [f"one of {step} x {step} pixels"] * (step > 1)
    return f"Shown: {', '.join(parts)}." if parts else ""
