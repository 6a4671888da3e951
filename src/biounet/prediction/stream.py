"""Reading a file ahead and writing one behind, while the one between is computed.

Order, results and errors are those of doing one after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """``map(function, items)``, where the next item is worked on in a thread while this one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        waiting: Future[R] | None = None
        for item in items:
            following = thread.submit(function, item)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


class Behind:
    """Runs jobs in order in one thread; at most ``most`` of them wait, so that memory stays bounded.

    Leaving the block waits for all of them. The first error of a job is raised, at the latest there.
    """

    def __init__(self, most: int = 2) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="behind")
        self._waiting: deque[Future[Any]] = deque()
        self._most = most

    def __enter__(self) -> Behind:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while self._waiting and error is None:
                self._waiting.popleft().result()
        finally:
            self._thread.shutdown(wait=True, cancel_futures=True)

    def wait(self) -> None:
        """Until all jobs so far are done; raises the error of the first that failed."""
        while self._waiting:
            self._waiting.popleft().result()

    def submit(self, job: Callable[..., Any], *arguments: Any) -> None:
        """Run ``job(*arguments)`` after those before it; waits while too many are."""
        while len(self._waiting) >= self._most:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(job, *arguments))
