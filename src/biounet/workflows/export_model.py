"""A model file written for other programs: ``biounet export``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biounet.errors import BiounetError, UsageError
from biounet.images.writing import whole_file
from biounet.inference.export import EXPORTERS, Export, refuse_unfit
from biounet.inference.exported import ONNX_IN_PACKAGE, open_model
from biounet.inference.packages import installed_version
from biounet.inference.proof import Proof
from biounet.inference.unet_graph import OPSET
from biounet.model_file import Model

TARGETS = (*EXPORTERS, "bioimageio")
_FILES = {"onnx": ["model.onnx"], "openvino": ["model.bin", "model.xml"], "torch": ["model.pt2"]}


@dataclass(frozen=True)
class Exporting:
    """What `export_model` wrote. ``files``: paths; ``proofs``: how far each network in them is from torch;
    ``notes``: what should be known, a line each; ``model_sha256``: of the model file."""

    target: str
    files: tuple[Path, ...]
    proofs: tuple[Proof, ...]
    notes: tuple[str, ...]
    model_sha256: str


def export_model(
    path: str | Path,
    target: str,
    out: str | Path,
    *,
    overwrite: bool = False,
    authors: Sequence[str] = (),
    licence: str | None = None,
    factory: Callable[..., Any] | None = None,
) -> Exporting:
    """Write a model file's network for ``target``, a name of `TARGETS`, into the folder ``out``.

    Before a file gets its name, its network is run by the program it is for, on the golden sample and
    on images of another size, and must be within 1e-4 of the largest |logit| of torch. ``authors`` and
    ``licence`` (SPDX) stand in a BioImage.IO package. ``factory`` makes the module of a foreign network.
    Raises `UsageError` where a file is there already and ``overwrite`` is not given, or a package is
    missing, and `BiounetError` where the network cannot be exported or computes something else.
    """
    path, out = Path(path), Path(out)
    if target not in TARGETS:
        raise UsageError(f"--to {target!r} is not known; choose {', '.join(TARGETS)}")
    if target != "bioimageio" and (authors or licence):
        raise UsageError(f"--author and --license belong to --to bioimageio, not to --to {target}")
    model = open_model(path)
    refuse_unfit(model)
    names = _FILES.get(target, [f"{path.stem}.bioimageio.zip"])
    there = [out / name for name in names if (out / name).exists()]
    if there and not overwrite:
        raise UsageError(f"{there[0]} is there already; give --overwrite to replace it, or another --out")
    notes: tuple[str, ...] = ()
    if target == "bioimageio":
        made, notes = _package(model, path.stem, authors, licence, factory)
    else:
        made = EXPORTERS[target](model, factory=factory)
    files = []
    for name, data in made.files.items():
        with whole_file(out / name) as temporary:
            temporary.write_bytes(data)
        files.append(out / name)
    return Exporting(target, tuple(files), made.proofs, notes, model.sha256)


def _package(
    model: Model, stem: str, authors: Sequence[str], licence: str | None, factory: Callable[..., Any] | None
) -> tuple[Export, tuple[str, ...]]:
    """A BioImage.IO package that passed bioimageio.core's own test and is as exact as biounet's own files."""
    from biounet.exchange.bioimageio import test_package, write_package
    from biounet.inference.engines import plain_engine
    from biounet.inference.export import framed_onnx, framed_torchscript, reference
    from biounet.inference.proof import prove
    from biounet.workflows.package import packaged

    torchscript, traced = framed_torchscript(model, factory=factory)
    onnx = framed_onnx(model, factory=factory)
    package = packaged(
        model,
        stem,
        reference(model, factory),
        onnx=onnx,
        opset=OPSET,
        torchscript=torchscript,
        torch_version=installed_version("torch").partition("+")[0],
        authors=tuple(authors),
        license=licence,
    )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        made = write_package(package, Path(folder), ONNX_IN_PACKAGE)
        name = f"{stem}.bioimageio.zip"
        made = made.rename(made.with_name(name))
        proof = prove(model, "ONNX Runtime", plain_engine(open_model(made)), reference(model, factory))
        failed = test_package(made)
        if failed:
            raise BiounetError(f"the package does not pass bioimageio.core's own test: {failed}")
        notes = ["bioimageio.core.test_model: passed, ONNX and TorchScript, on the test image and on other sizes"]
        notes += [] if authors else ["the package names no author: say who made the model with --author NAME"]
        notes += [] if licence else ["the package states no license: others may not know what they may do; --license"]
        return Export({name: made.read_bytes()}, (proof, traced)), tuple(notes)
