"""``biounet check``: what a folder or model holds, and whether it is as it should be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biounet.cli import options
from biounet.cli.console import Console
from biounet.errors import DataError


def check(
    path: Annotated[Path, typer.Argument(metavar="DATA|MODEL", help="A data folder or a model file.")],
    images: options.Images = None,
    masks: options.Masks = None,
    task: options.Task = None,
    ndim: options.Ndim = None,
    device: options.Device = "cpu",
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Describe a data folder, or prove that a model still computes the same."""
    from biounet.images.layouts import is_data_file

    console = Console(as_json=json, verbosity=-1 if quiet else verbose)
    if path.is_file() and not is_data_file(path):
        _check_model(path, device, console)
    else:
        _check_data(path, images, masks, task, ndim, console)


def _check_model(path: Path, device: str, console: Console) -> None:
    from biounet.checks.model import TOLERANCE, check_model

    found = check_model(path, device=device)
    model = found.model
    network = ", ".join(f"{k} {v}" for k, v in model.network.items())
    what = "a biounet model" if model.exported is None else "exported from the biounet model"
    console.result(f"{path}: {what}, checksum {model.sha256[:16]} as stated")
    console.result(f"task {model.task}; classes {', '.join(model.classes)}; {len(model.channels)} channel(s)")
    console.result(f"network: {network}")
    console.result(
        f"trained {model.training.get('step')} steps with seed {model.training.get('seed')}; score on "
        f"{len(model.training.get('validation_images', []))} held-back images: {model.training.get('score')}"
    )
    if found.difference is not None:
        console.result(
            f"golden sample, computed by {found.engine}: differs by {found.difference:.2g} of the largest logit "
            f"({'within' if found.passed else 'MORE than'} the allowed {TOLERANCE:g})"
        )
    console.finish(
        {
            "model": str(path),
            "sha256": model.sha256,
            "task": model.task,
            "classes": list(model.classes),
            "network": dict(model.network),
            "golden_difference": found.difference,
            "golden_tolerance": TOLERANCE,
            "engine": found.engine,
            "exported": None if model.exported is None else model.exported.suffix,
            "passed": found.passed,
            "training": dict(model.training),
        }
    )
    if model.golden is None:
        raise DataError(f"{path}: holds no golden sample, so nothing proves what it computes; train it again")
    if not found.passed:
        raise DataError(
            f"{path}: does not compute what it computed when it was made; take another copy or another {found.engine}"
        )


def _check_data(
    path: Path, images: Path | None, masks: Path | None, task: str | None, ndim: int | None, console: Console
) -> None:
    from biounet.checks.data import check_data

    found = check_data(path, images=images, masks=masks, task=task, ndim=ndim)
    for line in found.reasons:
        console.result(line)
    rows = [
        [
            e.name,
            "x".join(map(str, e.labels.shape)),
            str(len(e.image)),
            str(e.image.dtype),
            str(n),
            f"{e.annotated_share:.0%}",
        ]
        for e, n in zip(found.examples, found.objects, strict=True)
    ]
    header = ["image", "size", "channels", "type", "objects", "annotated"]
    console.table(f"{len(rows)} annotated images", header, rows)
    console.finish(
        {
            "data": str(path),
            "layout": found.dataset.layout,
            "ndim": found.dataset.ndim,
            "channels": found.dataset.channels,
            "task": found.meaning.task,
            "classes": list(found.meaning.values),
            "cell_classes": list(found.meaning.cell_classes),
            "reasons": list(found.reasons),
            "images": [
                {
                    "name": e.name,
                    "size": list(e.labels.shape),
                    "objects": n,
                    "annotated": e.annotated_share,
                    "notes": list(e.notes),
                }
                for e, n in zip(found.examples, found.objects, strict=True)
            ],
        }
    )
