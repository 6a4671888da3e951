"""Results as files, of images that were predicted in memory; and ``run.json``, which says how."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.exchange.objects import Objects
from biounet.images.image import Image
from biounet.images.writing import whole_file, write_labels, write_png, write_probabilities
from biounet.inference.engines import ENGINES, Choice
from biounet.inference.packages import installed_version
from biounet.inference.predict import Prediction
from biounet.model_file import Model
from biounet.report.pictures import overlay
from biounet.workflows.export import export
from biounet.workflows.request import Done, Request
from biounet.workflows.zarr_results import write_zarr


def write_results(
    model: Model,
    image: Image,
    items: Sequence[npt.NDArray[Any]],
    found: Sequence[Prediction],
    objects: Sequence[Objects],
    request: Request,
    done: Done,
) -> None:
    """Write what ``request.save`` names of one image, and note it in ``done``.

    ``items``: its planes or volumes (C, *spatial) as the model saw them, ``found`` what it says of each,
    ``objects`` those for other programs.
    """
    several = len(found) > 1
    labels = np.stack([one.labels for one in found]) if several else found[0].labels
    done.empty = not labels.any()
    if model.task == "instances":
        done.objects = int(sum(int(one.labels.max(initial=0)) for one in found))
    size = image.pixel_size(model.ndim)
    axes = ("T" if several else "") + "ZYX"[-model.ndim :]
    _write_ids("labels", labels, request, done, size=size, axes=axes)
    if found[0].classes is not None:
        classes = np.stack([one.classes[one.labels] for one in found if one.classes is not None])
        _write_ids("classes", classes if several else classes[0], request, done, size=size, axes=axes)
    if "probabilities" in request.save:
        maps = [one.probabilities for one in found]
        path = request.out / f"{done.name}_probabilities.tif"
        # several images: classes first, then the images along Z
        array = np.stack(maps, axis=1) if several else maps[0]
        write_probabilities(path, array, pixel_size_um=None if several else size)
        done.files.append(path.name)
    if "overlay" in request.save:
        path = request.out / f"{done.name}_overlay.png"
        middle = len(items) // 2
        write_png(path, overlay(items[middle], found[middle].labels))
        done.files.append(path.name)
    exported = export(image.source, objects, request.out, request.save)
    done.files += [str(written.relative_to(request.out)) for written in exported]


def _write_ids(
    kind: str,
    ids: npt.NDArray[np.int32],
    request: Request,
    done: Done,
    *,
    size: tuple[float, ...] | None,
    axes: str,
) -> None:
    """ "labels" or "classes" as TIFF and OME-Zarr, as far as they are wanted."""
    if "labels" in request.save and not request.in_place:
        path = request.out / f"{done.name}_{kind}.tif"
        write_labels(path, ids, pixel_size_um=size, axes=axes)
        done.files.append(path.name)

    def read(start: Sequence[int], stop: Sequence[int]) -> npt.NDArray[Any]:
        return ids[tuple(map(slice, start, stop))]

    largest = int(ids.max(initial=0))
    write_zarr(kind, read, ids.shape, request, done, largest=largest, size=size, axes=axes)


def _packages(engine: str) -> tuple[str, ...]:
    """What a result may depend on besides the usual; "torch" is usual."""
    kind = ENGINES.get(engine)
    return () if kind is None or engine == "torch" else kind.packages


def write_run(
    model: Model,
    choice: Choice,
    request: Request,
    results: Sequence[Done],
    start_up_s: float,
    compute_s: float,
) -> dict[str, Any]:
    """Write ``run.json``: inputs, settings, versions, plans, checks and timings; returns its content."""
    engine = choice.engine
    packages = ["biounet", "numpy", "tifffile", "torch", *_packages(engine.name)]
    values = {
        "model_sha256": model.sha256,
        "task": model.task,
        "classes": list(model.classes),
        "engine": engine.name,
        "precision": engine.precision,
        "agreement": None if choice.agreement is None else choice.agreement.to_dict(),
        "notes": list(choice.notes),
        "settings": {
            "save": list(request.save),
            "tile": request.tile,
            "memory": request.memory,
            "channels": request.channels,
            "tta": request.tta,
            "pixel_size_um": request.pixel_size_um,
            "region": request.region,
            "postprocessing": dict(model.postprocessing),
        },
        "versions": {name: installed_version(name) or None for name in packages}
        | {"python": platform.python_version()},
        "seconds": {"start_up": start_up_s, "compute": compute_s},
        "inputs": [asdict(done) for done in results],
    }
    with whole_file(request.out / "run.json") as temporary:
        temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")
    return values
