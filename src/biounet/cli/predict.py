"""``biounet predict``: labels of images of any size, without seams."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biounet.cli import options
from biounet.cli.console import Console

if TYPE_CHECKING:
    from biounet.inference.engines import Choice
    from biounet.model_file import Model
    from biounet.workflows.cluster import Cluster
    from biounet.workflows.request import Done, Request


def predict(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="A model file, as model.safetensors, or an exported form of one.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Images, folders or patterns.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")],
    save: Annotated[
        str, typer.Option(help="Of labels, probabilities, overlay, rois, geojson, geojson.gz, table, ctc; with commas.")
    ] = "labels,overlay",
    tile: Annotated[int | None, typer.Option(help="Side of a tile's output in pixels.")] = None,
    memory: Annotated[str | None, typer.Option(help="Limit for the whole process, as 2GB.")] = None,
    pixel_size: Annotated[
        str | None, typer.Option(help="Pixel size of the inputs, as 0.25um or 1x0.25x0.25um.")
    ] = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Compute the I-th of N shares of the tiles.")] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Join what shards computed and write the results.")] = False,
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A dask scheduler, or local:N processes of this machine.")
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, openvino, onnx, torch, or an exported file.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 (exact), bf16 or int8.")] = "fp32",
    tta: Annotated[str, typer.Option(help="Average over views: none, flips or all.")] = "none",
    calibrate: Annotated[str | None, typer.Option(help="Images for int8, instead of the model's own.")] = None,
    least_agreement: Annotated[
        float, typer.Option(min=0, max=1, help="Share of labels that int8 must leave as in fp32.")
    ] = 0.998,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write report.html.")] = True,
    channels: options.Channels = None,
    device: options.Device = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Write NAME_labels.tif for every image, an overlay to look at, and run.json."""
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
    )
    paths = find_inputs(inputs)
    loaded = open_model(model)
    choice = _engine(loaded, request, engine, device, precision, calibrate, least_agreement)
    for note in _said(choice):
        console.note(note)
    start_up = time.perf_counter() - start
    with _cluster(cluster, model, choice, device) as workers, console.progress("predicting", None) as bar:

        def listen(text: str, done: int, total: int) -> None:
            if text:
                console.note(text)
            else:
                bar.update(done, total)

        results = predict_files(loaded, choice, paths, request, start_up_s=start_up, listen=listen, cluster=workers)
    _finish(
        console, out, loaded, choice, results, {"start_up": start_up, "compute": time.perf_counter() - start - start_up}
    )
    refuse_failed(results)


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
