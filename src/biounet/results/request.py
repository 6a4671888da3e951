"""What `predict` is asked for, and what became of each input."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from biounet.errors import UsageError
from biounet.inference.engines import LEAST_AGREEMENT
from biounet.results.export import EXPORTED

SAVED = ("labels", "probabilities", "overlay", "ome-zarr", *EXPORTED)

Listener = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Request:
    """What `predict_files` writes and within which limits.

    ``memory``: bytes that the whole process may take. ``pixel_size_um``: of the inputs, per spatial axis
    or one for all, in place of what files state. ``shard``: (i, n), compute every n-th tile from the i-th
    (from 1) and write no result; ``merge``: join what shards computed, and of a ``region`` compute the tiles into
    which its objects go on. ``region``: a file or "auto", see `prediction.region.open_region`. ``in_place``: "labels"
    go into OME-Zarr inputs, as ``label_name``, in place of ``NAME_labels.tif``; ``overwrite`` replaces labels that
    something else made or that were edited. ``report``: whether to write ``report.html``, which says the ``command``
    that was typed.

    ``wells`` of plates, the ``cluster`` and what an engine is chosen by are for `run_request.run_request`; here they
    are only told in ``run.json``.
    """

    out: Path
    save: tuple[str, ...] = ("labels", "overlay")
    tile: int | None = None
    memory: int | None = None
    channels: tuple[int | str, ...] | None = None
    tta: str = "none"
    pixel_size_um: tuple[float, ...] | None = None
    shard: tuple[int, int] | None = None
    merge: bool = False
    region: str | None = None
    wells: str | None = None
    in_place: bool = False
    label_name: str = "biounet"
    overwrite: bool = False
    cluster: str | None = None
    engine: str = "auto"
    precision: str = "fp32"
    device: str = "auto"
    calibrate: str | None = None
    least_agreement: float = LEAST_AGREEMENT
    report: bool = True
    command: str = ""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.save) - set(SAVED))
        if unknown or not self.save:
            raise UsageError(f"--save {','.join(self.save)!r}: choose from {', '.join(SAVED)}, with commas")
        if self.tile is not None and self.tile < 1:
            raise UsageError(f"--tile {self.tile}: must be at least 1 pixel")
        if self.channels is not None and not (self.channels and all(str(one).strip() for one in self.channels)):
            raise UsageError(
                f"--channels {list(self.channels)}: write names or positions from 0 with commas, as DAPI,2"
            )
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise UsageError(f"--shard {self.shard[0]}/{self.shard[1]}: write I/N with I from 1 to N, as 2/8")
        if not 0 <= self.least_agreement <= 1:
            raise UsageError(f"--least-agreement {self.least_agreement}: a share from 0 to 1, as 0.99")
        if self.shard is not None and self.merge:
            raise UsageError("--shard computes and --merge joins what was computed: give one of them")
        if self.in_place and "labels" not in self.save:
            raise UsageError(f"--in-place writes labels, --save {','.join(self.save)} leaves them out: add labels")


@dataclass
class Done:
    """What became of one input. ``seams``: what the check of seams found; ``notes``: what was decided.

    ``done_before``: its labels were in it already, by the same model and settings, and nothing was computed.
    """

    input: str
    name: str
    files: list[str] = field(default_factory=list)
    shape: tuple[int, ...] = ()
    plan: str = ""
    objects: int | None = None
    empty: bool = False
    seconds: float = 0.0
    error: str = ""
    seams: dict[str, object] | None = None
    notes: list[str] = field(default_factory=list)
    done_before: bool = False


_UM = {"": 1.0, "UM": 1.0, "MICRON": 1.0, "NM": 1e-3, "MM": 1e3}


def parse_pixel_size(text: str) -> tuple[float, ...]:
    """Micrometres of a text such as 0.25um, 250nm or 1x0.25x0.25um, per axis (Z)YX or one for all."""
    found = re.fullmatch(r"\s*([\d.eE+-]+(?:\s*x\s*[\d.eE+-]+)*)\s*([A-Z]*)\s*", text.replace("µ", "u"), re.IGNORECASE)
    try:
        unit = _UM[found.group(2).upper()] if found else 0.0
        values = tuple(float(value) * unit for value in found.group(1).split("x")) if found else ()
    except (ValueError, KeyError):
        values = ()
    if not values or not all(0 < value < math.inf for value in values):
        raise UsageError(f"--pixel-size {text!r}: write a length such as 0.25um, or one an axis as 1x0.25x0.25um")
    return values


def parse_shard(text: str) -> tuple[int, int]:
    """(I, N) of the text I/N."""
    found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
    if not found:
        raise UsageError(f"--shard {text!r}: write I/N with I from 1 to N, as 2/8")
    return int(found.group(1)), int(found.group(2))
