"""Folds side by side, a process for each device; every fold gives what it would give alone."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from biounet.errors import BiounetError
from biounet.model_file import Model
from biounet.training.batches import end_with_parent
from biounet.training.events import Finished, InFold, Listener
from biounet.training.fold_job import FoldJob
from biounet.training.interrupts import Stop, stop_requests

_PATIENCE_S = 0.5  # how often is looked whether processes live


@dataclass(frozen=True)
class _Ended:
    """A fold's end: its model, or why there is none (no reason: it was asked to stop)."""

    model: Model | None
    reason: str | None = None


def run_side_by_side(job: FoldJob, folds: Sequence[int], devices: Sequence[str], listen: Listener) -> dict[int, Model]:
    """Train these folds, one at a time on each device, and return their models by fold.

    Devices that are the CPU share its threads. Ctrl-C and SIGTERM end every fold after its step, as in
    `Run.go`; then KeyboardInterrupt is raised. Raises `BiounetError` where a fold fails or its process dies.
    """
    context = multiprocessing.get_context("spawn")
    inbox, outbox, stop = context.SimpleQueue(), context.Queue(), context.Event()
    threads = threads_of_each(devices)
    workers = [
        context.Process(target=_work, args=(job, device, count, inbox, outbox, stop))
        for device, count in zip(devices, threads, strict=True)
    ][: len(folds)]
    for worker in workers:
        worker.start()
    for fold in [*folds, *[None] * len(workers)]:
        inbox.put(fold)
    try:
        with stop_requests() as asked:
            ended = _heard(job, set(folds), workers, outbox, stop, asked, listen)
    finally:
        stop.set()
        _let_end(workers, outbox)
    if reasons := [f"fold {fold + 1}: {end.reason}" for fold, end in sorted(ended.items()) if end.reason]:
        raise BiounetError("; ".join(reasons))
    if asked.is_set() or len(ended) < len(folds):
        raise KeyboardInterrupt
    return {fold: end.model for fold, end in ended.items() if end.model is not None}


def threads_of_each(devices: Sequence[str]) -> list[int]:
    """Threads for the folds on each device: those of this process, shared by the folds on the CPU."""
    shared = max(1, torch.get_num_threads() // max(1, list(devices).count("cpu")))
    return [shared if device == "cpu" else torch.get_num_threads() for device in devices]


def _heard(
    job: FoldJob, folds: set[int], workers: Sequence[Any], outbox: Any, stop: Any, asked: Stop, listen: Listener
) -> dict[int, _Ended]:
    """What became of the folds; whatever happens in them is passed on."""
    ended: dict[int, _Ended] = {}
    while set(ended) != folds:
        if asked.is_set():
            stop.set()
        alive = any(worker.is_alive() for worker in workers)
        try:
            fold, told = outbox.get(timeout=_PATIENCE_S)
        except queue.Empty:
            if alive:
                continue
            if not stop.is_set():
                raise BiounetError(
                    "a process that trained a fold died, perhaps for want of memory; --resume goes on, "
                    "with fewer devices"
                ) from None
            break
        if isinstance(told, _Ended):
            ended[fold] = told
            if told.reason:
                stop.set()
        else:
            listen(InFold(fold + 1, len(job.splits), told))
    return ended


def _let_end(workers: Sequence[Any], outbox: Any) -> None:
    """Wait for the processes; one that has something left to tell ends only when it is taken."""
    while any(worker.is_alive() for worker in workers):
        with suppress(queue.Empty):
            outbox.get(timeout=_PATIENCE_S)
    outbox.close()


def _work(job: FoldJob, device: str, threads: int, inbox: Any, outbox: Any, stop: Any) -> None:
    """Train one fold after the other; signals are left to the process that asked for it, with which this one ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    while (fold := inbox.get()) is not None and not stop.is_set():
        try:
            ended = _Ended(job.run(fold, device, listen=_passed_on(fold, outbox), stop=stop))
        except KeyboardInterrupt:
            ended = _Ended(None)
        except BiounetError as error:
            ended = _Ended(None, str(error))
        outbox.put((fold, ended))


def _passed_on(fold: int, outbox: Any) -> Listener:
    def listen(event: Any) -> None:
        if not isinstance(event, Finished):  # its model comes with the end
            outbox.put((fold, event))

    return listen
