"""From a trained network to files that other engines read: ONNX, and OpenVINO from that.

Batch and sizes stay free in the files, sizes by the rule of the network's geometry.
"""

from __future__ import annotations

import hashlib
import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from biounet.errors import BiounetError, DataError
from biounet.geometry import AxisGeometry, Geometry
from biounet.images.writing import whole_file
from biounet.inference.cache import cached
from biounet.inference.packages import import_or_refuse, installed_version
from biounet.inference.unet_graph import OPSET, is_plain_unet, unet_graph
from biounet.model_file import Model


def write_onnx(model: Model, path: str | Path, *, factory: Callable[..., Any] | None = None) -> None:
    """Write a model's network as ONNX: ``image`` float32 (n, C, *size) -> ``logits`` (n, K, *output).

    A U-Net is written without torch; other networks go through torch's exporter. ``factory`` makes
    the module of a foreign network. The file appears whole or not at all. Raises `UsageError` where a
    package is missing, and `BiounetError` where a network cannot be exported.
    """
    with whole_file(path) as temporary:
        if is_plain_unet(model.network):
            temporary.write_bytes(unet_graph(model.network, model.weights))
        else:
            from biounet.inference.torch_engine import torch_network

            export_module(torch_network(model, factory=factory), len(model.channels), temporary)


def onnx_of(model: Model, *, factory: Callable[..., Any] | None = None) -> Path | bytes:
    """A model's network as ONNX: bytes for a U-Net, which are made at once, else a file in the cache."""
    if is_plain_unet(model.network):
        return unet_graph(model.network, model.weights)
    digest = hashlib.sha256(repr(sorted(model.network.items())).encode())
    for name, value in sorted(model.weights.items()):
        digest.update(name.encode() + np.ascontiguousarray(value).tobytes())
    facts = {"network": digest.hexdigest(), "opset": OPSET, "torch": installed_version("torch")}
    if factory is not None:  # its code may change while its weights do not
        folder = Path(tempfile.mkdtemp(prefix="biounet."))
        try:
            write_onnx(model, folder / "model.onnx", factory=factory)
            return (folder / "model.onnx").read_bytes()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return cached(facts, lambda made: write_onnx(model, made / "model.onnx")) / "model.onnx"


def openvino_core() -> Any:
    """The process's one core; `UsageError` with the install command where OpenVINO is missing."""
    import_or_refuse("openvino", "--engine openvino")
    return _core()


@cache
def _core() -> Any:
    """OpenVINO's one core of this process, with its CPU plugin loaded, kept to the end.

    The plugin gives the thread a stack of its own for signals, and takes it away with itself. Cores
    that come and go leave the address of one that is gone: the next Ctrl-C would then be a crash.
    """
    import openvino

    core = openvino.Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")
    return core


def read_network(source: str | Path | bytes) -> Any:
    """An OpenVINO network of an ``.onnx`` or ``.xml`` file, or of ONNX as bytes. `DataError` where it is none."""
    try:
        return openvino_core().read_model(io.BytesIO(source) if isinstance(source, bytes) else str(source))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[-1] if lines else type(error).__name__
        what = "the network" if isinstance(source, bytes) else source
        raise DataError(f"{what}: cannot be loaded by OpenVINO ({reason}); export it again") from error


def export_module(network: Any, in_channels: int, path: str | Path) -> None:
    """Export any torch module with a ``geometry`` as ONNX by torch's own exporter.

    ``network``: in evaluation mode, on the CPU. Raises `BiounetError` with the reason where the
    exporter cannot.
    """
    torch = import_or_refuse("torch", "exporting a network")
    import_or_refuse("onnxscript", "exporting a network")
    example, free = sizes_for_exporter(network.geometry, in_channels)
    try:
        with quiet_exporter(), torch.no_grad():
            program = torch.onnx.export(
                network, (example,), dynamo=True, opset_version=OPSET, dynamic_shapes=(free,),
                input_names=["image"], output_names=["logits"], verbose=False,
            )  # fmt: skip
        program.save(str(path))
    except Exception as error:  # the exporter has no exception of its own
        raise BiounetError(
            f"the network cannot be exported to ONNX ({type(error).__name__}: {str(error).splitlines()[0]}); "
            "take --engine torch"
        ) from error


def sizes_for_exporter(geometry: Geometry, in_channels: int) -> tuple[Any, dict[int, Any]]:
    """An example input for torch's exporters, and what is free in it: the batch, and sizes by the geometry's rule."""
    torch = import_or_refuse("torch", "exporting a network")
    size = [axis.smallest + (1 + index) * axis.period for index, axis in enumerate(geometry.axes)]
    example = torch.zeros(2, in_channels, *size)  # a batch of 1 would become fixed
    free = {0: torch.export.Dim("n", min=1, max=4096)}
    free |= {index + 2: _free_side(torch, axis, index) for index, axis in enumerate(geometry.axes)}
    return example, free


def write_openvino(onnx_file: str | Path | bytes, path: str | Path) -> None:
    """Write ONNX, a file or bytes, as OpenVINO, fp32: ``path`` ends in .xml, the weights lie beside it as .bin."""
    save_openvino(read_network(onnx_file), path)


def save_openvino(network: Any, path: str | Path) -> None:
    """Save an OpenVINO network as ``path`` (.xml) and its .bin; the .xml appears last."""
    openvino = import_or_refuse("openvino", "OpenVINO export")
    path = Path(path)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model.xml"
        openvino.save_model(network, str(made), compress_to_fp16=False)
        for suffix in (".bin", ".xml"):
            with whole_file(path.with_suffix(suffix)) as temporary:
                temporary.write_bytes(made.with_suffix(suffix).read_bytes())


def gives_one_pixel(axis: AxisGeometry) -> bool:
    """Whether the smallest input gives a single pixel: torch's exporters take sides of 1 for a case of their own."""
    return axis.output_size(axis.smallest) == 1


def _free_side(torch: Any, axis: AxisGeometry, index: int) -> Any:
    """All admissible sizes of an axis, as torch's exporter writes it: 16*k + 12."""
    first, rest = divmod(axis.smallest, axis.period)
    first += gives_one_pixel(axis)
    steps = torch.export.Dim(f"k{index}", min=first, max=100_000)
    side = axis.period * steps if axis.period > 1 else steps
    return side + rest if rest else side


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Torch's exporters say nothing: what they log is about packages and choices that concern no user."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
