"""Methods side by side on the same held-back images: models, and labels made by any program.

All are scored from their labels alone, so that none is judged by probabilities that others lack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from biounet.datasets.examples import image_digest
from biounet.datasets.selection import select
from biounet.errors import BiounetError, DataError, UsageError
from biounet.evaluation.comparison import HEADLINES, compare_scores, verdicts
from biounet.evaluation.files import Pair, encoded, find_pairs, find_predicted, legend_of, read_values, score_pairs
from biounet.evaluation.legend import AS_THEY_ARE, Legend, Reading, choose_unlabelled, joined, reading_told
from biounet.evaluation.scores import Task
from biounet.evaluation.tables import image_row, object_rows, write_csv
from biounet.evaluation.truths import Truth, as_learnt, read_truth, understand_truths
from biounet.images.writing import write_labels
from biounet.inference.engines import make_engine
from biounet.labels.meaning import Meaning
from biounet.model_file import Model, load_model
from biounet.prediction.scale import needs_scale, show_size
from biounet.report.methods import methods_of_average
from biounet.results.run_file import write_legend
from biounet.words import counted
from biounet.workflows.averaged import channels_of, predict_averaged
from biounet.workflows.compare_page import Origin, write_comparison_page
from biounet.workflows.cost import prediction_cost

Tell = Callable[[str], None]

_SHOWN = 6


@dataclass(frozen=True)
class Labelled:
    """A method known by its label images: ``folder`` of NAME_labels.tif, or one file."""

    name: str
    folder: Path


@dataclass(frozen=True)
class Modelled:
    """A method known by its models: ``runs``, each one model file or several that are averaged."""

    name: str
    runs: tuple[tuple[Path, ...], ...]


Method = Labelled | Modelled


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. ``result`` is ready for JSON; ``verdicts`` say it in words."""

    result: dict[str, Any]
    verdicts: tuple[str, ...]
    statements: tuple[str, ...]
    report: Path


@dataclass(frozen=True)
class Terms:
    """On which images and how methods are compared.

    ``only``: the images; by default those that every model held back, of the data there are, else all. ``seed``: of
    the bootstrap. ``device``: for the models. ``cost``: whether to measure what their predictions cost (see
    `prediction_cost`). ``command``: what was typed, for the page. ``unlabelled``, ``object_classes``, ``ndim``: as for
    `evaluate_files`.
    """

    only: str | None = None
    task: Task | None = None
    warping: bool = True
    seed: int = 0
    device: str = "auto"
    cost: bool = True
    command: str = ""
    unlabelled: str | None = None
    object_classes: bool = True
    ndim: int | None = None


def compare(
    data: str | Path,
    methods: Sequence[Method],
    out: str | Path,
    terms: Terms,
    *,
    tell: Tell = lambda line: None,
) -> Comparison:
    """Score methods on the same images of ``data`` and write tables and a page into the folder ``out``.

    ``data``: as for `evaluate_files`; models need the images too, so a data folder. ``tell(line)`` is told what goes
    on.

    Writes ``images.csv``, ``objects.csv``, ``report.html``, and of each model what it predicted.
    Raises `UsageError` for methods that cannot be compared, `DataError` for missing or unfitting files.
    """
    check_methods(methods)
    out = Path(out)
    models = {path: load_model(path) for m in methods if isinstance(m, Modelled) for run in m.runs for path in run}
    legends = _legends(methods, models)
    read = read_truth(Path(data), terms.ndim)
    truths, dataset, reasons = as_learnt(read, Path(data), list(legends.values())) if terms.ndim is None else read
    chosen, why = choose_images(truths, list(models.values()), terms.only)
    places = [truths.index(truth) for truth in chosen]
    unlabelled, rule = choose_unlabelled(terms.unlabelled, legends)
    truths, meaning = understand_truths(
        truths,
        dataset,
        task=terms.task,
        object_classes=terms.object_classes,
        unlabelled=unlabelled,
        legends=list(legends.values()),
    )
    chosen = [truths[place] for place in places]
    _refuse_other_axes(legends, chosen, {m.name for m in methods if isinstance(m, Modelled)})
    labels = _labels(methods, chosen, legends)  # what is missing is told before models work
    readings = _readings(methods, labels, legends, meaning)
    said = [*reasons, meaning.reason, *rule, *why]
    said += [f"{name}: {reason}" for name, reading in readings.items() for reason in reading.reasons]
    said += _said_of_scale(methods, models, chosen)
    for line in said:
        tell(line)
    meaning = joined(meaning, list(readings.values()))
    pairs: dict[str, list[list[Pair]]] = {}
    for method in methods:
        tell(f"scoring {method.name}")
        if isinstance(method, Modelled):
            runs = _predicted(method, chosen, models, out, terms.device)
        else:
            runs = [labels[method.name]]
        pairs[method.name] = [encoded(run, readings[method.name], meaning) for run in runs]
    scored = {name: [score_pairs(run, meaning, warping=terms.warping) for run in runs] for name, runs in pairs.items()}
    headlines = HEADLINES[meaning.task]
    comparison = {"task": meaning.task, "names": [t.name for t in chosen], **compare_scores(scored, seed=terms.seed)}
    comparison["cost"] = _costs(methods, chosen, models, terms.device) if terms.cost else {}
    words = verdicts(comparison, headlines)
    _write_tables(out, pairs, scored, meaning.task)
    report = out / "report.html"
    firsts = {name: runs[0] for name, runs in pairs.items()}
    write_comparison_page(report, comparison, words, said, chosen, firsts, _origin(methods, models, terms.command))
    return Comparison({**comparison, "verdicts": words, "statements": said}, tuple(words), tuple(said), report)


