"""What a BioImage.IO package says of a model: test image, cover, documentation, facts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.exchange.bioimageio import PAPER, Package
from biounet.geometry import Geometry, frame_of, mirrored
from biounet.inference.predict import softmax
from biounet.inference.proof import golden_of
from biounet.model_file import Model
from biounet.report.facts import seeds_in_words
from biounet.report.methods import network_in_words
from biounet.training.estimate import trained_in_words

Float32 = npt.NDArray[np.float32]

_CONTRAST = (1.0, 99.8)  # percentiles of the cover's grey values
_COVER = 256  # least side of each half in pixels


def packaged(model: Model, stem: str, reference: Callable[[Float32], Float32], **weights: Any) -> Package:
    """A model as the package ``STEM.bioimageio.zip``.

    ``reference``: logits (N, K, *output) by torch; ``weights``: networks, authors, license.
    """
    given = example_image(model)
    expected = expected_probabilities(model, given, reference)
    name = re.sub(r"[^A-Za-z0-9_+() -]", "_", stem)
    return Package(
        name=(name if len(name) >= 5 else f"biounet {name}")[:64],
        description=_description(model),
        documentation=documentation(model, name, f"{stem}.bioimageio.zip"),
        geometry=model.geometry,
        normalisation=model.normalisation,
        channels=model.channels,
        classes=model.classes,
        given=given,
        expected=expected,
        cover=cover(given[0], expected[0]),
        pixel_size_um=model.pixel_size_um,
        facts=_facts(model),
        **weights,
    )


def example_image(model: Model) -> Float32:
    """An image (1, C, *size) of intensities as they could stand in a file, of the smallest size that the frame takes.

    From a crop of a training image that the model file carries, mirrored around; noise where there is none.
    """
    size = [frame_of(axis).smallest for axis in model.geometry.axes]
    normalised = model.calibration[0] if model.calibration else golden_of(model)[0][0]
    first = [-((n - m) // 2) for n, m in zip(size, normalised.shape[1:], strict=True)]
    image = mirrored(np.asarray(normalised, np.float32), first, [a + n for a, n in zip(first, size, strict=True)])
    mean = model.normalisation.mean or (100.0,) * len(image)
    std = model.normalisation.std or (25.0,) * len(image)
    shape = (-1, *(1,) * model.ndim)
    raw = image * np.reshape(std, shape) + np.reshape(mean, shape)
    return np.ascontiguousarray(raw[None], dtype=np.float32)


def expected_probabilities(model: Model, given: Float32, reference: Callable[[Float32], Float32]) -> Float32:
    """Probabilities (1, K, *size) of all of an image (1, C, *size), as the network in its frame gives them."""
    frames = [frame_of(axis) for axis in model.geometry.axes]
    image = model.normalisation.apply(given[0])[None]
    cut = tuple(slice(frame.cut[0], n - frame.cut[1]) for frame, n in zip(frames, image.shape[2:], strict=True))
    logits = reference(np.ascontiguousarray(image[(slice(None), slice(None), *cut)]))
    framed = np.pad(logits, [(0, 0), (0, 0), *(frame.pad for frame in frames)], mode="edge")
    return softmax(framed[0])[None]


def cover(image: Float32, probabilities: Float32) -> npt.NDArray[np.uint8]:
    """A picture twice as wide as high: the image, and beside it all that is no background; of volumes the middle."""
    grey, found = image.mean(axis=0), 1 - probabilities[0]
    while grey.ndim > 2:
        grey, found = grey[len(grey) // 2], found[len(found) // 2]
    low, high = np.percentile(grey, _CONTRAST)
    grey = np.clip((grey - low) / max(high - low, 1e-6), 0, 1)
    side = min(grey.shape)
    halves = [_middle(part, side) for part in (grey, np.clip(found, 0, 1))]
    factor = max(1, -(-_COVER // side))
    picture = np.kron(np.hstack(halves), np.ones((factor, factor)))
    return np.asarray(np.rint(255 * picture), np.uint8)


def _middle(part: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    first = [(n - side) // 2 for n in part.shape]
    return part[first[0] : first[0] + side, first[1] : first[1] + side]


def documentation(model: Model, name: str, file: str) -> str:
    """The package's README.md, under the title ``name``; ``file``: what the package is called, for commands."""
    training, quoted = model.training, shlex.quote(file)
    lines = [
        f"# {name}",
        "",
        _description(model),
        "",
        f"- Channels: {', '.join(model.channels)}. Classes: {', '.join(model.classes)}.",
        f"- Pixel size: {_pixel_size(model)}.",
        f"- Normalisation: {_normalisation(model)} It stands in the description as preprocessing.",
        f"- Network: {network_in_words(model.network)}.",
        "",
        "## Output",
        "",
        "The probability of each class, by softmax over the channel axis.",
        _objects(model),
        "",
        "## Tiles",
        "",
        *_tiles(model.geometry),
        "",
        "## Validation",
        "",
        f"{trained_in_words(training)[:1].upper()}{trained_in_words(training)[1:]}.",
        "To measure it on annotated images of your own, a folder DATA, with biounet:",
        "",
        f"    biounet predict {quoted} DATA --out results",
        "    biounet evaluate results DATA",
        "",
        f"`biounet check {quoted}` computes a golden sample that the network carries, and says how far",
        "off it is.",
        "",
        "## Training",
        "",
        f"- {len(training.get('training_images', []))} training images, {seeds_in_words(training)}; data sha256 "
        f"{training.get('data_sha256')}, model sha256 {model.sha256}.",
        *(f"- {statement}" for statement in training.get("statements", [])),
        "",
        "## References",
        "",
        f"{PAPER[0]}. doi {PAPER[1]}",
        "",
    ]
    return "\n".join(lines)


