"""``biounet predict``: labels of images of any size, without seams."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from biounet.cli import options
from biounet.cli import predict_options as given
from biounet.cli.console import Bar, Console

if TYPE_CHECKING:
    from biounet.inference.engines import Choice
    from biounet.prediction.run_request import Outcome
    from biounet.results.request import Done, Listener


def predict(
    context: typer.Context,
    model: given.Model,
    inputs: given.Inputs,
    out: given.Out,
    save: given.Save = "labels,overlay",
    tile: given.Tile = None,
    memory: given.Memory = None,
    pixel_size: given.PixelSize = None,
    region: given.Region = None,
    wells: given.Wells = None,
    in_place: given.InPlace = False,
    label_name: given.LabelName = "biounet",
    overwrite: given.Overwrite = False,
    shard: given.Shard = None,
    merge: given.Merge = False,
    cluster: given.Cluster = None,
    engine: given.Engine = "auto",
    precision: given.Precision = "fp32",
    tta: given.Tta = "none",
    calibrate: given.Calibrate = None,
    least_agreement: given.LeastAgreement = 0.998,
    report: given.Report = True,
    channels: options.Channels = None,
    device: options.Device = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Write NAME_labels.tif for every image, an overlay to look at, run.json and report.html."""
    start = time.perf_counter()
    console = Console(as_json=json, verbosity=-1 if quiet else verbose)
    from biounet.prediction.options import Options, request_of
    from biounet.prediction.predict import refuse_failed
    from biounet.prediction.run_request import run_request

    asked = {name: value for name, value in context.params.items() if name in Options.__annotations__}
    request = request_of(out, asked, command=options.typed(context))
    with console.progress("predicting", None) as bar:
        done = run_request(model, inputs, request, listen=_listener(console, bar), begin=start)
    _finish(console, out, done, shares=shard is not None)
    refuse_failed(done.results)


def _listener(console: Console, bar: Bar) -> Listener:
    def listen(text: str, done: int, total: int) -> None:
        if text:
            console.note(text)
        else:
            bar.update(done, total)

    return listen


def _finish(console: Console, out: Path, done: Outcome, *, shares: bool) -> None:
    _show(console, f"tiles in {out}, no results yet" if shares else f"results in {out}", done.results)
    facts = {"out": str(out), "model_sha256": done.model.sha256, **_facts(done.choice)}
    seconds = {"start_up": done.start_up_s, "compute": done.compute_s}
    console.finish({**facts, "seconds": seconds, "images": [_plain(one) for one in done.results]})


def _facts(choice: Choice) -> dict[str, Any]:
    agreement = None if choice.agreement is None else choice.agreement.to_dict()
    return {"engine": choice.engine.name, "precision": choice.engine.precision, "agreement": agreement}


def _show(console: Console, title: str, results: Sequence[Done]) -> None:
    for done in results:
        if done.empty:
            console.warn(
                f"{done.name}: nothing was found; is it an image of the kind the model learnt from? "
                "--save probabilities shows what it saw"
            )
    rows = [[done.name, _outcome(done.error, done.objects), f"{done.seconds:.2f}"] for done in results]
    console.table(title, ["image", "objects", "seconds"], rows)


def _plain(done: Done) -> dict[str, Any]:
    return {
        "name": done.name,
        "input": done.input,
        "files": done.files,
        "objects": done.objects,
        "plan": done.plan,
        "seams": done.seams,
        "error": done.error or None,
    }


def _outcome(error: str, objects: int | None) -> str:
    if error:
        return "failed"
    return "" if objects is None else str(objects)
