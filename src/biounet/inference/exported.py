"""Exported networks opened as models: ``model.onnx``, ``model.xml``, ``model.pt2``, ``NAME.bioimageio.zip``.

Each carries a passport (`passport`) with all that a model file says but the weights. ONNX and OpenVINO
forms are opened and predict where torch cannot be imported.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from biounet.errors import DataError, ModelFileError
from biounet.inference.passport import split_onnx, split_xml
from biounet.model_file import Exported, Model, load_model, read_passport

ONNX_IN_PACKAGE = "weights.onnx"


def open_model(path: str | Path) -> Model:
    """A model from a model file or from any exported form of one.

    Of an exported form the network is read, but not yet by the engine that will run it; its SHA-256 must
    be the one that the passport states. Raises `DataError` where there is no such file, and
    `ModelFileError` where it is damaged or no export of biounet.
    """
    path = Path(path)
    opener = next((make for suffix, make in _FORMS.items() if path.name.lower().endswith(suffix)), None)
    if opener is None:
        return load_model(path)
    try:
        return opener(path)
    except FileNotFoundError as error:
        missing = Path(error.filename or path)
        raise DataError(f"{missing}: there is no such file; check the name, or export the model again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); give a model file") from error
    except (ValueError, KeyError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"{path}: cannot be read as an exported model ({error}); export it again") from error


def is_exported(path: str | Path) -> bool:
    """Whether a file, by its name, is an exported form of a model."""
    return Path(path).name.lower().endswith(tuple(_FORMS))


def _open_onnx(path: Path) -> Model:
    return _opened(path.read_bytes(), path)


def _open_package(path: Path) -> Model:
    with zipfile.ZipFile(path) as archive:
        if ONNX_IN_PACKAGE not in archive.namelist():
            raise ModelFileError(f"{path}: holds no {ONNX_IN_PACKAGE}, so no export of biounet; export the model again")
        return _opened(archive.read(ONNX_IN_PACKAGE), path, framed=True)


def _opened(data: bytes, path: Path, *, framed: bool = False) -> Model:
    network, passport = split_onnx(data)
    return _checked(passport, hashlib.sha256(network).hexdigest(), Exported(".onnx", data, path, framed))


def _open_openvino(path: Path) -> Model:
    network, passport = split_xml(path.read_bytes())
    return _checked(passport, openvino_digest(network, path.with_suffix(".bin")), Exported(".xml", path, path))


def network_digest(source: Path | bytes) -> str:
    """The SHA-256 over a network, a file or ONNX as bytes; of an OpenVINO network over its .xml and its .bin."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    if isinstance(source, Path) and source.suffix.lower() == ".xml":
        return openvino_digest(data, source.with_suffix(".bin"))
    return hashlib.sha256(data).hexdigest()


def openvino_digest(xml: bytes, weights: Path) -> str:
    """The SHA-256 over an OpenVINO network: its .xml without a passport, then its .bin."""
    return hashlib.sha256(xml + weights.read_bytes()).hexdigest()


def _open_program(path: Path) -> Model:
    from biounet.inference.torch_program import read_archive

    members, passport = read_archive(path)
    return _checked(passport, program_digest(members), Exported(".pt2", path, path))


def program_digest(members: dict[str, bytes]) -> str:
    """The SHA-256 over the files of a torch.export archive, without its passport, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(members):
        digest.update(f"{name}|{len(members[name])}|".encode() + members[name])
    return digest.hexdigest()


def _checked(passport: bytes | None, found: str, exported: Exported) -> Model:
    if passport is None:
        raise ModelFileError(
            f"{exported.file}: carries no model of biounet, so its classes and normalisation are unknown; "
            "make it with biounet export, or give the model file and this as --engine"
        )
    model, stated = read_passport(passport, exported.file)
    if stated != found:
        raise ModelFileError(
            f"{exported.file}: the network does not match its checksum; the file was changed or damaged: "
            "take another copy or export it again"
        )
    return replace(model, exported=exported)


_FORMS: dict[str, Callable[[Path], Model]] = {
    ".onnx": _open_onnx,
    ".xml": _open_openvino,
    ".pt2": _open_program,
    ".bioimageio.zip": _open_package,
}
