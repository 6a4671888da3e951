"""A BioImage.IO model package (format 0.5): what deepImageJ, ilastik, napari and bioimageio.core open.

The networks in it are in a frame (`geometry.Frame`), so that the format's tiles with a halo are exact.
Normalisation and softmax stand in the description, as the format's own pre- and post-processing; every
kind of normalisation of biounet can be said there. Nothing is downloaded: all that the description names
lies in the package.

Source: BioImage.IO model description 0.5, https://bioimage.io, as bioimageio.spec 0.5 writes it.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import BiounetError, UsageError
from biounet.geometry import Geometry, frame_of
from biounet.images.normalize import PERCENTILES, Normalisation
from biounet.images.writing import write_png

Float32 = npt.NDArray[np.float32]

PAPER = (
    "O. Ronneberger, P. Fischer, T. Brox. U-Net: Convolutional Networks for Biomedical Image Segmentation. MICCAI 2015",
    "10.1007/978-3-319-24574-4_28",
)
_EPSILON = 1e-9  # what the format adds to a deviation; a constant channel becomes 0, as in biounet
_LEAST_STD = 1e-6  # of the format's fixed normalisation


@dataclass(frozen=True)
class Package:
    """What goes into a package. ``onnx`` and ``torchscript``: weights that give logits, in their frame.

    ``given``: an image (1, C, *spatial) as it is read from a file, float32, of a size that the frame
    takes, and ``expected``: the probabilities (1, K, *spatial) of all of it. ``authors``: names.
    ``license``: an SPDX identifier, or None. ``facts``: plain values for the description's ``config``.
    """

    name: str
    description: str
    documentation: str
    geometry: Geometry
    normalisation: Normalisation
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    onnx: bytes
    opset: int
    torchscript: bytes
    torch_version: str
    given: Float32
    expected: Float32
    cover: npt.NDArray[np.uint8]
    pixel_size_um: tuple[float, ...] | None = None
    authors: tuple[str, ...] = ()
    license: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def write_package(package: Package, folder: Path, weights: str) -> Path:
    """Write the package as ``package.zip`` into a folder of its own, which also takes its parts; the zip's path.

    ``weights``: the name of the ONNX file in it. Raises `UsageError` where bioimageio.core is missing or
    where the format does not take what the package says (a license that is none).
    """
    spec = _import("bioimageio.spec")
    parts = {
        weights: package.onnx,
        "weights.torchscript.pt": package.torchscript,
        "README.md": package.documentation.encode(),
    }
    for name, data in parts.items():
        (folder / name).write_bytes(data)
    np.save(folder / "test_input.npy", package.given)
    np.save(folder / "test_output.npy", package.expected)
    write_png(folder / "cover.png", package.cover)
    with _quiet():
        described = _described(package, folder, weights)
        try:
            return Path(spec.save_bioimageio_package(described, output_path=folder / "package.zip"))
        except ValueError as error:
            raise BiounetError(f"bioimageio.spec does not take the package: {' '.join(str(error).split())}") from error


def test_package(path: Path) -> str:
    """Run bioimageio.core's own test of a package, with all its weights; "" where it passes, else what failed."""
    core = _import("bioimageio.core")
    with _quiet():
        summary = core.test_model(path)
    errors = [f"{detail.name}: {error.msg}" for detail in summary.details for error in detail.errors]
    if summary.status == "passed" and not errors:
        return ""
    return " ".join("; ".join(errors or [f"status {summary.status}"]).split())


test_package.__test__ = False  # type: ignore[attr-defined]  # no test of pytest's


def _described(package: Package, folder: Path, weights: str) -> Any:
    v0_5 = _import("bioimageio.spec.model.v0_5")
    generic = _import("bioimageio.spec.generic.v0_3")

    def file(name: str) -> Any:
        return v0_5.FileDescr(source=folder / name)

    torchscript = v0_5.TorchscriptWeightsDescr(
        source=folder / "weights.torchscript.pt", pytorch_version=v0_5.Version(package.torch_version)
    )
    onnx = v0_5.OnnxWeightsDescr(source=folder / weights, opset_version=package.opset, parent="torchscript")
    try:
        return v0_5.ModelDescr(
            name=package.name,
            description=package.description,
            authors=[generic.Author(name=name) for name in package.authors],
            cite=[generic.CiteEntry(text=PAPER[0], doi=generic.Doi(PAPER[1]))],
            license=package.license,
            covers=[file("cover.png")],
            documentation=file("README.md"),
            inputs=[_input(v0_5, package, file("test_input.npy"))],
            outputs=[_output(v0_5, package, file("test_output.npy"))],
            weights=v0_5.WeightsDescr(onnx=onnx, torchscript=torchscript),
            tags=["segmentation", "unet", "biounet", f"{package.geometry.ndim}d"],
            config={"biounet": dict(package.facts)},
        )
    except ValueError as error:
        problems: list[Any] = getattr(error, "errors", list)()
        if any(problem["loc"][:1] == ("license",) for problem in problems):
            raise UsageError(
                f"--license {package.license!r} is not known; write an SPDX identifier, as CC-BY-4.0 or MIT"
            ) from error
        raise BiounetError(f"bioimageio.spec does not take the package: {' '.join(str(error).split())}") from error


