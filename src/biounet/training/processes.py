"""One training in several processes of this machine: ``--processes N``.

This process reads the data, starts the others, passes on what the first of them says, and ends them; what they do
together is in `together`. On several machines ``accelerate launch`` starts them instead.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from biounet.errors import BiounetError, UsageError
from biounet.inference.torch_engine import pick_device
from biounet.model_file import Model
from biounet.training.batches import end_with_parent
from biounet.training.events import Listener, unheard
from biounet.training.interrupts import stop_requests
from biounet.training.job import Job
from biounet.training.together import check_accelerate, join

_LOOK_S = 0.5  # how often is looked whether processes live
_END_S = 20.0  # for processes to end by themselves after the first has


@dataclass(frozen=True)
class _Ended:
    """The end of the first process: the model, why there is none, or neither where it was asked to stop."""

    model: Model | None = None
    refused: BiounetError | None = None


def check_processes(count: int, device: str) -> None:
    """Raise `UsageError` for what cannot be trained in so many processes."""
    if count < 1:
        raise UsageError(f"--processes {count}: must be at least 1")
    if count == 1:
        return
    check_accelerate()
    picked = pick_device(device)
    if picked not in ("cpu", "cuda"):
        raise UsageError(f"--device {device} --processes {count}: give cpu, or cuda, where each process takes a GPU")
    if picked == "cuda" and count > torch.cuda.device_count():
        raise UsageError(f"--processes {count}: there are {torch.cuda.device_count()} GPUs, and each process takes one")


def train_in_processes(job: Job, count: int, device: str, listen: Listener) -> Model:
    """Train ``job`` in ``count`` processes and return its model.

    On the CPU they share its threads; with "cuda" each takes a GPU. Ctrl-C and SIGTERM end the run as in `Run.go`.
    Raises `BiounetError` where a process dies, and what the first process raises.
    """
    context = multiprocessing.get_context("spawn")
    outbox, stop = context.Queue(), context.Event()
    threads = max(1, torch.get_num_threads() // count) if pick_device(device) == "cpu" else torch.get_num_threads()
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(count)}
    workers = []
    for rank in range(count):
        given = {**place, "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count)}
        told = outbox if rank == 0 else None
        workers.append(context.Process(target=_work, args=(job, device, threads, given, told, stop)))
    for worker in workers:
        worker.start()
    try:
        with stop_requests() as asked:
            ended = _heard(workers, outbox, stop, asked, listen)
    finally:
        _end(workers, outbox)
    if ended.refused is not None:
        raise ended.refused
    if ended.model is None:
        raise KeyboardInterrupt
    return ended.model


def _heard(workers: list[Any], outbox: Any, stop: Any, asked: threading.Event, listen: Listener) -> _Ended:
    """Pass on what the first process says until its end; raises `BiounetError` where one of them died before."""
    while True:
        if asked.is_set():
            stop.set()
        died = any(worker.exitcode not in (None, 0) for worker in workers)
        try:
            told = outbox.get(timeout=_LOOK_S)
        except queue.Empty:
            if died:
                raise BiounetError(
                    f"one of {len(workers)} processes of this training died, perhaps for want of memory; "
                    "--resume goes on, with fewer processes"
                ) from None
            continue
        if isinstance(told, _Ended):
            return told
        listen(told)


def _end(workers: list[Any], outbox: Any) -> None:
    """Let the processes end, and kill those that wait for one that is gone."""
    for worker in workers:
        worker.join(_END_S if all(other.exitcode in (None, 0) for other in workers) else 0.0)
        while worker.is_alive():
            worker.kill()
            worker.join(_LOOK_S)
    with suppress(queue.Empty):
        while True:
            outbox.get_nowait()
    outbox.close()


def _work(job: Job, device: str, threads: int, given: dict[str, str], outbox: Any, stop: Any) -> None:
    """One process; signals are left to the one that started it, with which it ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    os.environ.update(given, OMP_NUM_THREADS=str(threads))
    torch.set_num_threads(threads)
    try:
        together, device = join(device)
        ended = _Ended(job.run(device, listen=unheard if outbox is None else outbox.put, stop=stop, together=together))
    except KeyboardInterrupt:
        ended = _Ended()
    except BiounetError as error:
        ended = _Ended(refused=error)
    except Exception as error:  # told by the process that was asked, as what it is
        ended = _Ended(refused=BiounetError(f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"))
    if outbox is not None:
        outbox.put(ended)
    elif ended.refused is not None:
        os._exit(1)  # so that the others are not waited for


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
