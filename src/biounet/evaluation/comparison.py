"""Methods side by side on the same images: what separates them, and how surely.

Differences are paired: the same images (blocks of them below six images) are drawn for both methods, so
that what makes an image hard for all of them drops out. A method may have several runs, as of a training
repeated with other seeds; its score of an image is then the mean over them. No correction is made for
the number of comparisons: of twenty scores of equally good methods one differs "surely" by chance.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from biounet.errors import UsageError
from biounet.evaluation.blocks import Scored
from biounet.evaluation.intervals import FEWEST_VALUES, Difference, paired_difference
from biounet.evaluation.scores import LOWER_IS_BETTER, Scores
from biounet.evaluation.summary import Path, columns, is_count, put, summarise
from biounet.words import counted

HEADLINES: Mapping[str, tuple[Path, ...]] = {
    "instances": (("seg",), ("pq",), ("ap", "0.50")),
    "classes": (("pixel_error",), ("dice",), ("v_rand",)),
}


def compare_scores(methods: Mapping[str, Sequence[Scored]], *, seed: int = 0) -> dict[str, Any]:
    """Every method's summary, and the difference of every two, ready for JSON.

    ``methods``: by name the runs of each, all over the same images in the same order. Returns

    - ``methods``: by name what `summarise` gives, and with several runs ``runs``, their means;
    - ``differences``: for every two methods ``{"methods": [a, b], "mean", "interval",
      "probability_better", "better"}``: of a - b in each score, "better" being the name of the method
      that the interval shows to be better, or None;
    - ``errors``: by name the sums over all images of merges, splits, misses and spurious objects;
    - ``interval_over``: "images", or "blocks" below six images.

    Raises `UsageError` for fewer than two methods or other images.
    """
    names = {name: [[n for n, _ in run.images] for run in runs] for name, runs in methods.items()}
    images = next(iter(names.values()), [[]])[0]
    if len(methods) < 2 or any(run != images for runs in names.values() for run in runs):
        raise UsageError(f"comparing needs two methods or more on the same images, not {names}")
    averaged = {name: average_runs(runs) for name, runs in methods.items()}
    result: dict[str, Any] = {"methods": {}, "differences": [], "errors": {}}
    for name, scored in averaged.items():
        summary = summarise(scored.images, seed, blocks=scored.blocks)
        if len(methods[name]) > 1:
            summary["runs"] = [_means(run) for run in methods[name]]
        result["methods"][name] = summary
        result["errors"][name] = _total_errors([scores for _, scores in scored.images])
    for a, b in itertools.combinations(averaged, 2):
        result["differences"].append({"methods": [a, b], **_differences(a, averaged[a], b, averaged[b], seed)})
    result["interval_over"] = "blocks" if len(images) < FEWEST_VALUES else "images"
    return result


def average_runs(runs: Sequence[Scored]) -> Scored:
    """The mean over runs of every score of every image and block, over the runs where it is defined."""
    if len(runs) == 1:
        return runs[0]
    images = [(name, _average([run.images[i][1] for run in runs])) for i, (name, _) in enumerate(runs[0].images)]
    return Scored(images, [_average(blocks) for blocks in zip(*(run.blocks for run in runs), strict=True)])


def verdicts(comparison: Mapping[str, Any], paths: Sequence[Path]) -> list[str]:
    """One sentence for every two methods and each of these scores: who is better, and how surely."""
    over = comparison["interval_over"]
    images = next(iter(comparison["methods"].values()))["images"]
    known = counted(len(images), "image")
    where = known if over == "images" else f"blocks of {known}, and of no others"
    said = [
        sentence
        for difference in comparison["differences"]
        for path in paths
        if (sentence := _verdict(difference, path, where))
    ]
    names = ", ".join(" ".join(path) for path in paths)
    return said or [f"none of {names} is defined for {known}, as where nothing is drawn; see the errors by name"]


def _verdict(difference: Mapping[str, Any], path: Path, where: str) -> str:
    a, b = difference["methods"]
    mean, interval, share = (at(difference[key], path) for key in ("mean", "interval", "probability_better"))
    name = " ".join(path)
    if mean is None:
        return ""
    if interval is None:
        return f"{name}: too little to compare {a} with {b}: they differ by {abs(mean):.4f}, with no interval to tell"
    low, high = interval
    if low == high == 0:
        return f"{name}: {a} and {b} are equal on all of {where}"
    better = at(difference["better"], path)
    ahead = better or (a if share >= 0.5 else b)
    surely = f"over {where}; {ahead} is better in {share if ahead == a else 1 - share:.1%} of the resamples)"
    if better is None:
        return (
            f"{name}: no difference is shown: {a} - {b} is {mean:+.4f} "
            f"(95 % interval {low:+.4f} to {high:+.4f}, {surely}"
        )
    low, high = sorted(map(abs, interval))
    worse = b if better == a else a
    return (
        f"{name}: {better} is better than {worse} by {abs(mean):.4f} (95 % interval {low:.4f} to {high:.4f}, {surely}"
    )


def _differences(a: str, first: Scored, b: str, second: Scored, seed: int) -> dict[str, Any]:
    result: dict[str, Any] = {"mean": {}, "interval": {}, "probability_better": {}, "better": {}}
    of_images = [columns([scores for _, scores in scored.images]) for scored in (first, second)]
    blocks = [columns(scored.blocks) for scored in (first, second)]
    few = len(first.images) < FEWEST_VALUES
    for path, values in of_images[0].items():
        if "objects" in path or path not in of_images[1]:  # more of them is neither better nor worse
            continue
        found = paired_difference(values, of_images[1][path], np.random.default_rng(seed), lower_is_better=_lower(path))
        if few and not is_count(path) and found.mean is not None:
            one, other = (column.get(path, []) for column in blocks)
            rng = np.random.default_rng(seed)
            found = paired_difference(one, other, rng, lower_is_better=_lower(path), moved_to=found.mean)
        put(result["mean"], path, found.mean)
        put(result["interval"], path, None if found.low is None else [found.low, found.high])
        put(result["probability_better"], path, found.probability_better)
        put(result["better"], path, _better(found, a, b, path))
    return result


def _better(found: Difference, a: str, b: str, path: Path) -> str | None:
    """The method that the interval of a - b shows to be better."""
    if found.low is None or found.high is None or found.low <= 0 <= found.high:
        return None
    return a if (found.low > 0) != _lower(path) else b


def _lower(path: Path) -> bool:
    return path[-1] in LOWER_IS_BETTER


def at(tree: Any, path: Path) -> Any:
    """The value at a path of nested dicts; None where there is none."""
    for name in path:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def _average(runs: Sequence[Scores]) -> Scores:
    result: Scores = {}
    for path, values in columns(runs).items():
        put(result, path, _mean(values))
    return result


def _total_errors(all_scores: Sequence[Scores]) -> dict[str, float]:
    kinds = all_scores[0]["errors"] if all_scores else {}
    return {kind: sum(scores["errors"][kind] for scores in all_scores) for kind in kinds}


def _means(run: Scored) -> Scores:
    return _average([scores for _, scores in run.images])


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
