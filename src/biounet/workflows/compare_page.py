"""The page of a comparison: who is better, how surely, and the images on which methods differ most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biounet.evaluation.comparison import HEADLINES, at
from biounet.evaluation.files import Pair
from biounet.evaluation.summary import flatten
from biounet.evaluation.truths import Truth
from biounet.inference.packages import installed_version
from biounet.inference.predict import show_bytes
from biounet.report.page import Block, Code, Figure, Section, Table, Text, write_page
from biounet.report.pictures import ERROR_COLOURS, WRONG_CLASS, error_layer, task_layer, to_rgb, wrong_class_layer
from biounet.words import counted

MOST_PICTURES = 8


@dataclass(frozen=True)
class Origin:
    """Where methods come from. ``command``: what was typed; ``hashes``: SHA-256 of the models of a method;
    ``folders``: of label images; ``paragraphs``: how the model of a method was trained, for a publication.
    """

    command: str
    hashes: Mapping[str, Sequence[str]]
    folders: Mapping[str, str]
    paragraphs: Mapping[str, str]


def write_comparison_page(
    path: Path,
    comparison: Mapping[str, Any],
    verdicts: Sequence[str],
    statements: Sequence[str],
    truths: Sequence[Truth],
    pairs: Mapping[str, Sequence[Pair]],
    origin: Origin,
) -> None:
    """Write the page, whole or not at all.

    ``comparison``: as `evaluation.comparison.compare_scores` gives it, with ``task``. ``pairs``: the
    labels of each method (its first run) beside the truth, in the order of ``truths``.
    """
    names = list(comparison["methods"])
    lead = f"{', '.join(names[:-1])} and {names[-1]} on the same {counted(len(truths), 'image')}."
    order, spread = _most_different_first(comparison)
    sections = [
        Section("Who is better", [Text("\n\n".join(verdicts)), _note(comparison)]),
        Section("Scores", _scores(comparison)),
        Section("Differences", [_differences(comparison)]),
        Section("Images, those on which methods differ most first", [_per_image(comparison, order, spread)]),
        Section("Pictures", _figures(comparison["task"], order, truths, pairs)),
        Section("What was inferred and decided", [Table("", ["statement"], [[line] for line in statements])]),
        Section("How to repeat it", _repeated(origin)),
    ]
    if origin.paragraphs:
        pasted = [Code(text, f"{name}, ready to paste", wraps=True) for name, text in origin.paragraphs.items()]
        sections.append(Section("For the methods section", pasted))
    write_page(path, title="biounet comparison", lead=lead, sections=sections)


def _repeated(origin: Origin) -> list[Block]:
    rows = [[f"model SHA-256 of {name}", digest] for name, digests in origin.hashes.items() for digest in digests]
    rows += [[f"labels of {name}", folder] for name, folder in origin.folders.items()]
    rows += [[f"version of {name}", installed_version(name)] for name in ("biounet", "numpy", "torch")]
    table = Table("Methods and versions", ["what", "value"], rows)
    return [Code(origin.command, "Command"), table] if origin.command else [table]


def _note(comparison: Mapping[str, Any]) -> Text:
    over = comparison["interval_over"]
    few = " Below six images these are blocks of them, so the intervals tell of these images and of no others."
    return Text(
        f"Intervals are 95 % bootstrap intervals of paired differences over {over}.{few * (over == 'blocks')} Many "
        "scores are compared, and nothing is corrected for their number: of twenty scores of equally good methods "
        "one differs by chance."
    )


def _scores(comparison: Mapping[str, Any]) -> list[Block]:
    methods = comparison["methods"]
    paths = [path for path, _ in flatten(next(iter(methods.values()))["mean"])]
    rows: list[list[object]] = []
    for path in paths:
        cells = [mean_and_interval(summary, path) for summary in methods.values()]
        rows.append([" ".join(path), *cells])
    errors = comparison["errors"]
    kinds = list(next(iter(errors.values())))
    blocks: list[Block] = [
        Table(
            "Errors by name, all images together",
            ["method", *kinds],
            [[name, *counts.values()] for name, counts in errors.items()],
        ),
        Table("Mean and 95 % interval", ["score", *methods], rows),
    ]
    if comparison.get("cost"):
        blocks.append(_cost(comparison["cost"]))
    if any("runs" in summary for summary in methods.values()):
        blocks.append(_runs(comparison))
    return blocks


def _cost(costs: Mapping[str, Any]) -> Table:
    rows = [[name, *cost_cells(cost)] for name, cost in costs.items()]
    note = "Of predicting the largest image, on this machine as busy as it was. Memory: beyond the loaded model."
    return Table("Cost", ["method", *COST_HEADER], rows, note)


COST_HEADER = ("parameters", "seconds per megapixel", "memory")


def cost_cells(cost: Mapping[str, Any]) -> list[str]:
    """Parameters, seconds per megapixel and memory for a table."""
    memory = cost["memory_bytes"]
    return [
        f"{cost['parameters']:,}",
        f"{cost['seconds_per_megapixel']:.3g}",
        "–" if memory is None else show_bytes(memory),
    ]


def _runs(comparison: Mapping[str, Any]) -> Table:
    """The headline scores of every run: how far they move with the seed."""
    paths = HEADLINES[comparison["task"]]
    rows = [
        [name, number, *(at(run, path) for path in paths)]
        for name, summary in comparison["methods"].items()
        for number, run in enumerate(summary.get("runs", ()))
    ]
    return Table("Runs with other seeds", ["method", "run", *map(" ".join, paths)], rows)


def mean_and_interval(summary: Mapping[str, Any], path: tuple[str, ...]) -> str:
    """A mean with its interval for a table; a dash where it is undefined."""
    mean, ends = at(summary["mean"], path), at(summary["interval"], path)
    if mean is None:
        return "–"
    return f"{mean:.4f}" + ("" if ends is None else f" ({ends[0]:.4f} to {ends[1]:.4f})")


def _differences(comparison: Mapping[str, Any]) -> Table:
    rows: list[list[object]] = []
    for difference in comparison["differences"]:
        a, b = difference["methods"]
        for path, mean in flatten(difference["mean"]):
            ends, probability = at(difference["interval"], path), at(difference["probability_better"], path)
            shown = "–" if ends is None else f"{ends[0]:+.4f} to {ends[1]:+.4f}"
            by = "–" if mean is None else f"{mean:+.4f}"
            better = at(difference["better"], path) or "not shown"
            rows.append([f"{a} - {b}", " ".join(path), by, shown, probability, better])
    header = ["methods", "score", "difference", "95 % interval", "first is better in", "better"]
    note = "The last column but one: the share of the resamples in which the first method is better."
    return Table("", header, rows, note)


def _most_different_first(comparison: Mapping[str, Any]) -> tuple[list[int], list[float]]:
    """Images by the spread of the headline score over the methods, the largest first; and the spreads."""
    path = HEADLINES[comparison["task"]][0]
    columns = [[at(image, path) or 0.0 for image in m["images"]] for m in comparison["methods"].values()]
    spread = np.ptp(np.array(columns), axis=0)
    return [int(i) for i in np.argsort(-spread, kind="stable")], [float(s) for s in spread]


def _per_image(comparison: Mapping[str, Any], order: Sequence[int], spread: Sequence[float]) -> Table:
    path = HEADLINES[comparison["task"]][0]
    methods = comparison["methods"]
    images = next(iter(methods.values()))["images"]
    rows = [
        [images[i]["name"], *(at(summary["images"][i], path) for summary in methods.values()), spread[i]] for i in order
    ]
    return Table(" ".join(path), ["image", *methods, "difference"], rows)


def _figures(
    task: str, order: Sequence[int], truths: Sequence[Truth], pairs: Mapping[str, Sequence[Pair]]
) -> list[Block]:
    chosen = order[:MOST_PICTURES]
    figures = [_figure(task, truths[i], {name: run[i] for name, run in pairs.items()}) for i in chosen]
    return [Text(f"{len(figures)} of {len(order)} images."), *figures]


def _figure(task: str, truth: Truth, pairs: Mapping[str, Pair]) -> Figure:
    true = next(iter(pairs.values())).true
    image = np.zeros(true.shape, np.uint8) if truth.image is None else truth.image
    layers = {"image": to_rgb(image, true.ndim), "truth": task_layer(true, task)}
    errors = error_layer if task == "instances" else wrong_class_layer
    for name, pair in pairs.items():
        layers[name] = task_layer(pair.predicted, task)
        layers[f"errors of {name}"] = errors(pair.predicted, true)
    legend = ERROR_COLOURS if task == "instances" else WRONG_CLASS
    first = next(iter(pairs))
    return Figure(truth.name, layers, shown=("image", f"errors of {first}"), legend=legend)
