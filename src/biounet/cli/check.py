"""``biounet check``: what a folder or model holds, and whether it is as it should be."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biounet.cli import options
from biounet.cli.console import Console
from biounet.errors import DataError
from biounet.words import counted

if TYPE_CHECKING:
    from biounet.checks.data import DataCheck

_OF_DATA = ("images", "masks", "task", "ndim", "channels", "report")
_MOST_TOLD = 3  # findings of one kind in the table


def check(
    context: typer.Context,
    path: Annotated[
        Path | None,
        typer.Argument(metavar="DATA|MODEL", help="A data folder or a model file; or --images and --masks."),
    ] = None,
    images: options.Images = None,
    masks: options.Masks = None,
    task: options.Task = None,
    ndim: options.Ndim = None,
    channels: options.Channels = None,
    device: options.Device = "cpu",
    report: Annotated[Path | None, typer.Option(help="Write the findings with pictures to this HTML file.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Say what is in a data folder and what is wrong with it, or prove that a model still computes the same."""
    from biounet.datasets.layouts import is_data_file

    console = Console(as_json=json, verbosity=-1 if quiet else verbose)
    if path is not None and path.is_file() and not is_data_file(path):
        options.refuse_given(context, _OF_DATA, f"for a folder of data, not for a model; leave it out for {path}")
        _check_model(path, device, console)
    else:
        from biounet.checks.data import check_data

        options.refuse_given(context, ("device",), "for a model, not for a folder of data; leave it out")
        chosen = None if channels is None else channels.split(",")
        found = check_data(path, images=images, masks=masks, task=task, ndim=ndim, channels=chosen)
        if report is not None:
            from biounet.checks.page import write_check_page

            write_check_page(report, found, options.typed(context))
        _tell_data(path, found, report, console)


def _check_model(path: Path, device: str, console: Console) -> None:
    from biounet.checks.model import TOLERANCE, check_model
    from biounet.report.methods import methods_text, network_in_words
    from biounet.training.estimate import trained_in_words

    found = check_model(path, device=device)
    model = found.model
    network = network_in_words(model.network)
    what = "a biounet model" if model.exported is None else "exported from the biounet model"
    console.result(f"{path}: {what}, checksum {model.sha256[:16]} as stated")
    console.result(f"task {model.task}; classes {', '.join(model.classes)}; {counted(len(model.channels), 'channel')}")
    console.result(f"network: {network}")
    if model.training:
        console.result(trained_in_words(model.training))
    if found.difference is not None:
        console.result(
            f"golden sample, computed by {found.engine}: differs by {found.difference:.2g} of the largest logit "
            f"({'within' if found.passed else 'MORE than'} the allowed {TOLERANCE:g})"
        )
    methods = methods_text(model)
    console.result(f"\nFor the methods section, ready to paste:\n\n{methods}")
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
            "methods": methods,
        }
    )
    if model.golden is None:
        raise DataError(f"{path}: holds no golden sample, so nothing proves what it computes; train it again")
    if not found.passed:
        raise DataError(
            f"{path}: does not compute what it computed when it was made; take another copy or another {found.engine}"
        )


def _tell_data(path: Path | None, found: DataCheck, report: Path | None, console: Console) -> None:
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
    if rows:
        console.table(f"{len(rows)} annotated images", header, rows)
    _tell_findings(found, console)
    if report is not None:
        console.note(f"findings with pictures: {report}")
    meaning = found.meaning
    console.finish(
        {
            "data": None if path is None else str(path),
            "layout": found.dataset.layout,
            "ndim": found.dataset.ndim,
            "channels": len(found.seen.channels),
            "channel_names": list(found.seen.channels),
            "task": meaning.task if meaning else None,
            "classes": list(meaning.values) if meaning else [],
            "cell_classes": list(meaning.cell_classes) if meaning else [],
            "reasons": list(found.reasons),
            "sampled": found.sampled,
            "findings": [finding.to_dict() for finding in found.findings],
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
    if refusal := found.refusal():
        raise refusal


def _tell_findings(found: DataCheck, console: Console) -> None:
    """The findings as a table, the worst first, of each kind the first few; then what to do about each kind."""
    if not found.findings:
        console.result("no problems found")
        return
    rows: list[list[str]] = []
    remedies: dict[str, str] = {}
    for (severity, kind), group in groupby(found.findings, key=lambda f: (f.severity, f.kind)):
        listed = list(group)
        name = kind.replace("_", " ")
        rows += [[severity, name, finding.file, finding.evidence] for finding in listed[:_MOST_TOLD]]
        if len(listed) > _MOST_TOLD:
            rows.append([severity, name, f"and {len(listed) - _MOST_TOLD} more", "(--json lists all)"])
        remedies.setdefault(name, f"{name}: {listed[0].why}. What to do: {listed[0].remedy}")
    count = len(found.findings)
    console.table(counted(count, "finding"), ["severity", "finding", "file", "evidence"], rows, words=True)
    for line in remedies.values():
        console.result(line)
