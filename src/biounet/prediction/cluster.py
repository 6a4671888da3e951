"""Tiles computed by workers of a dask cluster, over the same folder of blocks as everywhere else.

A worker opens model and image by their paths, so both and the folder for the results must be seen by all
under one name. Tiles that a lost worker had finished stay; the others are given to another one.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import BiounetError, DataError, UsageError
from biounet.inference.engines import LEAST_AGREEMENT, Engine, choose_engine
from biounet.inference.exported import open_model
from biounet.inference.memory import CACHE_BYTES
from biounet.inference.packages import import_or_refuse
from biounet.labels.blocks import Index
from biounet.model_file import Model
from biounet.prediction.blocks import Job, open_claimed
from biounet.prediction.made_by import engine_digest
from biounet.prediction.region import AUTO
from biounet.prediction.source import source_of
from biounet.results.request import Request

_PARTS_A_WORKER = 8  # tiles are given out in so many parts a worker, so that the last ones end together
_WAIT_S = 30  # for the scheduler
_RETRIES = 3  # for parts whose worker was lost


@dataclass(frozen=True)
class Recipe:
    """How a worker makes the engine that this process has.

    ``engine``: a name, or the path of an exported network. ``threads``: 0 for as many as there are cores.
    ``calibration``: crops in place of the model's own, each `packed`, so that recipes can be compared. ``sha256``: of
    the model and of the exported network, where they are to be checked.
    """

    model: Path
    engine: str
    precision: str
    device: str
    threads: int = 0
    calibration: tuple[bytes, ...] | None = None
    least_agreement: float = LEAST_AGREEMENT
    sha256: tuple[str, str | None] | None = None


def packed(crop: npt.NDArray[Any]) -> bytes:
    """An array as an ``.npy`` file."""
    file = io.BytesIO()
    np.save(file, crop, allow_pickle=False)
    return file.getvalue()


class Cluster:
    """Workers of the scheduler at an address, or ``local:N`` processes of this machine; a context manager.

    Raises `UsageError` for other addresses, and where dask.distributed is not installed or no scheduler
    answers.
    """

    def __init__(self, address: str, recipe: Recipe) -> None:
        self._dask: Any = import_or_refuse("distributed", f"--cluster {address}")
        self.address, self.recipe = address, recipe
        self._local: Any = None
        self._client: Any = None
        self._begun: dict[Path, dict[Any, Sequence[Index]]] = {}

    def __enter__(self) -> Cluster:
        local = re.fullmatch(r"local:(\d+)", self.address)
        if local:
            count = int(local.group(1))
            if count < 1:
                raise UsageError(f"--cluster {self.address}: at least one process, as local:2")
            self._local = self._dask.LocalCluster(
                n_workers=count, threads_per_worker=1, dashboard_address=None, memory_limit=0
            )
            self.recipe = replace(self.recipe, threads=max(1, (os.cpu_count() or 1) // count))
        try:
            self._client = self._dask.Client(self._local or self.address, timeout=_WAIT_S)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"--cluster {self.address}: no scheduler answers ({' '.join(str(error).split())}); "
                "give its address, as tcp://host:8786, or local:N"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in (self._client, self._local):
            if one is not None:
                one.close()

    def compute(
        self, job: Job, request: Request, told: Callable[[], None], missing: Sequence[Index] | None = None
    ) -> None:
        """All tiles of a job that are not there yet, or those ``missing``; returns when they are."""
        if missing is None:
            self.begin(job, request)
            futures = self._begun.pop(job.store.folder.resolve())
            for _ in range(len(job.wanted) - sum(map(len, futures.values()))):
                told()
        else:
            futures = self._submit(job, request, missing)
        for future in self._dask.as_completed(futures):
            try:
                wrong = future.result()
            except Exception as error:
                raise BiounetError(
                    f"--cluster {self.address}: a worker failed ({type(error).__name__}: "
                    f"{' '.join(str(error).split())[:200]}); the same command goes on where it was"
                ) from error
            if wrong is not None:
                raise wrong
            for _ in futures[future]:
                told()

    def begin(self, job: Job, request: Request) -> None:
        """Give out the tiles of a job that are not there yet, and do not wait for them; once a job."""
        folder = job.store.folder.resolve()
        if folder not in self._begun:
            self._begun[folder] = self._submit(job, request, job.missing())

    def _submit(self, job: Job, request: Request, missing: Sequence[Index]) -> dict[Any, Sequence[Index]]:
        """The tiles in parts, by the future of each part."""
        workers = max(1, len(self._client.scheduler_info()["workers"]))
        size = max(1, -(-len(missing) // (workers * _PARTS_A_WORKER)))
        parts = [missing[first : first + size] for first in range(0, len(missing), size)]
        source, folder = job.path.resolve(), job.store.folder.resolve()
        if request.region not in (None, AUTO):
            request = replace(request, region=str(Path(request.region).resolve()))
        return {
            self._client.submit(
                compute_part, self.recipe, source, job.view.item, request, folder, part, retries=_RETRIES, pure=False
            ): part
            for part in parts
        }


def compute_part(
    recipe: Recipe,
    source: Path,
    item: int,
    request: Request,
    folder: Path,
    part: Sequence[Index],
) -> BiounetError | None:
    """What a worker does: these tiles of an item, as the plan in the folder says; returns what is wrong, if it is.

    Raised, an error would be tried again, and each time printed with where in the code it arose.
    """
    try:
        model, engine = _tools(recipe)
        with source_of(source, model).open(cache_bytes=CACHE_BYTES) as regions:
            open_claimed(model, engine, regions, item, request, folder=folder).compute(part)
    except BiounetError as error:
        return error
    return None


@lru_cache(maxsize=2)
def _tools(recipe: Recipe) -> tuple[Model, Engine]:
    """Model and engine of a worker, made once."""
    model, crops = open_model(recipe.model), recipe.calibration
    if recipe.sha256 not in (None, (model.sha256, engine_digest(recipe.engine))):
        raise DataError(f"{recipe.model}: it or its engine is another one for this worker; all must see the same files")
    choice = choose_engine(
        model,
        engine=recipe.engine,
        device=recipe.device,
        precision=recipe.precision,
        calibration=None if crops is None else [np.load(io.BytesIO(crop)) for crop in crops],
        least_agreement=recipe.least_agreement,
        threads=recipe.threads,
    )
    return model, choice.engine
