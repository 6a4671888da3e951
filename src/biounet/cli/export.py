"""``biounet export``: a model for other programs, run and compared before it is given away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biounet.cli import options
from biounet.cli.console import Console


def export(
    model: Annotated[Path, typer.Argument(help="A model file, such as model.safetensors.")],
    to: Annotated[str, typer.Option("--to", help="onnx, openvino, torch or bioimageio.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")] = Path("exported"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    author: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Who made the model, in a BioImage.IO package; repeatable.")
    ] = None,
    license: Annotated[
        str | None, typer.Option(metavar="SPDX", help="License of a BioImage.IO package, such as CC-BY-4.0.")
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Write model.onnx, model.xml, model.pt2 or NAME.bioimageio.zip, and prove what it computes."""
    console = Console(as_json=json, verbosity=-1 if quiet else verbose)
    from biounet.inference.proof import TOLERANCE
    from biounet.workflows.export_model import export_model

    made = export_model(model, to, out, overwrite=overwrite, authors=author or (), licence=license)
    for file in made.files:
        console.result(f"{file}: {file.stat().st_size:,} bytes")
    for proof in made.proofs:
        console.result(str(proof))
    for note in made.notes:
        console.note(note)
    console.finish(
        {
            "to": made.target,
            "files": [str(file) for file in made.files],
            "model_sha256": made.model_sha256,
            "tolerance": TOLERANCE,
            "proofs": [
                {
                    "program": proof.program,
                    "golden_difference": proof.golden,
                    "other_difference": proof.other,
                    "other_size": list(proof.size),
                }
                for proof in made.proofs
            ],
            "notes": list(made.notes),
        }
    )
