"""Options of ``predict``, whose help and names stand here so that the command itself fits the eye."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[Path, typer.Argument(help="A model file, such as model.safetensors, or an exported form of one.")]
Inputs = Annotated[list[str], typer.Argument(metavar="INPUT...", help="Images, plates, folders or patterns.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for the results.")]
Save = Annotated[
    str,
    typer.Option(
        "--save",
        help="Of labels, probabilities, overlay, ome-zarr, rois, geojson, geojson.gz, table, ctc; with commas.",
    ),
]
Tile = Annotated[int | None, typer.Option("--tile", help="Side of a tile's output in pixels (default: the cheapest).")]
Memory = Annotated[
    str | None,
    typer.Option("--memory", help="Memory limit for the whole process, such as 2GB (default: half of the machine's)."),
]
PixelSize = Annotated[
    str | None, typer.Option("--pixel-size", help="Pixel size of the inputs, such as 0.25um or 1x0.25x0.25um.")
]
Region = Annotated[
    str | None,
    typer.Option("--region", metavar="FILE|auto", help="Only inside a mask image or GeoJSON, or where tissue is."),
]
Wells = Annotated[str | None, typer.Option("--wells", help="Wells of a plate, names or patterns, such as B03,C*.")]
InPlace = Annotated[bool, typer.Option("--in-place", help="Write labels into the OME-Zarr inputs themselves.")]
LabelName = Annotated[str, typer.Option("--label-name", help="Name of these labels.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace labels that something else made, or that were edited.")
]
Shard = Annotated[str | None, typer.Option("--shard", metavar="I/N", help="Compute the I-th of N shares of the tiles.")]
Merge = Annotated[bool, typer.Option("--merge", help="Join what shards computed and write the results.")]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", metavar="ADDRESS", help="A dask scheduler, or local:N processes of this machine."),
]
Engine = Annotated[str, typer.Option("--engine", help="auto, openvino, onnx, torch, or an exported file.")]
Precision = Annotated[str, typer.Option("--precision", help="fp32 (exact), bf16 or int8.")]
Tta = Annotated[
    str, typer.Option("--tta", help="Test-time augmentation: none, flips or all (with 90-degree rotations).")
]
Calibrate = Annotated[str | None, typer.Option("--calibrate", help="Images for int8, instead of the model's own.")]
LeastAgreement = Annotated[
    float, typer.Option("--least-agreement", min=0, max=1, help="Share of labels that int8 must leave as in fp32.")
]
Report = Annotated[bool, typer.Option("--report/--no-report", help="Write report.html, a page to look at.")]