def _origin(methods: Sequence[Method], models: Mapping[Path, Model], command: str) -> Origin:
    modelled = [method for method in methods if isinstance(method, Modelled)]
    first = {method.name: [models[path] for path in method.runs[0]] for method in modelled}
    hashes = {method.name: [models[path].sha256 for run in method.runs for path in run] for method in modelled}
    folders = {method.name: str(method.folder) for method in methods if isinstance(method, Labelled)}
    return Origin(command, hashes, folders, {name: methods_of_average(of) for name, of in first.items()})


def check_methods(methods: Sequence[Method]) -> None:
    """Raise `UsageError` unless there are two or more, of different names that can name a folder."""
    names = [method.name for method in methods]
    if len(names) < 2:
        raise UsageError(
            f"{counted(len(names), 'method')} to compare; give two or more, as --model ours=my.safetensors "
            "--labels other=FOLDER"
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two methods are called {', '.join(twice)}; give each a name of its own, as NAME=FOLDER")
    if bad := [name for name in names if not name.strip(". ") or set(name) & set('/\\:*?"<>|')]:
        raise UsageError(f"method {bad[0]!r} cannot name a folder; call it otherwise, as NAME=FOLDER")


def check_labels(data: str | Path, methods: Sequence[Method], only: str | None, *, ndim: int | None = None) -> None:
    """Raise, before anything is trained, what `compare` would of label files that are missing.

    Without ``only`` the images are not known yet (a training chooses what it holds back): then the folders must hold
    labels at all.
    """
    folders = [method.folder for method in methods if isinstance(method, Labelled)]
    truths: Sequence[Truth] = ()
    if folders and only is not None:
        found, _, _ = read_truth(Path(data), ndim)
        truths, _ = choose_images(found, (), only)
    for folder in folders:
        find_predicted(folder, truths)


def choose_images(truths: Sequence[Truth], models: Sequence[Model], only: str | None) -> tuple[list[Truth], list[str]]:
    """The images to compare on, and why these: those asked for, those held back by every model, or all."""
    names = [t.name for t in truths]
    if only is not None:
        chosen = [truths[i] for i in select(names, only, "--only")]
        why = [f"compared on {_shown([t.name for t in chosen])}, as asked for"]
    else:
        held_back = [_same_images(model, truths, "validation_images") for model in models]
        kept = set(names).intersection(*held_back)
        chosen = [t for t in truths if t.name in kept]
        if chosen and models:
            why = [f"compared on {counted(len(chosen), 'image')} held back in training: {_shown(sorted(kept))}"]
        elif models and any(held_back):
            raise UsageError("the models held back different images, none in common; name images with --only")
        else:
            chosen = list(truths)
            why = [
                f"compared on all {counted(len(chosen), 'image')}"
                + (": no model held back any of them" if models else "")
            ]
    learnt = {name for model in models for name in _same_images(model, truths, "training_images")}
    if seen := [t.name for t in chosen if t.name in learnt]:
        why.append(f"careful: a model learnt from {_shown(seen)}, so its scores there are too good")
    elif any(t.name in _same_images(model, truths, "validation_images") for model in models for t in chosen):
        why.append(
            "a model's weights and post-processing were chosen on these images, so its scores are slightly optimistic"
        )
    return chosen, why


def _same_images(model: Model, truths: Sequence[Truth], which: str) -> set[str]:
    """Names of those images here that the training of a model lists under ``which``; of none that are only called so.

    A file of before pixels were noted goes by names. A model that lists nothing is taken to have held back all.
    """
    listed, pixels = model.training.get(which), model.training.get("image_sha256", {})
    if listed is None:
        return {truth.name for truth in truths} if which == "validation_images" else set()
    return {t.name for t in truths if t.name in listed and _is_same(model, t, pixels.get(t.name))}


def _is_same(model: Model, truth: Truth, pixels: str | None) -> bool:
    """Whether an image has these pixels in the model's channels; also where neither is known."""
    if pixels is None or truth.image is None:
        return True
    try:
        return image_digest(channels_of(model, truth.example)) == pixels
    except BiounetError:  # of other channels
        return False


def _legends(methods: Sequence[Method], models: Mapping[Path, Model]) -> dict[str, Legend]:
    """What the models, and ``run.json`` beside labels, say of predicted values, by method; where they say anything."""
    found: dict[str, Legend] = {}
    for method in methods:
        if isinstance(method, Labelled):
            legend = legend_of(method.folder)
        else:
            each = [models[path] for run in method.runs for path in run]
            if len({(m.task, m.ndim, len(m.classes), m.values, m.unlabelled) for m in each}) > 1:
                raise DataError(
                    f"--model {method.name}: its models were trained for different classes; compare them apart"
                )
            first = each[0]
            legend = Legend(first.task, first.classes, first.values, first.unlabelled, first.ndim)
        if legend is not None:
            found[method.name] = legend
    return found


def _refuse_other_axes(legends: Mapping[str, Legend], truths: Sequence[Truth], modelled: set[str]) -> None:
    """Raise `UsageError` for a model of planes where images are volumes here, and the other way round."""
    here = {truth.labels.ndim for truth in truths}
    for name in modelled & set(legends):
        ndim = legends[name].ndim
        if ndim is not None and here - {ndim}:
            raise UsageError(
                f"--model {name}: learnt {ndim}D images, and they are {max(here)}D here; predict with it first, then "
                f"compare --labels {name}=FOLDER, with --ndim {max(here)}"
            )


def _said_of_scale(methods: Sequence[Method], models: Mapping[Path, Model], truths: Sequence[Truth]) -> list[str]:
    """Which models get images at another pixel size than theirs."""
    said = []
    for method in methods:
        model = models[method.runs[0][0]] if isinstance(method, Modelled) else None
        scaled = [t.name for t in truths if model is not None and needs_scale(model, t.example.pixel_size_um)]
        if model is not None and model.pixel_size_um is not None and scaled:
            said.append(f"{method.name}: resampled to {show_size(model.pixel_size_um)} a pixel: {_shown(scaled)}")
    return said


def _labels(methods: Sequence[Method], truths: Sequence[Truth], legends: Mapping[str, Legend]) -> dict[str, list[Pair]]:
    """The label files of each method that has some beside the truth, values as they stand there."""
    return {
        m.name: [replace(pair, probabilities=None) for pair in find_pairs(m.folder, truths, legends.get(m.name))]
        for m in methods
        if isinstance(m, Labelled)
    }


def _readings(
    methods: Sequence[Method], labels: Mapping[str, list[Pair]], legends: Mapping[str, Legend], meaning: Meaning
) -> dict[str, Reading]:
    """What the values of each method mean. Raises `DataError` for a model of another task."""
    readings = {}
    for name in (method.name for method in methods):
        legend = legends.get(name)
        if name in labels:
            readings[name] = read_values(labels[name], meaning, legend)
        elif legend is not None and legend.task == meaning.task:
            readings[name] = reading_told(legend, meaning) if meaning.task == "classes" else AS_THEY_ARE
        elif legend is not None:
            raise DataError(
                f"--model {name}: was trained for {legend.task} ({', '.join(legend.classes)}), but the labels here are "
                f"{meaning.task} ({meaning.reason}); --task overrides that"
            )
    return readings


def _predicted(
    method: Modelled, truths: Sequence[Truth], models: Mapping[Path, Model], out: Path, device: str
) -> list[list[Pair]]:
    """For every run of the method its labels beside the truth, values as the models give them; written as well."""
    runs = []
    for number, files in enumerate(method.runs):
        averaged = [models[path] for path in files]
        folder = out / method.name if len(method.runs) == 1 else out / method.name / f"run{number}"
        engines = [make_engine(model, device=device) for model in averaged]
        pairs = []
        for truth in truths:
            labels = predict_averaged(averaged, engines, truth)
            write_labels(folder / f"{truth.name}_labels.tif", labels)
            pairs.append(Pair(truth.name, labels, truth.labels, None))
        write_legend(folder, averaged)
        runs.append(pairs)
    return runs


def _costs(
    methods: Sequence[Method], truths: Sequence[Truth], models: Mapping[Path, Model], device: str
) -> dict[str, Any]:
    """By name what a prediction of the largest image costs with each model (its first run)."""
    largest = max(truths, key=lambda truth: truth.labels.size)
    costs = {}
    for method in methods:
        if isinstance(method, Modelled) and largest.image is not None:
            files = method.runs[0]
            costs[method.name] = prediction_cost(files, channels_of(models[files[0]], largest.example), device=device)
    return costs


def _write_tables(out: Path, pairs: Mapping[str, list[list[Pair]]], scored: Mapping[str, Any], task: Task) -> None:
    image_rows, objects = [], []
    for method, runs in pairs.items():
        for number, (run, found) in enumerate(zip(runs, scored[method], strict=True)):
            for pair, (name, scores) in zip(run, found.images, strict=True):
                place = {"method": method, "run": number, "image": name}
                image_rows.append(place | image_row(scores))
                objects += [place | row for row in object_rows(pair.predicted, pair.true, task)]
    write_csv(out / "images.csv", image_rows)
    write_csv(out / "objects.csv", objects)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
