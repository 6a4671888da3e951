"""Images of any size from file to files, in a fixed amount of memory: tiles, objects across them, results.

The way of `predict` for images that do not fit into the memory allowed, are at another pixel size than the
model's, or are computed by several processes. Labels are those of the way through memory.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from biounet.errors import DataError
from biounet.images.formats import stem_name
from biounet.inference.engines import Engine
from biounet.inference.memory import CACHE_BYTES, Budget
from biounet.inference.predict import show_bytes, tile_memory
from biounet.model_file import Model
from biounet.prediction.blocks import Job, open_jobs
from biounet.prediction.cluster import Cluster
from biounet.prediction.found import find
from biounet.prediction.large_results import refuse_too_large, results_of
from biounet.prediction.said import is_constant, said_of_constant, said_of_unseen
from biounet.prediction.source import source_of
from biounet.results.gallery import Seen
from biounet.results.ome_zarr import Targets
from biounet.results.request import Done, Listener, Request
from biounet.results.write import write_results
from biounet.words import counted


def folder_of(out: Path, name: str) -> Path:
    """Where the blocks of an image are kept until its results are complete."""
    return out / f".{name}.blocks"


def predict_large(
    model: Model,
    engine: Engine,
    path: Path,
    targets: Targets,
    *,
    budget: Budget,
    listen: Listener,
    cluster: Cluster | None = None,
    show: Callable[[Seen], None] | None = None,
) -> Done:
    """Predict one file block by block and write its results; with a shard only compute its share.

    Tiles are computed here or by the workers of a ``cluster``. ``show`` gets what a page shows.

    What is finished stays in a folder beside the results (`folder_of`) until all is complete, so that the
    same call goes on after an interruption. Raises `DataError` where a merge finds tiles missing.
    """
    request, done = targets.request, Done(str(path), stem_name(path))
    folder = folder_of(request.out, done.name)
    with source_of(path, model).open(cache_bytes=CACHE_BYTES) as regions:
        refuse_too_large(model, regions, request, budget)
        items = regions.item_count(model.ndim)
        jobs: list[Job] = []
        for job, notes in open_jobs(model, engine, regions, targets, folder=folder, budget=budget):
            jobs.append(job)
            if len(jobs) == 1:
                done.plan = str(job.plan)
                done.notes = [*regions.notes, *notes]
                listen(_plan_line(job, items, budget), 0, 0)
        channels = jobs[0].view.channels
        done.notes += said_of_constant([is_constant(regions, item, channels, ndim=model.ndim) for item in range(items)])
        for note in done.notes:
            listen(f"{path.name}: {note}", 0, 0)
        if (region := jobs[0].region) is not None and not any(job.wanted for job in jobs):
            _clear(jobs, folder)
            raise DataError(f"--region {region.name}: has no pixel in {path}; is it drawn on another image?")
        _compute(jobs, request, listen, cluster)
        if request.shard is not None:
            listen(f"{path.name}: {_of_share(request.shard, jobs)}", 0, 0)
            return done
        found = [find(job, budget) for job in jobs]
        if unseen := sum(one.unseen for one in found):
            done.notes.append(said_of_unseen(unseen))
            listen(f"{path.name}: {done.notes[-1]}", 0, 0)
        shape = jobs[0].view.file_shape
        done.shape = shape if items == 1 else (items, *shape)
        write_results(results_of(found, request), targets, done)
        if show is not None:
            show(found[len(found) // 2].seen)
        check = jobs[0].check_seams()
        done.seams = check.to_dict()
        listen(f"{path.name}: {check}", 0, 0)
    _clear(jobs, folder)
    return done


def begin_large(
    model: Model, engine: Engine, path: Path, targets: Targets, *, budget: Budget, cluster: Cluster
) -> None:
    """Give out all tiles of a file to a cluster, so that small files are computed side by side, too."""
    folder = folder_of(targets.request.out, stem_name(path))
    with source_of(path, model).open(cache_bytes=CACHE_BYTES) as regions:
        refuse_too_large(model, regions, targets.request, budget)
        for job, _ in open_jobs(model, engine, regions, targets, folder=folder, budget=budget):
            cluster.begin(job, targets.request)


def _clear(jobs: list[Job], folder: Path) -> None:
    """Remove the blocks."""
    for job in jobs:
        job.store.clear()
    with suppress(OSError):
        folder.rmdir()


def _compute(jobs: list[Job], request: Request, listen: Listener, cluster: Cluster | None) -> None:
    """The tiles that are this process's share; of a region also those into which its objects go on.

    In a merge there must be no other left.
    """
    total = sum(len(job.wanted) for job in jobs)
    told_of = 0

    def told() -> None:
        nonlocal told_of
        told_of += 1
        listen("", told_of, max(told_of, total))

    if request.merge:
        missing = sum(len(job.missing()) for job in jobs)
        if missing:
            raise DataError(
                f"{jobs[0].path}: {missing} of {total} tiles are not computed; run the shards that did "
                "not end well again, then --merge"
            )
    elif cluster is not None:
        for job in jobs:
            cluster.compute(job, request, told)
    else:
        # images of one tile are shared out too: each begins at another shard, by its name
        number = zlib.crc32(stem_name(jobs[0].path).encode())
        for job in jobs:
            mine = []
            for index in job.wanted:
                if request.shard is None or number % request.shard[1] == request.shard[0] - 1:
                    mine.append(index)
                number += 1
            job.compute(mine, told)
    for job in jobs if request.shard is None else ():
        while beyond := job.beyond():
            more = counted(len(beyond), "more tile")
            listen(f"{job.path.name}: objects of the region go on into {more}", 0, 0)
            if cluster is not None:
                cluster.compute(job, request, told, beyond)
            else:
                job.compute(beyond, told)


def _of_share(shard: tuple[int, int], jobs: list[Job]) -> str:
    total = sum(len(job.wanted) for job in jobs)
    there = total - sum(len(job.missing()) for job in jobs)
    return (
        f"share {shard[0]} of {shard[1]} is done, {there} of {total} tiles are there; when all are, the same command "
        "with --merge in place of --shard writes the results"
    )


def _plan_line(job: Job, items: int, budget: Budget) -> str:
    count = f"{items} images of " if items > 1 else ""
    work = items * len(job.plan) * float(job.engine.cost.work(job.plan.input))
    return (
        f"{job.path.name}: {count}{'x'.join(map(str, job.view.shape))} block by block in {job.plan}, {job.engine.name} "
        f"{job.engine.precision}, {work / 1e9:.3g} GFLOP; of {show_bytes(budget.limit)} the program takes "
        f"{show_bytes(budget.base)}, a tile about {show_bytes(tile_memory(job.plan, job.engine))}"
    )
