"""Line charts as SVG text, without a plotting library, in the colours of the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError

Floats = npt.NDArray[np.float64]

_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 12, 42
MOST_POINTS = 400


def line_chart(
    title: str,
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    x_label: str = "",
    y_label: str = "",
    width: int = 720,
    height: int = 300,
) -> str:
    """An ``<svg>`` element with one line for each series over common ``x``.

    Values that are not finite are left out and their neighbours joined, so that a score taken now
    and then is a line too. More than 400 points are averaged in groups, so that long runs stay
    small. Line ``k`` has the class ``line-k``; the legend is the page's affair.
    Raises `UsageError` when a series is not as long as ``x``.
    """
    lengths = {name: len(values) for name, values in series.items()}
    if any(length != len(x) for length in lengths.values()):
        raise UsageError(f"curve {title!r}: x has {len(x)} values, the series {lengths}; they must be equal")
    places = _thin(np.asarray(x, dtype=float))
    lines = {name: _thin(np.asarray(values, dtype=float)) for name, values in series.items()}
    across = _ticks(np.asarray(x, dtype=float), max(2, width // 110))
    up = _ticks(np.concatenate([np.zeros(0), *lines.values()]), max(2, height // 48))
    frame = _Frame(width, height, _limits(across, places), _limits(up, *lines.values()))
    drawn = [frame.path(places, values, k) for k, values in enumerate(lines.values())]
    spoken = escape(f"{title}: {', '.join(series)} over {x_label or 'x'}")
    return "".join(
        [
            f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{spoken}">',
            *frame.grid(across, up),
            *drawn,
            frame.label(x_label, y_label),
            "</svg>",
        ]
    )


def _thin(values: Floats) -> Floats:
    """At most 400 values: means of groups of neighbours, not finite where a whole group is not."""
    size = math.ceil(len(values) / MOST_POINTS) if len(values) else 1
    if size == 1:
        return values
    padded = np.concatenate([values, np.full(-len(values) % size, np.nan)]).reshape(-1, size)
    finite = np.isfinite(padded)
    totals = np.where(finite, padded, 0).sum(1)
    return np.where(finite.any(1), totals / np.maximum(finite.sum(1), 1), np.nan)


def _ticks(values: Floats, wanted: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) across the finite values."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda size: abs(math.log(size / rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def _limits(ticks: Sequence[float], *values: Floats) -> tuple[float, float]:
    everything = np.concatenate([np.asarray(ticks, dtype=float), *values])
    finite = everything[np.isfinite(everything)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


class _Frame:
    """From values to positions inside the axes."""

    def __init__(self, width: int, height: int, x_limits: tuple[float, float], y_limits: tuple[float, float]) -> None:
        self.width, self.height = width, height
        self.x_limits, self.y_limits = x_limits, y_limits

    def x(self, value: float) -> float:
        low, high = self.x_limits
        return _LEFT + (value - low) / (high - low) * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_limits
        return self.height - _BOTTOM - (value - low) / (high - low) * (self.height - _TOP - _BOTTOM)

    def grid(self, across: Sequence[float], up: Sequence[float]) -> list[str]:
        floor, right = self.height - _BOTTOM, self.width - _RIGHT
        lines = [f'<path class="axis" d="M{_LEFT} {floor}H{right}"/>']
        for value in up:
            y = self.y(value)
            lines.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>')
            lines.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
        for value in across:
            x = self.x(value)
            lines.append(f'<text x="{x:.1f}" y="{floor + 18}" text-anchor="middle">{value:.6g}</text>')
        return lines

    def path(self, places: Floats, values: Floats, number: int) -> str:
        finite = np.isfinite(places) & np.isfinite(values)
        points = [f"{self.x(a):.1f} {self.y(b):.1f}" for a, b in zip(places[finite], values[finite], strict=True)]
        if len(points) == 1:  # the round cap of a line without length shows as a dot
            points *= 2
        start = "M" if points else ""
        return f'<path class="line line-{number % 6}" d="{start}{"L".join(points)}"/>'

    def label(self, x_label: str, y_label: str) -> str:
        middle = (_LEFT + self.width - _RIGHT) / 2
        upright = f'transform="rotate(-90 14 {self.height / 2:.0f})"'
        return (
            f'<text class="label" x="{middle:.0f}" y="{self.height - 6}" text-anchor="middle">{escape(x_label)}'
            f'</text><text class="label" x="14" y="{self.height / 2:.0f}" text-anchor="middle" {upright}>'
            f"{escape(y_label)}</text>"
        )
