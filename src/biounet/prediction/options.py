"""The options of ``predict``, written as on the command line or as Python values, and the request that they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from biounet.errors import UsageError
from biounet.inference.predict import parse_bytes
from biounet.results.request import Request, parse_pixel_size, parse_shard


class Options(TypedDict, total=False):
    """Keywords of `biounet.predict`: the options of ``biounet predict`` with ``_`` for ``-``.

    Each may be written as there ("labels,overlay", "2GB", "0.25um", "1/4"), or be a sequence of names, bytes, um an
    axis, a pair of numbers.
    """

    save: str | Sequence[str]
    tile: int | None
    memory: str | int | None
    channels: str | Sequence[int | str] | None
    pixel_size: str | float | Sequence[float] | None
    region: str | Path | None
    wells: str | None
    in_place: bool
    label_name: str
    overwrite: bool
    shard: str | tuple[int, int] | None
    merge: bool
    cluster: str | None
    engine: str
    precision: str
    device: str
    tta: str
    calibrate: str | Path | None
    least_agreement: float
    report: bool


def request_of(out: Path, options: Mapping[str, Any], *, command: str = "") -> Request:
    """The request that options make; ``command``: what was typed. Raises `UsageError` for what cannot be meant."""
    refuse_unknown(options, tuple(Options.__annotations__))
    values: dict[str, Any] = {
        name: value if value is None else _MEANT.get(name, _as_it_is)(value) for name, value in options.items()
    }
    if "pixel_size" in values:
        values["pixel_size_um"] = values.pop("pixel_size")
    return Request(out, command=command, **values)


def refuse_unknown(options: Mapping[str, Any], known: Sequence[str], *, of: str = "predict") -> None:
    """Raise `UsageError` for options that are not known, with those that are."""
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UsageError(f"{of} takes no option {', '.join(unknown)}; it takes {', '.join(sorted(known))}")


def _as_it_is(value: Any) -> Any:
    return value


def _parted(value: str | Sequence[Any]) -> tuple[Any, ...]:
    """A text with commas as its parts; a sequence as it is."""
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else tuple(value)


def _saved(value: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(part for part in _parted(value) if part)


def _bytes(value: str | int) -> int:
    return parse_bytes(value if isinstance(value, str) else str(value), "--memory")


def _lengths(value: str | float | Sequence[float]) -> tuple[float, ...]:
    if isinstance(value, int | float):
        value = (value,)
    return parse_pixel_size(value if isinstance(value, str) else "x".join(map(str, value)))


def _share(value: str | tuple[int, int]) -> tuple[int, int]:
    return parse_shard(value if isinstance(value, str) else "/".join(map(str, value)))


_MEANT: Mapping[str, Callable[[Any], Any]] = {
    "save": _saved,
    "memory": _bytes,
    "channels": _parted,
    "pixel_size": _lengths,
    "shard": _share,
    "region": str,
    "calibrate": str,
}