def _description(model: Model) -> str:
    what = "separate objects" if model.task == "instances" else "classes of pixels"
    return f"A {model.ndim}D network trained with biounet to find {what}: {', '.join(model.classes[1:])}."[:512]


def _pixel_size(model: Model) -> str:
    if model.pixel_size_um is None:
        return "not stated"
    return f"{' x '.join(f'{size:g}' for size in model.pixel_size_um)} µm ({'ZYX'[-model.ndim :]})"


def _normalisation(model: Model) -> str:
    return {
        "image": "each channel less its mean, divided by its standard deviation, over the whole image.",
        "percentile": "percentiles 1 and 99.8 of each channel become 0 and 1, over the whole image. Where both are "
        "equal, biounet takes smallest and largest value; the preprocessing here does not.",
        "dataset": "mean and standard deviation of the training images.",
    }[model.normalisation.kind]


def _objects(model: Model) -> str:
    if model.task != "instances":
        return "The class of a pixel is the most probable one."
    return (
        "Objects are found from 1 - probability of the background by biounet, with the settings under "
        "`config.biounet.postprocessing`; other programs may take connected components above a threshold."
    )


def _tiles(geometry: Geometry) -> list[str]:
    lines = []
    for name, axis in zip("zyx"[-geometry.ndim :], geometry.axes, strict=True):
        frame = frame_of(axis)
        lines.append(f"- {name}: sizes {frame.smallest} + n * {frame.period}, halo {frame.halo}.")
    return [
        *lines,
        "",
        "Outside the halo the output is that of unpadded convolutions. Tiles that lie side by side from the image's",
        "origin give what one pass over the whole mirrored image gives. Where a program moves its last tile inwards,",
        "as bioimageio.core does, that holds for images whose sides are multiples of the step.",
    ]


def _facts(model: Model) -> dict[str, Any]:
    """Plain values for ``config``."""
    return {
        "model_sha256": model.sha256,
        "task": model.task,
        "classes": list(model.classes),
        "values": list(model.values),
        "channels": list(model.channels),
        "normalisation": model.normalisation.to_dict(),
        "postprocessing": dict(model.postprocessing),
    }
