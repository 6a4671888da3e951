"""The one model file, ``*.safetensors``: weights and everything needed to use and to trust them.

A safetensors file with the weights (``network.*``), a golden input with its output (``golden.*``)
and one metadata entry, ``biounet``, a JSON object. Its ``sha256`` is over all tensors and the other
metadata, and is checked at every load. No pickle, no dates, durations, paths or host names; nothing
is imported because a file asks for it. Imports no torch.

A *passport* is the same container without the weights. An exported network carries one, so that it can
be used like a model file (`inference.exported`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from biounet.errors import DataError, ModelFileError
from biounet.geometry import AxisGeometry, Geometry
from biounet.images.normalize import Normalisation
from biounet.images.writing import whole_file

FORMAT_VERSION = 1
_KEY = "biounet"
_NETWORK, _GOLDEN, _CALIBRATION = "network.", "golden.", "calibration."

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Exported:
    """The network of a model that was opened from an exported form; it stands in for the weights.

    ``suffix``: ".onnx", ".xml" (OpenVINO) or ".pt2" (torch.export). ``source``: the file, or ONNX as bytes.
    ``file``: what was opened. ``framed``: whether the network is in a frame (`geometry.Frame`).
    """

    suffix: str
    source: Path | bytes
    file: Path
    framed: bool = False


@dataclass(frozen=True)
class Model:
    """A trained network with all that belongs to it.

    ``network``: description that `networks.build.build` takes, or ``{"name": "foreign", ...}``.
    ``weights``: float32 (or integer counters) by parameter name. ``task``: "instances" or "classes".
    ``classes``: names by class id, background first. ``values``: annotation value of each class.
    ``channels``: names. ``pixel_size_um``: per spatial axis, or None. ``postprocessing``: settings
    that turn probabilities into objects. ``training``: settings, seed, steps, scores, rules and the
    hashes of the data. ``golden``: a small input (1, C, *in) and its logits (1, K, *out), float32.
    ``calibration``: normalised crops (C, *spatial) of training images, float16, for int8. ``exported``: of
    a model from an exported form, whose ``weights`` are empty and whose ``sha256`` is that of the model
    file it was made from.
    """

    network: Mapping[str, Any]
    geometry: Geometry
    weights: Mapping[str, Array]
    normalisation: Normalisation
    task: str
    classes: tuple[str, ...]
    values: tuple[int, ...]
    channels: tuple[str, ...]
    pixel_size_um: tuple[float, ...] | None = None
    postprocessing: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    golden: tuple[Array, Array] | None = None
    calibration: tuple[Array, ...] = ()
    sha256: str = ""
    exported: Exported | None = None

    @property
    def ndim(self) -> int:
        """Number of spatial axes, 2 or 3."""
        return self.geometry.ndim

    @property
    def unlabelled(self) -> str | None:
        """What undrawn pixels were in training, "background" or "unknown"; None where that is not known."""
        found = self.training.get("settings", {}).get("data", {}).get("unlabelled")
        return None if found is None else str(found)

    def with_golden(self, golden_input: Array, golden_output: Array) -> Model:
        """The same model with this golden sample."""
        return replace(self, golden=(golden_input, golden_output))


def save_model(path: str | Path, model: Model) -> str:
    """Write a model file, whole or not at all, and return its SHA-256."""
    metadata = _metadata(model)
    data = _sealed(_tensors(model), metadata)
    with whole_file(Path(path)) as temporary:
        temporary.write_bytes(data)
    return str(metadata["sha256"])


def load_model(path: str | Path) -> Model:
    """Read and check a model file; the file is closed afterwards and may be replaced.

    Raises `ModelFileError` for a file that is truncated, changed, of another program or of a newer
    format, and `DataError` when there is none.
    """
    path = Path(path)
    metadata, tensors, stated = _unsealed(_read(path), path)
    return _model(metadata, tensors, stated, path)


def model_digest(model: Model) -> str:
    """The SHA-256 of a model; of one that comes from no file, that of the file it would make."""
    return model.sha256 or _digest(_tensors(model), _metadata(model))


def make_passport(model: Model, network_sha256: str) -> bytes:
    """All of a model but its weights, for an exported network of this SHA-256 to carry."""
    exported = {"model_sha256": model.sha256, "network_sha256": network_sha256}
    return _sealed(_samples(model), _metadata(model) | {"exported": exported})


def read_passport(data: bytes, path: Path) -> tuple[Model, str]:
    """The model of a passport, without weights, and the SHA-256 that its network must have.

    ``path``: the exported file, for messages. Raises `ModelFileError` for a damaged or newer passport.
    """
    metadata, tensors, _ = _unsealed(data, path)
    try:
        exported = metadata["exported"]
        sha256, network = str(exported["model_sha256"]), str(exported["network_sha256"])
    except (LookupError, TypeError) as error:
        raise ModelFileError(f"{path}: not a complete export ({error!r}); export it again") from error
    return _model(metadata, tensors, sha256, path), network


def _tensors(model: Model) -> dict[str, Array]:
    """All arrays of a model, by the names they have in its file."""
    weights = {_NETWORK + name: np.asarray(value, order="C") for name, value in model.weights.items()}
    return weights | _samples(model)


def _samples(model: Model) -> dict[str, Array]:
    """The golden sample and the crops, by the names of their tensors."""
    tensors = {f"{_CALIBRATION}{index}": np.asarray(crop, order="C") for index, crop in enumerate(model.calibration)}
    if model.golden is not None:
        given, output = (np.asarray(value, order="C") for value in model.golden)
        tensors |= {_GOLDEN + "input": given, _GOLDEN + "output": output}
    return tensors


def _sealed(tensors: dict[str, Array], metadata: dict[str, Any]) -> bytes:
    """The container as bytes; the checksum is added to the metadata."""
    metadata["sha256"] = _digest(tensors, metadata)
    data: bytes = save_tensors(tensors, {_KEY: _canonical(metadata)})
    return data


def _unsealed(data: bytes, path: Path) -> tuple[dict[str, Any], dict[str, Array], str]:
    """Metadata without its checksum, tensors, and the checksum, which was found to fit."""
    metadata, tensors = _parse(data, path)
    stated = metadata.pop("sha256", None)
    if stated != _digest(tensors, metadata):
        raise ModelFileError(
            f"{path}: the content does not match its checksum; the file was changed or damaged: "
            "take another copy or train again"
        )
    return metadata, tensors, str(stated)


def _metadata(model: Model) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "network": dict(model.network),
        "geometry": [asdict(axis) for axis in model.geometry.axes],
        "normalisation": model.normalisation.to_dict(),
        "task": model.task,
        "classes": list(model.classes),
        "values": list(model.values),
        "channels": list(model.channels),
        "pixel_size_um": None if model.pixel_size_um is None else list(model.pixel_size_um),
        "postprocessing": dict(model.postprocessing),
        "training": dict(model.training),
    }


def _model(metadata: Mapping[str, Any], tensors: Mapping[str, Array], sha256: str, path: Path) -> Model:
    try:
        return _assembled(metadata, tensors, sha256)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ModelFileError(f"{path}: not a complete biounet model ({error!r}); train it again") from error


def _assembled(metadata: Mapping[str, Any], tensors: Mapping[str, Array], sha256: str) -> Model:
    golden = tuple(tensors[_GOLDEN + name] for name in ("input", "output") if _GOLDEN + name in tensors)
    size = metadata["pixel_size_um"]
    return Model(
        network=metadata["network"],
        geometry=Geometry(tuple(_axis(axis) for axis in metadata["geometry"])),
        weights={k.removeprefix(_NETWORK): v for k, v in tensors.items() if k.startswith(_NETWORK)},
        normalisation=Normalisation.from_dict(metadata["normalisation"]),
        task=metadata["task"],
        classes=tuple(metadata["classes"]),
        values=tuple(metadata["values"]),
        channels=tuple(metadata["channels"]),
        pixel_size_um=None if size is None else tuple(size),
        postprocessing=metadata["postprocessing"],
        training=metadata["training"],
        calibration=_numbered(tensors, _CALIBRATION),
        golden=(golden[0], golden[1]) if len(golden) == 2 else None,
        sha256=sha256,
    )


def _numbered(tensors: Mapping[str, Array], prefix: str) -> tuple[Array, ...]:
    """The tensors ``prefix0``, ``prefix1``, ..., in this order; none in files of before they were kept."""
    count = sum(name.startswith(prefix) for name in tensors)
    return tuple(tensors[f"{prefix}{index}"] for index in range(count))


def _axis(values: Mapping[str, Any]) -> AxisGeometry:
    margin, reach = values["margin"], values["reach"]
    return AxisGeometry(
        (int(margin[0]), int(margin[1])),
        int(values["period"]),
        int(values["smallest"]),
        (int(reach[0]), int(reach[1])),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such model file; check the name, or train one") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a model file") from error


def _parse(data: bytes, path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    try:
        tensors = load_tensors(data)
        length = int.from_bytes(data[:8], "little")
        text = json.loads(data[8 : 8 + length])["__metadata__"][_KEY]
        metadata = json.loads(text)
        version = metadata["format_version"]
        if text != _canonical(metadata):  # so that 1E-05 for 1e-05 is a changed byte as well
            raise ValueError("metadata not in its canonical form")
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelFileError(
            f"{path}: not a biounet model, truncated or changed; take another copy or train again"
        ) from error
    if version != FORMAT_VERSION:
        raise ModelFileError(
            f"{path}: model format {version!r}; this biounet reads format {FORMAT_VERSION}: update biounet"
        )
    return metadata, tensors


def _canonical(metadata: Mapping[str, Any]) -> str:
    return json.dumps(metadata, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(tensors: Mapping[str, Array], metadata: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(_canonical({k: v for k, v in metadata.items() if k != "sha256"}).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name}|{value.dtype.str}|{value.shape}|".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
