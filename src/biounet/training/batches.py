"""Batches made ahead of the training, beside it, without a say in what they contain.

A batch is a function of (seed, step), so it does not matter which worker makes it, nor when.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

from biounet.samples.sampler import Sample, Sampler

_sampler: Sampler | None = None  # of a worker process, set once when it starts


def batches(sampler: Sampler, *, seed: int, size: int, first: int, stop: int, workers: int = 0) -> Iterator[Sample]:
    """Batches of the steps first..stop-1, in order.

    ``workers`` processes (started by spawn, the same on every system) make them; with 0 a thread
    beside the training does.
    """
    ahead = max(2, 2 * workers)
    with _executor(sampler, workers) as executor:
        waiting: deque[Future[Sample]] = deque()
        try:
            for step in range(first, min(first + ahead, stop)):
                waiting.append(_submit(executor, sampler, workers, seed, step, size))
            for step in range(first, stop):
                batch = waiting.popleft().result()
                if step + ahead < stop:
                    waiting.append(_submit(executor, sampler, workers, seed, step + ahead, size))
                yield batch
        finally:
            for future in waiting:
                future.cancel()


def _executor(sampler: Sampler, workers: int) -> Executor:
    if workers == 0:
        return ThreadPoolExecutor(1, thread_name_prefix="samples")
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_set_sampler, initargs=(sampler,))


def _submit(executor: Executor, sampler: Sampler, workers: int, *arguments: Any) -> Future[Sample]:
    if workers == 0:
        return executor.submit(sampler.batch, *arguments)
    return executor.submit(_batch_in_worker, *arguments)


def _set_sampler(sampler: Sampler) -> None:
    global _sampler
    _sampler = sampler


def _batch_in_worker(seed: int, step: int, size: int) -> Sample:
    assert _sampler is not None
    return _sampler.batch(seed, step, size)
