"""Batches made ahead of the training, beside it, without a say in what they contain.

A batch is a function of (seed, step), so it does not matter which worker makes it, nor when.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from biounet.errors import BiounetError
from biounet.samples.sampler import Sample, Sampler

_sampler: Sampler | None = None  # of a worker process, set once when it starts


def batches(
    sampler: Sampler, *, seed: int, samples: tuple[int, int], first: int, stop: int, workers: int = 0
) -> Generator[Sample, None, None]:
    """Batches of the steps first..stop-1, in order; ``samples`` of each: the first, and how many.

    ``workers`` processes (started by spawn, the same on every system) make them; with 0 a thread
    beside the training does. They end with the generator. Raises `BiounetError` when a process dies.
    """
    ahead = max(2, 2 * workers)
    with _executor(sampler, workers) as executor:
        waiting: deque[Future[Sample]] = deque()
        try:
            for step in range(first, min(first + ahead, stop)):
                waiting.append(_submit(executor, sampler, workers, seed, step, *samples))
            for step in range(first, stop):
                batch = waiting.popleft().result()
                if step + ahead < stop:
                    waiting.append(_submit(executor, sampler, workers, seed, step + ahead, *samples))
                yield batch
        except BrokenProcessPool as error:
            raise BiounetError(
                f"one of {workers} processes that make samples died, perhaps for want of memory; "
                "give fewer: --set training.workers=0, and --resume"
            ) from error
        finally:
            for future in waiting:
                future.cancel()


def _executor(sampler: Sampler, workers: int) -> Executor:
    if workers == 0:
        return ThreadPoolExecutor(1, thread_name_prefix="samples")
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(sampler,))


def _submit(
    executor: Executor, sampler: Sampler, workers: int, seed: int, step: int, first: int, count: int
) -> Future[Sample]:
    if workers == 0:
        return executor.submit(sampler.batch, seed, step, count, first)
    return executor.submit(_batch_in_worker, seed, step, count, first)


def _start_worker(sampler: Sampler) -> None:
    """Keep the sampler; leave signals to the training, which ends its workers, and end with it."""
    global _sampler
    _sampler = sampler
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Wait for the parent process to end, then end: killed outright it cannot end its workers, which hold images."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _batch_in_worker(seed: int, step: int, count: int, first: int) -> Sample:
    assert _sampler is not None
    return _sampler.batch(seed, step, count, first)
