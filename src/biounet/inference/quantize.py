"""Int8: weights and activations of 8 bits, with ranges taken from calibration crops.

All convolutions are quantised, the transposed ones too, each channel's weights on a scale of its own;
only the first and the last stay in fp32. They see the grey values and give the logits, and take no
part of the time worth naming. Made by NNCF without training; the result is kept in the cache, since making it takes
several times as long as predicting an image.
"""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError
from biounet.geometry import Geometry
from biounet.inference.cache import cached
from biounet.inference.calibration import for_calibration, windows
from biounet.inference.convert import read_network, save_openvino
from biounet.inference.exported import network_digest
from biounet.inference.packages import import_or_refuse, installed_version

Array = npt.NDArray[Any]

_CONVOLUTIONS = ("Convolution", "ConvolutionBackpropData")
_RECIPE = 2  # raised when the same inputs shall give another result


def quantised(source: Path | bytes, geometry: Geometry, crops: Sequence[Array]) -> Path:
    """The OpenVINO file (.xml) of a network quantised to int8, from the cache or made now.

    ``source``: the fp32 network (.onnx or .xml, or ONNX as bytes); ``crops``: normalised (C, *spatial)
    images as the network will see them, of which the last are left out (`calibration.held_out`).
    Raises `UsageError` where there are none, or where NNCF is missing.
    """
    chosen = for_calibration(crops)
    if not chosen:
        raise UsageError(
            "--precision int8 needs images to calibrate on, and this model file carries none; "
            "name a folder of images like those it learnt from: --calibrate FOLDER"
        )
    inputs = windows(chosen, geometry)
    facts = {
        "recipe": _RECIPE,
        "network": network_digest(source),
        "calibration": [hashlib.sha256(batch.tobytes()).hexdigest() for batch in inputs],
        "shape": list(inputs[0].shape),
        "versions": {name: installed_version(name) for name in ("openvino", "nncf", "onnx")},
    }
    return cached(facts, lambda folder: _quantise(source, inputs, folder / "model.xml")) / "model.xml"


def _quantise(source: Path | bytes, inputs: Sequence[npt.NDArray[np.float32]], path: Path) -> None:
    nncf = import_or_refuse("nncf", "--precision int8")
    network = read_network(source)
    network.reshape(list(inputs[0].shape))  # free sizes would find no int8 kernels
    with _quiet():
        made = nncf.quantize(
            network,
            nncf.Dataset(list(inputs)),
            # activations may lie off zero: as fast as symmetric ones, with half the error
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=convolution_ends(network)),
            subset_size=len(inputs),
            fast_bias_correction=True,
        )
    save_openvino(made, path)


def convolution_ends(network: Any) -> list[str]:
    """Names of the convolutions, transposed or not, that see no other's output, or whose output no other sees."""
    ops = network.get_ordered_ops()
    given = {op.get_friendly_name(): [v.get_node().get_friendly_name() for v in op.input_values()] for op in ops}
    convolutions = {op.get_friendly_name() for op in ops if op.get_type_name() in _CONVOLUTIONS}
    seen: set[str] = set()  # that lie behind a convolution
    used: set[str] = set()  # that lie before one
    for name, before in given.items():
        if any(other in convolutions or other in seen for other in before):
            seen.add(name)
    for name in reversed(given):
        if name in convolutions or name in used:
            used.update(given[name])
    return [name for name in given if name in convolutions and not (name in seen and name in used)]


@contextmanager
def _quiet() -> Iterator[None]:
    """NNCF logs to the console and draws bars of its own."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
