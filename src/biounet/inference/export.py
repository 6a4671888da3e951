"""A model's network written for other programs, with its passport, and proved equal to torch.

Each writer makes its files in a temporary folder, opens and runs them there as a user will, and only
then gives their bytes away.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from biounet.errors import BiounetError, UsageError
from biounet.inference.convert import quiet_exporter, write_onnx, write_openvino
from biounet.inference.engines import Engine, plain_engine
from biounet.inference.exported import open_model, openvino_digest, program_digest
from biounet.inference.frames import Framed, module_in_frame, onnx_in_frame, outer_geometry
from biounet.inference.packages import import_or_refuse
from biounet.inference.passport import with_onnx_passport, with_xml_passport
from biounet.inference.proof import Proof, golden_of, other_size, prove
from biounet.model_file import Model, make_passport

Factory = Callable[..., Any]


@dataclass(frozen=True)
class Export:
    """Files by name, in the order in which they shall appear, and what was found when they were run."""

    files: Mapping[str, bytes]
    proofs: tuple[Proof, ...]


def export_onnx(model: Model, *, factory: Factory | None = None) -> Export:
    """``model.onnx``, run in ONNX Runtime. Raises `UsageError` where a package is missing."""
    import_or_refuse("onnxruntime", "--to onnx")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(model, path, factory=factory)
        path.write_bytes(_sealed_onnx(path.read_bytes(), model))
        return _proved([path], model, "ONNX Runtime", factory)


def export_openvino(model: Model, *, factory: Factory | None = None) -> Export:
    """``model.xml`` and ``model.bin``, fp32, run in OpenVINO. Raises `UsageError` where a package is missing."""
    import_or_refuse("openvino", "--to openvino")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        onnx, xml, weights = (Path(folder) / f"model.{suffix}" for suffix in ("onnx", "xml", "bin"))
        write_onnx(model, onnx, factory=factory)
        write_openvino(onnx.read_bytes(), xml)
        network = xml.read_bytes()
        xml.write_bytes(with_xml_passport(network, make_passport(model, openvino_digest(network, weights))))
        return _proved([weights, xml], model, "OpenVINO", factory)  # the .xml last: it is whole only with the .bin


def export_torch(model: Model, *, factory: Factory | None = None) -> Export:
    """``model.pt2`` of ``torch.export``, loaded and run by it."""
    import_or_refuse("torch", "--to torch")
    from biounet.inference.torch_engine import torch_network
    from biounet.inference.torch_program import add_passport, read_archive, write_program

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "model.pt2"
        write_program(torch_network(model, factory=factory), len(model.channels), path)
        members, _ = read_archive(path)
        path.write_bytes(add_passport(path, make_passport(model, program_digest(members))))
        return _proved([path], model, "torch.export", factory)


EXPORTERS: dict[str, Callable[..., Export]] = {
    "onnx": export_onnx,
    "openvino": export_openvino,
    "torch": export_torch,
}


def framed_onnx(model: Model, *, factory: Factory | None = None) -> bytes:
    """The network in its frame as ONNX, with the model's passport, for packages of other programs."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(model, path, factory=factory)
        return _sealed_onnx(onnx_in_frame(path.read_bytes(), model.geometry), model)


def framed_torchscript(model: Model, *, factory: Factory | None = None) -> tuple[bytes, Proof]:
    """The network in its frame as TorchScript, by tracing, and what it computes at another size."""
    torch = import_or_refuse("torch", "this export")
    from biounet.inference.torch_engine import TorchEngine, torch_network
    from biounet.inference.torch_program import Program

    outer = outer_geometry(model.geometry)
    example = torch.zeros(1, len(model.channels), *other_size(outer, outer.smallest))
    made = io.BytesIO()
    try:
        with quiet_exporter(), torch.no_grad():
            network = module_in_frame(torch_network(model, factory=factory))
            torch.jit.save(torch.jit.trace(network, example, check_trace=False), made)
            traced = torch.jit.load(io.BytesIO(made.getvalue()))
    except (RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BiounetError(f"the network cannot be traced by torch ({type(error).__name__}: {reason})") from error
    engine = Framed(TorchEngine(Program(traced, outer, dict(model.network))), model.geometry)
    return made.getvalue(), prove(model, "TorchScript", engine, reference(model, factory))


def reference(model: Model, factory: Factory | None = None) -> Engine:
    """Torch, which everything is compared with."""
    return plain_engine(replace(model, exported=None), factory=factory)


def refuse_unfit(model: Model) -> None:
    """`UsageError` for a model that was opened from an exported form, `DataError` for one without golden sample."""
    if model.exported is not None:
        raise UsageError(f"{model.exported.file} is an exported form already; export the model file it was made from")
    golden_of(model)


def _sealed_onnx(network: bytes, model: Model) -> bytes:
    return with_onnx_passport(network, make_passport(model, hashlib.sha256(network).hexdigest()))


def _proved(files: list[Path], model: Model, program: str, factory: Factory | None) -> Export:
    """The files' bytes, once the last of them was opened as a user will open it, and proved."""
    proof = prove(model, program, plain_engine(open_model(files[-1])), reference(model, factory))
    return Export({path.name: path.read_bytes() for path in files}, (proof,))
