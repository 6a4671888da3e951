"""``biounet predict``: labels of images of any size, without seams."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from biounet.cli import options
from biounet.cli import predict_options as given
from biounet.cli.console import Bar, Console

if TYPE_CHECKING:
    from biounet.inference.engines import Choice
    from biounet.model_file import Model
    from biounet.workflows.cluster import Cluster
    from biounet.workflows.request import Done, Listener, Request


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
    from biounet.inference.exported import open_model
    from biounet.inference.predict import parse_bytes
    from biounet.workflows.predict import find_inputs, predict_files, refuse_failed
    from biounet.workflows.request import Request, parse_pixel_size, parse_shard

    request = Request(
        out,
        save=tuple(part.strip() for part in save.split(",") if part.strip()),
        tile=tile,
        memory=None if memory is None else parse_bytes(memory, "--memory"),
        channels=None if channels is None else tuple(channels.split(",")),
        tta=tta,
        pixel_size_um=None if pixel_size is None else parse_pixel_size(pixel_size),
        shard=None if shard is None else parse_shard(shard),
        merge=merge,
        report=report,
        command=options.typed(context),
        region=region,
        in_place=in_place,
        label_name=label_name,
        overwrite=overwrite,
    )
    paths = find_inputs(inputs, wells=wells)
    loaded = open_model(model)
    choice = _engine(loaded, request, engine, device, precision, calibrate, least_agreement)
    for note in _said(choice):
        console.note(note)
    start_up = time.perf_counter() - start
    with _cluster(cluster, model, choice, device) as workers, console.progress("predicting", None) as bar:
        listen = _listener(console, bar)
        results = predict_files(loaded, choice, paths, request, start_up_s=start_up, listen=listen, cluster=workers)
    seconds = {"start_up": start_up, "compute": time.perf_counter() - start - start_up}
    _finish(console, out, loaded, choice, results, seconds)
    refuse_failed(results)


def _listener(console: Console, bar: Bar) -> Listener:
    def listen(text: str, done: int, total: int) -> None:
        if text:
            console.note(text)
        else:
            bar.update(done, total)

    return listen


def _engine(
    model: Model,
    request: Request,
    engine: str,
    device: str,
    precision: str,
    calibrate: str | None,
    least_agreement: float,
) -> Choice:
    from biounet.inference.engines import choose_engine
    from biounet.workflows.calibrate import crops_of

    return choose_engine(
        model,
        engine=engine,
        device=device,
        precision=precision,
        calibration=None if calibrate is None else crops_of(model, calibrate, channels=request.channels),
        least_agreement=least_agreement,
    )


def _cluster(address: str | None, model: Path, choice: Choice, device: str) -> AbstractContextManager[Cluster | None]:
    if address is None:
        return nullcontext()
    from biounet.workflows.cluster import Cluster, Recipe

    engine = choice.engine
    return Cluster(address, Recipe(model.resolve(), engine.name, engine.precision, device))


def _finish(
    console: Console, out: Path, model: Model, choice: Choice, results: Sequence[Done], seconds: dict[str, float]
) -> None:
    _show(console, out, results)
    facts = {"out": str(out), "model_sha256": model.sha256, **_facts(choice)}
    console.finish({**facts, "seconds": seconds, "images": [_plain(done) for done in results]})


def _facts(choice: Choice) -> dict[str, Any]:
    agreement = None if choice.agreement is None else choice.agreement.to_dict()
    return {"engine": choice.engine.name, "precision": choice.engine.precision, "agreement": agreement}


def _said(choice: Choice) -> list[str]:
    engine = choice.engine
    lines = [*choice.notes]
    if choice.agreement is not None:
        lines.append(f"engine {engine.name}, {engine.precision}; against fp32 torch: {choice.agreement}")
    return lines


def _show(console: Console, out: Path, results: Sequence[Done]) -> None:
    for done in results:
        if done.empty:
            console.warn(
                f"{done.name}: nothing was found; is it an image of the kind the model learnt from? "
                "--save probabilities shows what it saw"
            )
    rows = [[done.name, _outcome(done.error, done.objects), f"{done.seconds:.2f}"] for done in results]
    console.table(f"results in {out}", ["image", "objects", "seconds"], rows)


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
