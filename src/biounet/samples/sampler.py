"""Training samples: each one a pure function of (seed, step, index).

A sample is a random window of a random image: coordinates are composed, the image is warped over
the network's input, the labels over its output and a halo; then the line between cells is carved,
targets and weights are computed, and the halo is cut off. Arrays are (C,)(Z)YX; labels int32, 0
background, -1 unknown. Knows nothing of files or of the network but its sizes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from biounet.errors import DataError, UsageError
from biounet.labels.targets import UNKNOWN, Labels, Task, carve, class_targets
from biounet.samples.augment import Augmentation, coordinate_map, deform, linear_map, vary_grey_values
from biounet.samples.border_weights import Floats, Reading, band, weight_map
from biounet.samples.elastic import warp_image, warp_labels

Counts = npt.NDArray[np.int64]


class Sample(NamedTuple):
    """One training sample, or a batch of them with one more leading axis.

    ``image`` float32 (C, *input); ``target`` int32 (*output), class of each pixel, -1 unknown;
    ``weights`` float32 (*output), w(x), 0 where unknown; ``instances`` int32 (*output), the carved
    instances (in a class model the classes), for pictures.
    """

    image: Floats
    target: Labels
    weights: Floats
    instances: Labels


class _Places(NamedTuple):
    """Pixels that may be drawn: masks, one an image, and how many lie before each line of all images in turn."""

    wanted: tuple[npt.NDArray[np.bool_], ...]
    before_line: Counts


@dataclass(frozen=True, eq=False)
class Sampler:
    """Draws training samples from annotated images; immutable and picklable, so workers may be spawned.

    - ``images``: normalised float32 (C, *spatial); ``labels``: int32 (*spatial), one for each image.
    - ``input_size``, ``output_size``: of the network, per axis; output pixel i lies over input pixel
      i + ``margin``.
    - ``task``: labels are "instances" or "classes". ``classes``: how many, background included.
      ``classes_of``: for each image the class of each instance, see `targets.class_targets`.
    - ``class_weights``, ``w0``, ``sigma``, ``reading``: see `border_weights.weight_map`.
    - ``balanced``: every class is drawn equally often, as patch classifiers are trained, instead of every
      known pixel; the classes then weigh alike in the loss, and ``class_weights`` tell what that amounts to.
    - ``line_width``: see `targets.carve`. In a class model nothing is carved and no border weighed.
    - ``spacing``: size of a pixel per axis, default 1; ``sigma`` is in its unit.

    Raises `DataError` when images and labels do not fit together or nothing is annotated, and
    `UsageError` for sizes or weights that cannot be meant.
    """

    images: tuple[Floats, ...]
    labels: tuple[Labels, ...]
    input_size: tuple[int, ...]
    output_size: tuple[int, ...]
    margin: tuple[int, ...]
    task: Task = "instances"
    augmentation: Augmentation = field(default_factory=Augmentation.off)
    class_weights: tuple[float, ...] = (1.0, 1.0)
    w0: float = 10.0
    sigma: float = 5.0
    reading: Reading = "multiply"
    line_width: int = 2
    spacing: tuple[float, ...] | None = None
    classes: int = 2
    classes_of: tuple[Mapping[int, int], ...] | None = None
    balanced: bool = False

    def __post_init__(self) -> None:
        _check_pairs(self.images, self.labels, len(self.input_size))
        sizes = zip(self.input_size, self.output_size, self.margin, strict=True)
        if not all(m >= 0 and 1 <= out <= size - m for size, out, m in sizes):
            raise UsageError(
                f"output_size (={self.output_size}) at margin (={self.margin}) does not lie in "
                f"input_size (={self.input_size})"
            )
        if len(self.class_weights) != self.classes:
            raise UsageError(f"class_weights (={self.class_weights}) must give {self.classes} numbers, one a class")
        if not any((labels != UNKNOWN).any() for labels in self.labels):
            raise DataError("nothing is annotated in the training images: every label pixel is unknown (-1)")
        _ = self._ranges, self._places  # computed once, here, and not again in every worker

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.input_size)

    @property
    def pixel(self) -> tuple[float, ...]:
        """Size of a pixel per axis."""
        return self.spacing or (1.0,) * self.ndim

    @property
    def halo(self) -> tuple[int, ...]:
        """How far around the output labels are needed, per axis, in pixels.

        A weight depends on carved cells within the band (`border_weights.band`), and those on
        labels within the line's radius; so weights are those of the whole deformed plane.
        """
        if self.task == "classes":
            return (0,) * self.ndim
        reach = band(self.w0 if self.reading == "multiply" else 1.0, self.sigma)
        line = (self.line_width + 1) // 2
        return tuple(math.floor(reach / size) + line for size in self.pixel)

    def sample(self, seed: int, step: int, index: int) -> Sample:
        """The sample number ``index`` of the global batch at ``step``: always the same one."""
        rng = np.random.default_rng([seed, step, index])
        matrix = linear_map(self.augmentation, spacing=self.pixel, rng=rng)
        number, known, pivot = self._draw_place(rng, matrix)
        start, stop = self._region()
        inside = np.add(pivot, self.margin) - start
        shape = np.subtract(stop, start).tolist()
        coordinates = coordinate_map(shape, inside.tolist(), known, matrix=matrix)
        deform(coordinates, inside.tolist(), self.augmentation, spacing=self.pixel, rng=rng)

        window = _slices(np.negative(start), self.input_size)
        image = warp_image(self.images[number], coordinates[(slice(None), *window)])
        vary_grey_values(image, self._ranges[number], self.augmentation, spacing=self.pixel, rng=rng)

        halo = np.array(self.halo)
        window = _slices(np.subtract(self.margin, halo) - start, np.add(self.output_size, 2 * halo))
        labels = warp_labels(self.labels[number], coordinates[(slice(None), *window)])
        return Sample(image, *self._targets(labels, number))

    def batch(self, seed: int, step: int, size: int, first: int = 0) -> Sample:
        """Samples ``first`` to ``first + size - 1`` of the global batch at ``step``, stacked."""
        samples = [self.sample(seed, step, index) for index in range(first, first + size)]
        return Sample(*(np.stack(arrays) for arrays in zip(*samples, strict=True)))

    def _targets(self, labels: Labels, number: int) -> tuple[Labels, Floats, Labels]:
        """Target, weights and instances over the output, from labels over output and halo."""
        output = _slices(self.halo, self.output_size)
        if self.task == "classes":
            target = class_targets(labels, task="classes")
            return target, weight_map(None, target, self._weights_in_loss), labels
        labels = carve(labels, self.line_width)
        classes_of = None if self.classes_of is None else self.classes_of[number]
        targets = class_targets(labels, task="instances", classes_of=classes_of)
        weights = weight_map(
            labels, targets, self._weights_in_loss,
            w0=self.w0, sigma=self.sigma, reading=self.reading, spacing=self.spacing,
        )  # fmt: skip
        return targets[output].copy(), weights[output].copy(), labels[output].copy()

    def _region(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """First and last pixel needed, relative to the input: the input, the output and its halo."""
        before = np.subtract(self.margin, self.halo)
        after = np.add(self.margin, self.output_size) + self.halo
        return np.minimum(before, 0), np.maximum(after, self.input_size)

    def _draw_place(
        self, rng: np.random.Generator, matrix: npt.NDArray[np.float64]
    ) -> tuple[int, list[int], list[int]]:
        """A random image, a known pixel of it, and the output pixel that shall show it.

        The known pixel is uniform over all images, so annotated area counts and not file count.
        The output's place is uniform over those that contain the pixel and lie in the image (give
        or take ``shift_px``; an output larger than the image covers it). Rotation is about the
        output's centre, moved only as far as keeps the known pixel in the output.
        """
        number, known = self._draw_known_pixel(rng)
        shift = self.augmentation.shift_px
        start = []
        for pixel, size, out in zip(known, self.labels[number].shape, self.output_size, strict=True):
            low = max(min(0, size - out) - shift, pixel - out + 1)
            high = min(max(0, size - out) + shift, pixel)
            start.append(int(rng.integers(low, high, endpoint=True)))
        centre = (np.array(self.output_size) - 1) / 2
        pivot = centre + np.linalg.solve(matrix, np.subtract(known, start) - centre)
        pivot = np.clip(np.rint(pivot), 0, np.subtract(self.output_size, 1))
        return number, known, pivot.astype(int).tolist()

    def _draw_known_pixel(self, rng: np.random.Generator) -> tuple[int, list[int]]:
        """Image and position of a pixel: uniform over the known ones, or first over the classes that occur."""
        places = self._places[int(rng.integers(len(self._places)))] if self.balanced else self._places[0]
        drawn = int(rng.integers(places.before_line[-1]))
        line = int(np.searchsorted(places.before_line, drawn, side="right")) - 1
        number = int(np.searchsorted(self._first_line, line, side="right")) - 1
        wanted = places.wanted[number]
        lead = np.unravel_index(line - int(self._first_line[number]), wanted.shape[:-1])
        along = np.flatnonzero(wanted[lead])[drawn - int(places.before_line[line])]
        return number, [*(int(i) for i in lead), int(along)]

    @cached_property
    def _places(self) -> tuple[_Places, ...]:
        """Where samples may lie: on known pixels, or of each class that occurs on its own."""
        if not self.balanced:
            return (_places_where([labels != UNKNOWN for labels in self.labels]),)
        targets = [self._class_map(number) for number in range(len(self.labels))]
        found = (_places_where([target == k for target in targets]) for k in range(self.classes))
        return tuple(places for places in found if places.before_line[-1] > 0)

    def _class_map(self, number: int) -> Labels:
        """Class of each pixel of an image, the line between touching cells carved."""
        labels = self.labels[number]
        if self.task == "classes":
            return labels
        classes_of = None if self.classes_of is None else self.classes_of[number]
        return class_targets(carve(labels, self.line_width), task="instances", classes_of=classes_of)

    @property
    def _weights_in_loss(self) -> tuple[float, ...]:
        return (1.0,) * self.classes if self.balanced else self.class_weights

    @cached_property
    def _first_line(self) -> Counts:
        lines = [math.prod(labels.shape[:-1]) for labels in self.labels]
        return np.concatenate([[0], np.cumsum(lines)[:-1]]).astype(np.int64)

    @cached_property
    def _ranges(self) -> tuple[npt.NDArray[np.float32], ...]:
        """Lowest and highest value of each channel of each image, (C, 2)."""
        flat = (image.reshape(len(image), -1) for image in self.images)
        return tuple(np.stack([values.min(1), values.max(1)], axis=1) for values in flat)


def _places_where(masks: Sequence[npt.NDArray[np.bool_]]) -> _Places:
    """Lines run along the last axis; the last count is the total."""
    counts = [np.count_nonzero(mask, axis=-1).ravel() for mask in masks]
    return _Places(tuple(masks), np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64))


def class_counts(
    labels: Sequence[Labels],
    *,
    task: Task,
    classes: int = 2,
    line_width: int = 2,
    classes_of: Sequence[Mapping[int, int]] | None = None,
) -> Counts:
    """Annotated pixels of each class over the whole training set after carving, int64 (classes,).

    Goes into `border_weights.class_weights`. Raises `DataError` for a class id from ``classes`` on.
    """
    counts = np.zeros(classes, np.int64)
    for number, array in enumerate(labels):
        carved = carve(array, line_width) if task == "instances" else array
        targets = class_targets(carved, task=task, classes_of=classes_of[number] if classes_of else None)
        found = np.bincount(targets[targets >= 0], minlength=classes)
        if len(found) > classes:
            raise DataError(f"labels hold class {len(found) - 1}, but there are {classes} classes, 0 to {classes - 1}")
        counts += found
    return counts


def _check_pairs(images: Sequence[Floats], labels: Sequence[Labels], ndim: int) -> None:
    if not images or len(images) != len(labels):
        raise DataError(f"{len(images)} images and {len(labels)} label images: give one of each, at least once")
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        if image.ndim != ndim + 1 or image.shape[1:] != label.shape or len(image) != len(images[0]):
            raise DataError(
                f"image {number} has shape {image.shape} and its labels {label.shape}: they must be "
                f"(channels, size) and (size) with {ndim} axes, and as many channels in every image"
            )
        if image.dtype != np.float32 or label.dtype != np.int32:
            raise DataError(
                f"image {number} is {image.dtype}, its labels {label.dtype}: they must be float32 and int32"
            )


def _slices(start: Sequence[Any] | npt.NDArray[Any], size: Sequence[Any] | npt.NDArray[Any]) -> tuple[slice, ...]:
    return tuple(slice(int(first), int(first) + int(n)) for first, n in zip(start, size, strict=True))