def _input(v0_5: Any, package: Package, test: Any) -> Any:
    frames = [frame_of(axis) for axis in package.geometry.axes]
    sizes = [v0_5.ParameterizedSize(min=frame.smallest, step=frame.period) for frame in frames]
    spatial = [
        v0_5.SpaceInputAxis(id=v0_5.AxisId(name), size=size, concatenable=True, **_scale(package, index))
        for index, (name, size) in enumerate(zip(_names(package), sizes, strict=True))
    ]
    return v0_5.InputTensorDescr(
        id=v0_5.TensorId("image"),
        description="intensities as they are in the file",
        axes=[v0_5.BatchAxis(), v0_5.ChannelAxis(channel_names=_identifiers(package.channels, "channel")), *spatial],
        data=v0_5.IntervalOrRatioDataDescr(type="float32"),
        pad=v0_5.ReflectPadding(mode="reflect"),  # said in full: what is left to its default is not written
        preprocessing=preprocessing(v0_5, package.normalisation, _names(package)),
        test_tensor=test,
    )


def _output(v0_5: Any, package: Package, test: Any) -> Any:
    axes: list[Any] = [
        v0_5.BatchAxis(),
        v0_5.ChannelAxis(channel_names=_identifiers(package.classes, "class")),
    ]
    for index, (name, axis) in enumerate(zip(_names(package), package.geometry.axes, strict=True)):
        size = v0_5.SizeReference(tensor_id=v0_5.TensorId("image"), axis_id=v0_5.AxisId(name))
        halo = frame_of(axis).halo
        kind = v0_5.SpaceOutputAxisWithHalo if halo else v0_5.SpaceOutputAxis
        more = {"halo": halo} if halo else {}
        axes.append(kind(id=v0_5.AxisId(name), size=size, **_scale(package, index), **more))
    return v0_5.OutputTensorDescr(
        id=v0_5.TensorId("probabilities"),
        description="probability of each class",
        axes=axes,
        data=v0_5.IntervalOrRatioDataDescr(type="float32", range=(0.0, 1.0)),
        postprocessing=[v0_5.SoftmaxDescr()],
        test_tensor=test,
    )


def preprocessing(v0_5: Any, normalisation: Normalisation, spatial: Sequence[str]) -> list[Any]:
    """A normalisation as steps of the format: per channel over the whole image, or with the data set's numbers."""
    axes = [v0_5.AxisId(name) for name in spatial]
    if normalisation.kind == "image":
        kwargs = v0_5.ZeroMeanUnitVarianceKwargs(axes=axes, eps=_EPSILON)
        return [v0_5.ZeroMeanUnitVarianceDescr(kwargs=kwargs)]
    if normalisation.kind == "percentile":
        low, high = PERCENTILES
        kwargs = v0_5.ScaleRangeKwargs(axes=axes, min_percentile=low, max_percentile=high, eps=_EPSILON)
        return [v0_5.ScaleRangeDescr(kwargs=kwargs)]
    mean, std = normalisation.mean, normalisation.std
    channel = v0_5.AxisId("channel")
    if min(std) >= _LEAST_STD:
        kwargs = v0_5.FixedZeroMeanUnitVarianceAlongAxisKwargs(mean=list(mean), std=list(std), axis=channel)
        return [v0_5.FixedZeroMeanUnitVarianceDescr(kwargs=kwargs)]
    gain = [1 / s if s > 0 else 0.0 for s in std]  # a channel that was constant becomes 0
    offset = [-m * g for m, g in zip(mean, gain, strict=True)]
    return [v0_5.ScaleLinearDescr(kwargs=v0_5.ScaleLinearAlongAxisKwargs(gain=gain, offset=offset, axis=channel))]


def _names(package: Package) -> str:
    return "zyx"[-package.geometry.ndim :]


def _scale(package: Package, index: int) -> dict[str, Any]:
    sizes = package.pixel_size_um
    return {} if sizes is None else {"unit": "micrometer", "scale": sizes[index]}


def _identifiers(names: Sequence[str], what: str) -> list[str]:
    """Names as they are; the format has no rule for them, but numbers alone say nothing."""
    return [f"{what} {name}" if name.isdecimal() else name for name in names]


def _import(name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"--to bioimageio needs the package bioimageio.core, which cannot be imported ({error}); "
            "pip install 'biounet[bioimageio]'"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """bioimageio logs to the console by loguru, and warns of what a description could say besides."""
    from loguru import logger

    logger.disable("bioimageio")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.enable("bioimageio")
