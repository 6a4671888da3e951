"""One training run, or a cross-validation, from a folder to a model file, with a run folder beside it.

``OUT`` is the best model; ``OUT.run/`` holds the state, the last model, ``metrics.jsonl``, ``run.json``
and ``report.html``; of a cross-validation the models of its folds, each with a run folder. What happens is
told through events; only the command line prints.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

from biounet.errors import UsageError
from biounet.inference.exported import open_model
from biounet.inference.torch_engine import pick_device
from biounet.model_file import Model
from biounet.planning.data import Data, TrainingData, read_training_data
from biounet.planning.plan import Factory
from biounet.planning.start import in_classes_of
from biounet.settings import Settings, read_settings
from biounet.training.events import Listener, Planned, unheard
from biounet.training.fold_job import Folds, fold_job
from biounet.training.folds import CrossValidation, fold_devices
from biounet.training.job import Job
from biounet.training.processes import check_processes, train_in_processes
from biounet.training.run_files import Existing, RunFiles
from biounet.training.together import check_batch, join, launched


def train(
    data: Data,
    out: str | Path | None = None,
    *,
    settings: Settings | str = "standard",
    steps: int | None = None,
    budget: float | None = None,
    seed: int = 0,
    folds: Folds | None = None,
    refit: bool = False,
    existing: Existing = "refuse",
    network: Factory | None = None,
    start_from: Model | str | Path | None = None,
    device: str = "auto",
    processes: int = 1,
    skip_bad: bool = False,
    listen: Listener | None = None,
) -> Model:
    """Train a model and return it (the best by the held-back images).

    ``data``: a folder, a `datasets.layouts.Dataset` or pairs of arrays (image (C,)(Z)YX, labels
    (Z)YX int). ``out``: where the model file goes; None writes nothing. ``settings``: `Settings` or
    a preset's name. ``steps``, or a ``budget`` in seconds that is turned into steps once; default
    15 minutes. ``folds``: a number or "each" (leave one image out) for a cross-validation, whose model is the
    ensemble of the folds; ``steps`` are then those of each fold, ``budget`` is that of all. ``refit``: the model is
    one network instead, trained on all images after the folds, with their estimate and post-processing.
    ``existing``: what to do when ``out`` or its run folder is there. ``network``:
    a factory (in_channels, classes) -> module with its ``geometry``, verified before use.
    ``start_from``: a model (or its file) to go on from, with a fresh optimiser and schedule.
    ``skip_bad`` goes on without images that cannot be used.
    ``device``: of folds also several with commas between. ``processes`` share every step: ``training.batch_size``
    samples, a multiple of their number, come to equal parts; on "cuda" each takes a GPU. Started by ``accelerate
    launch`` a process is one of those that it started, and only the first writes and calls ``listen``.
    ``listen`` is called with every event.

    Same data, settings, seed, steps, machine and thread count: the same file, bit for bit, resumed
    or not. Raises `UsageError` and `DataError`, and `BiounetError` where the loss diverges. Ctrl-C and
    SIGTERM end the run after its step: state and model are written, then KeyboardInterrupt is raised.
    """
    start = time.perf_counter()
    if isinstance(settings, str):
        settings = read_settings(settings)
    _check_numbers(steps, budget, seed)
    _check_folds(folds, refit, settings, network)
    _check_together(processes, folds, network, device, settings)
    rank, _ = launched()
    files, listen = RunFiles(None if out is None or rank else Path(out)), listen or unheard
    files.check(existing, in_folds=folds is not None)
    if folds is not None:
        devices = fold_devices(device)
        known, origin = _data_and_origin(data, settings, start_from, skip_bad=skip_bad)
        folded = fold_job(known, settings, folds, seed=seed, out=files.out, origin=origin, refit=refit)
        files.prepare(existing)
        whole = CrossValidation(folded, devices, listen=listen, start=start)
        whole.begin(steps, budget)
        return whole.go()
    pick_device(device)
    known, origin = _data_and_origin(data, settings, start_from, skip_bad=skip_bad)
    job = Job(known, settings, seed, files.out, existing, steps, budget, origin, network, start)
    if processes > 1:
        return train_in_processes(job, processes, device, listen)
    together, device = join(device)
    return job.run(device, listen=listen if rank == 0 else unheard, together=together)


def rehearse(
    data: Data,
    *,
    settings: Settings | str = "standard",
    steps: int | None = None,
    budget: float | None = None,
    seed: int = 0,
    folds: Folds | None = None,
    refit: bool = False,
    device: str = "auto",
    start_from: Model | str | Path | None = None,
    skip_bad: bool = False,
) -> Planned:
    """The plan that `train` would follow, with the time, memory and disk it would take; nothing is trained or written.

    Some steps are timed on a copy, also where ``steps`` are given. Arguments and errors as of `train`.
    """
    start = time.perf_counter()
    if isinstance(settings, str):
        settings = read_settings(settings)
    _check_numbers(steps, budget, seed)
    _check_folds(folds, refit, settings, None)
    known, origin = _data_and_origin(data, settings, start_from, skip_bad=skip_bad)
    if folds is not None:
        folded = fold_job(known, settings, folds, seed=seed, out=None, origin=origin, refit=refit)
        whole = CrossValidation(folded, fold_devices(device), listen=unheard, start=start)
        whole.begin(steps, budget)
        return Planned((*whole.said, *whole.expect()), whole.job.steps)
    job = Job(known, settings, seed, None, "refuse", steps, budget, origin, None, start)
    run = job.begun(pick_device(device), listen=unheard)
    return Planned((*known.statements, *run.plan.statements, run.said, *run.expect()), run.steps)


def _data_and_origin(
    data: Data, settings: Settings, start_from: Model | str | Path | None, *, skip_bad: bool
) -> tuple[TrainingData, Model | None]:
    """What is learnt from, in the classes of the model that is gone on from, and that model."""
    origin = _origin(start_from)
    known = read_training_data(data, settings.data, skip_bad=skip_bad)
    return known if origin is None else in_classes_of(origin, known), origin


def _origin(start_from: Model | str | Path | None) -> Model | None:
    """The model to go on from, which needs its weights and is a single network."""
    origin = start_from if isinstance(start_from, Model | None) else open_model(start_from)
    if origin is not None and origin.exported is not None:
        raise UsageError(f"--from {origin.exported.file} is an exported form; give the model file it was made from")
    if origin is not None and origin.network.get("name") == "ensemble":
        raise UsageError(
            f"--from: the model is an ensemble of {len(origin.network['members'])} networks; give one of its members, "
            "as fold-1.safetensors in the run folder of a cross-validation"
        )
    return origin


def _check_folds(folds: Folds | None, refit: bool, settings: Settings, network: Factory | None) -> None:
    if folds is None:
        if refit:
            raise UsageError("--refit: trains on all images after the folds of a cross-validation; give --folds too")
        return
    if folds != "each" and folds < 2:
        raise UsageError(f"--folds {folds}: give a number from 2 on, or each to leave out one image at a time")
    if settings.data.validation is not None:
        raise UsageError(
            f"--folds {folds} and --validation {settings.data.validation!r} exclude each other: folds hold back every "
            "image once; give one"
        )
    if network is not None:
        raise UsageError(f"--folds {folds}: a network of one's own cannot be a member of an ensemble; leave folds out")


def _check_together(
    processes: int, folds: Folds | None, network: Factory | None, device: str, settings: Settings
) -> None:
    """What several processes, started here or by a launcher, cannot do."""
    _, size = launched()
    if size > 1 and processes > 1:
        raise UsageError(f"--processes {processes}: {size} processes were launched already; leave it out")
    count = max(processes, size)
    if count > 1 and folds is not None:
        raise UsageError(
            f"--folds {folds}: folds are trained side by side, one on each of --device cuda:0,cuda:1; "
            "leave out --processes or the launcher"
        )
    if processes > 1 and network is not None:
        raise UsageError(
            f"processes={processes}: a network of one's own cannot be sent to other processes; start the program by "
            "accelerate launch"
        )
    check_processes(processes, device)
    check_batch(settings.training.batch_size, count)


def _check_numbers(steps: int | None, budget: float | None, seed: int) -> None:
    if steps is not None and steps < 1:
        raise UsageError(f"--steps {steps}: must be at least 1")
    if budget is not None and not 0 < budget < math.inf:
        raise UsageError(f"--budget {budget}: must be a time in seconds above 0")
    if steps is not None and budget is not None:
        raise UsageError(f"--steps {steps} and --budget {budget} exclude each other; give one")
    if not 0 <= seed < 2**63:
        raise UsageError(f"--seed {seed}: must be at least 0 and below 2^63")
