"""From the scores of each image to means with intervals, in the shape of the JSON output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from biounet.evaluation.intervals import FEWEST_VALUES, MeanInterval, mean_with_interval
from biounet.evaluation.scores import Scores

Path = tuple[str, ...]

# Everything else lies between 0 and 1.
COUNTS = frozenset({"errors", "objects"})


def is_count(path: Path) -> bool:
    """Whether a score is a number of errors or objects, which has no upper bound and shrinks with the image."""
    return path[0] in COUNTS or (path[0] == "classes" and len(path) > 2 and path[2] in COUNTS)


def summarise(
    per_image: Sequence[tuple[str, Scores]],
    seed: int,
    *,
    blocks: Sequence[Scores] | None = None,
) -> dict[str, Any]:
    """Means over images with 95 % intervals, from scores as `evaluate_pair` gives them.

    Every score is resampled by the same draws of this ``seed``, so equal scores have equal intervals whatever
    stands beside them.

    Returns a dict ready for JSON:

    - ``images``: ``[{"name": ..., scores}, ...]``, as given;
    - ``mean``: the mean of each score over the images where it is defined, None where it is nowhere;
    - ``interval``: in the same places [low, high], or None where it cannot be told;
    - ``undefined``: how many images each mean leaves out, only where there are any;
    - ``pooled``: ``seg`` over all true objects together, with ``interval`` and number of ``objects``;
    - ``interval_over``: "images", or "blocks".

    Below six images an interval needs ``blocks``, the scores of `block_scores` over all the images. It is
    the interval of the mean over blocks, moved to the mean over images, since blocks cut objects in parts;
    counts of errors and objects, which shrink with the block, and pooled scores then have none.
    """
    over_blocks = len(per_image) < FEWEST_VALUES
    of_images = columns([scores for _, scores in per_image])
    of_blocks = columns(blocks or [])
    result: dict[str, Any] = {
        "images": [{"name": name, **scores} for name, scores in per_image],
        "mean": {},
        "interval": {},
        "undefined": {},
        "pooled": _pooled([scores for _, scores in per_image], seed),
        "interval_over": "blocks" if over_blocks else "images",
    }
    for path, values in of_images.items():
        bounds = (0.0, np.inf) if is_count(path) else (0.0, 1.0)
        over = mean_with_interval(values, np.random.default_rng(seed))
        interval = over
        if over_blocks and not is_count(path):
            interval = mean_with_interval(of_blocks.get(path, []), np.random.default_rng(seed))
        put(result["mean"], path, over.mean)
        put(result["interval"], path, _ends(interval, over.mean, bounds))
        if over.undefined:
            put(result["undefined"], path, over.undefined)
    return result


def flatten(scores: Scores) -> Iterator[tuple[Path, float | None]]:
    """The single values of nested scores with their paths, such as ("ap", "0.50"), for tables and CSV."""
    for name, value in scores.items():
        if isinstance(value, dict):
            yield from (((name, *rest), inner) for rest, inner in flatten(value))
        else:
            yield (name,), value


def columns(all_scores: Sequence[Scores]) -> dict[Path, list[float | None]]:
    """Per path the values of all images; None where an image has no such score (an absent class)."""
    flat = [dict(flatten(scores)) for scores in all_scores]
    paths: Iterable[Path] = dict.fromkeys(path for one in flat for path in one)
    return {path: [one.get(path) for one in flat] for path in paths}


def _pooled(all_scores: Sequence[Scores], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    counts = [scores["objects"]["true"] for scores in all_scores]
    pooled = mean_with_interval([scores["seg"] for scores in all_scores], rng, weights=counts, bounds=(0.0, 1.0))
    return {"seg": pooled.mean, "interval": _ends(pooled, pooled.mean, (0.0, 1.0)), "objects": sum(counts)}


def _ends(interval: MeanInterval, mean: float | None, bounds: tuple[float, float]) -> list[float] | None:
    """Both ends of the interval, moved so that it belongs to the given mean."""
    if interval.low is None or interval.high is None or interval.mean is None or mean is None:
        return None
    shift = mean - interval.mean
    return [float(np.clip(end + shift, *bounds)) for end in (interval.low, interval.high)]


def put(tree: dict[str, Any], path: Path, value: Any) -> None:
    """Set the value at a path of nested dicts, making those on the way."""
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value
