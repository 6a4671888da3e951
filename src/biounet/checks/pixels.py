"""The images alone: blank ones, saturation, and whether they were taken and stored alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.checks.finding import Finding, Spot
from biounet.checks.survey import Survey
from biounet.datasets.examples import size_ratio, usual_pixel_size

_SATURATED = 0.02  # share of the annotated objects' pixels at the largest value
_PILE = 5.0  # times as many pixels at the largest value as at each of those below it
_SCALE = 1.05  # pixel sizes that differ by more are of another magnification
_FEW_BITS = 255


def blank_images(survey: Survey) -> Iterator[Finding]:
    """Images of one value, and channels of one value in some of the images or in all."""
    blank = {e.name: _blank_channels(e.image) for e in survey.examples}
    names = survey.channels
    seen = any(len(found) < len(names) for found in blank.values())  # in one image at least
    everywhere = set.intersection(*map(set, blank.values())) if len(blank) > 1 else set()
    if everywhere and len(everywhere) < len(names):
        rest = ",".join(name for k, name in enumerate(names) if k not in everywhere)
        yield Finding(
            "blank_images",
            "hint",
            survey.dataset.root.name,
            f"{_channels(everywhere, names)} one value in each of {len(blank)} images",
            "it tells the network nothing and costs time",
            f"leave it out: train --channels {rest}",
        )
    for example, labels in zip(survey.examples, survey.encoded, strict=True):
        found = set(blank[example.name])
        if len(found) == len(example.image):
            drawn = bool((labels > 0).any())
            yield Finding(
                "blank_images",
                "error" if drawn and not seen else "warning",
                example.name,
                f"every pixel has the value {example.image.flat[0]:g}" + (", and objects are drawn" if drawn else ""),
                "the network is taught objects that nothing shows" if drawn else "the network learns nothing from it",
                "export the image again, or remove it with its mask",
                1.0,
                (Spot(example.name),),
            )
        elif found - everywhere:
            yield Finding(
                "blank_images",
                "warning",
                example.name,
                f"{_channels(found - everywhere, names)} one value, but not in the other images",
                "what the channel shows elsewhere is missing here, as after a failed export or exposure",
                "export the image again, or leave the channel out everywhere: train --channels",
                0.5,
                (Spot(example.name),),
            )


def _blank_channels(image: npt.NDArray[Any]) -> list[int]:
    return [k for k, channel in enumerate(image) if channel.size and channel.min() == channel.max()]


def _channels(numbers: set[int], names: Sequence[str]) -> str:
    """As words to go before what they have: "channels 0, 2 have"."""
    listed = ", ".join(names[k] for k in sorted(numbers))
    return f"channel {listed} has" if len(numbers) == 1 else f"channels {listed} have"


def saturation(survey: Survey) -> Iterator[Finding]:
    """Objects whose pixels pile up at the largest value of the image."""
    for example, labels in zip(survey.examples, survey.encoded, strict=True):
        inside = labels > 0
        shares = [_clipped(channel, inside) for channel in example.image]
        worst = max(shares, default=0.0)
        if worst < _SATURATED:
            continue
        at = shares.index(worst)
        channel = f" in channel {survey.channels[at]}" if len(shares) > 1 else ""
        yield Finding(
            "saturation",
            "warning",
            example.name,
            f"{worst:.1%} of the objects' pixels have the largest value, {example.image[at].max():g}{channel}",
            "what lies above the largest value is lost, edges between bright objects first",
            "take the image again with less exposure or gain; the annotation stays usable",
            worst,
            (Spot(example.name),),
        )


def _clipped(channel: npt.NDArray[Any], inside: npt.NDArray[np.bool_]) -> float:
    """Share of the objects' pixels at the largest value, 0 where they do not pile up there."""
    values = channel[inside]
    if not values.size or channel.dtype.kind not in "ui":
        return 0.0
    largest = channel.max()
    top = int(np.count_nonzero(values == largest))
    if top / values.size < _SATURATED:
        return 0.0
    below = values[values < largest]
    levels = np.unique(below)[-8:]
    if len(np.unique(values)) < 16:  # a mask, or an image of few values
        return 0.0
    typical = np.count_nonzero(below >= levels[0]) / len(levels)
    return top / values.size if top >= _PILE * typical else 0.0


def bit_depths(survey: Survey) -> Iterator[Finding]:
    """Files of several data types, or 8 bits of values in 16-bit files among others."""
    kinds = {e.name: _depth(e.image) for e in survey.examples}
    counts = Counter(kinds.values())
    if len(counts) < 2:
        return
    usual = counts.most_common(1)[0][0]
    said = ", ".join(f"{count} of {kind}" for kind, count in counts.most_common())
    odd = [name for name, kind in kinds.items() if kind != usual]
    yield Finding(
        "bit_depth",
        "hint",
        odd[0] if len(odd) == 1 else f"{len(odd)} images",
        f"{said}; others than most: {_some(odd)}",
        "values are normalised image by image, so depth itself is harmless; steps of few grey values, or another "
        "microscope, are not",
        "export all images the same way, at the depth of the camera",
        len(odd),
        tuple(Spot(name) for name in odd[:1]),
    )


def _depth(image: npt.NDArray[Any]) -> str:
    if image.dtype == np.uint16 and image.max(initial=0) <= _FEW_BITS:
        return "uint16 with values up to 255"
    return str(image.dtype)


def pixel_sizes(survey: Survey) -> Iterator[Finding]:
    """Images whose stated pixel size is not that of the others."""
    sizes = {e.name: e.pixel_size_um for e in survey.examples if e.pixel_size_um is not None}
    usual = usual_pixel_size(survey.examples)
    if usual is None:
        return
    ratios = {name: size_ratio(size, usual) for name, size in sizes.items()}
    alike = sum(ratio <= _SCALE for ratio in ratios.values())
    for name, ratio in ratios.items():
        if ratio <= _SCALE:
            continue
        yield Finding(
            "pixel_size",
            "warning",
            name,
            f"pixels of {_um(sizes[name])} um, {alike} others of {_um(usual)} um: {ratio:.2g} times as large or small",
            "images are not rescaled, so the same cell has two sizes in pixels",
            "rescale image and mask (mask without interpolation), correct the stated size, or train a model of its own",
            ratio,
            (Spot(name),),
        )


def _um(size: tuple[float, ...]) -> str:
    return " x ".join(f"{n:.4g}" for n in size)


def mixed_colours(survey: Survey) -> Iterator[Finding]:
    """Grey images among RGB ones, which are read as three equal channels."""
    if len(survey.examples) < 2 or survey.dataset.channels != 3:
        return
    grey = [e.name for e in survey.examples if _is_grey(e.image)]
    if not 0 < len(grey) < len(survey.examples):
        return
    yield Finding(
        "channels_mixed",
        "hint",
        f"{len(grey)} images",
        f"{len(grey)} of {len(survey.examples)} images are grey (as {grey[0]}), the others in colour",
        "grey is repeated to three channels; where the kinds also look different, the network has to learn two tasks",
        "nothing, if one model shall do both; else a folder and a model for each kind",
        len(grey),
        (Spot(grey[0]),),
    )


def _is_grey(image: npt.NDArray[Any]) -> bool:
    return bool((image[1:] == image[:1]).all())


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
