"""The runs behind docs/results.md: each trains, predicts and scores; continues where it stopped.

    python benchmarks/matrix.py                                   what there is
    python benchmarks/matrix.py cells --data DATA --out RESULTS   a group
    python benchmarks/matrix.py 'ablation/*seed0' --data DATA --out RESULTS
    python benchmarks/matrix.py replaced --data DATA --out RESULTS --budget 5min --plan     first, on an idle machine
    python benchmarks/matrix.py matrix --data DATA --out RESULTS --plan                     recipes and a rival, too

DATA holds the public sets, each in the layout of its own community: PhC-C2DH-U373, DIC-C2DH-HeLa (Cell
Tracking Challenge, sequence 01), dsb2018_u2os, dsb2018_mixed, isbi2012_em. A finished run is not done
again, an interrupted one goes on (`biounet train --resume`), so that the runs can be spread out or moved.
--plan turns the budgets of runs into steps and trains nothing; the runs that follow take those steps, so that
equal budgets stay equal whatever runs beside them later.
RESULTS/summary.md has a table for each group with commit, split, seed, steps and scores with intervals, and
the commands.

What is held back is a stretch of the sequence, or a block of the images by name, never neighbours picked
at random. Weights and post-processing are chosen on the images that are then scored, which is slightly
kind to every run. What the networks of a group differ by, with paired intervals: `biounet compare DATA/isbi2012_em
--model unet=RESULTS/replaced/em-unet/model.safetensors --model fcn8s=... --only 'slices 18-23'`.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from biounet.datasets.layouts import find_dataset
from biounet.datasets.selection import select
from biounet.evaluation.files import evaluate_files
from biounet.images.writing import whole_file
from biounet.model_file import load_model, save_model
from common.runs import RATES, Run, held_back, prepared, runs

SCORES = {
    "instances": ("seg", "pq", "ap.0.50", "ap.0.75", "ap.0.90"),
    "classes": ("pixel_error", "v_rand", "v_info", "warping_error"),
}
NEAR_AND_FAR = ("pixel_error_near", "pixel_error_far")
EXPECTED = ("seg", "pq")  # of a model that chose itself what to hold back
_STEPS = "steps.json"  # in a run's folder: what its budget was turned into


def do(run: Run, root: Path, results: Path, device: str) -> None:
    """Bring one run to its end, from wherever it is."""
    folder = results / run.name
    if (folder / "scores.json").exists():
        print(f"{run.name}: done before")
        return
    data, truth = (prepared(name, root, results) for name in (run.data, run.truth or run.data))
    held = held_back(run, data)
    model = folder / "model.safetensors"
    if run.rival:
        do_rival(run, data, truth, folder, results)
        return
    if run.like:
        without_splitting(results / run.like / "model.safetensors", model)
    elif not model.exists() or (folder / "model.safetensors.run" / "state.safetensors").exists():
        biounet(folder, "train", *training_arguments(run, data, folder, device), *time_of(run, folder), "--resume")
    scored = run.scored or held
    items = find_dataset(truth).items
    files = dict.fromkeys(str(items[i].image.path) for i in select([x.name for x in items], scored, "--only"))
    save = ("--save", "labels,probabilities,overlay")
    biounet(folder, "predict", str(model), *files, "--out", str(folder / "predicted"), *save, "--device", device)
    save_scores(run, truth, folder, held, {**facts(model), **({} if held else {"expected": expected(model)})})


def save_scores(run: Run, truth: Path, folder: Path, held: str, known: dict[str, Any]) -> None:
    """Scores of the labels in ``folder/predicted``, with what is known of the training."""
    scored = run.scored or held
    found = biounet(folder, "evaluate", str(folder / "predicted"), str(truth), "--only", scored, "--json")
    result = json.loads(found)
    if run.border_px:
        result["mean"] |= near_and_far(folder / "predicted", truth, scored, run.border_px)
    save_json(folder / "scores.json", {"held_back": held, "scored": scored, **known, **result})


def do_rival(run: Run, data: Path, truth: Path, folder: Path, results: Path) -> None:
    """Train and score MONAI's BasicUNet; interrupted, it begins anew."""
    held, time = held_back(run, data), time_of(run, folder)
    words = [*rival_arguments(run, data, folder, results, held), *time]
    ran(folder, [str(Path(__file__).with_name("rival.py")), *words], "python benchmarks/rival.py", words)
    known = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    save_scores(run, truth, folder, held, known)


def rival_arguments(run: Run, data: Path, folder: Path, results: Path, held: str) -> list[str]:
    """Arguments of ``rival.py`` without its time."""
    rate = run.rival if run.rival != "best" else best_rate(run, results)
    settings = [word for setting in run.settings for word in ("--set", setting)]
    return [
        str(data),
        "--out",
        str(folder),
        "--validation",
        held,
        "--learning-rate",
        rate,
        "--seed",
        str(run.seed),
        *settings,
    ]


def best_rate(run: Run, results: Path) -> str:
    """The learning rate of the rival whose run with seed 0 scored best on the held-back images."""
    scores = {}
    for rate in RATES:
        file = results / run.name.replace("_best-", f"_{rate}-").replace(f"seed{run.seed}", "seed0") / "run.json"
        if file.exists():
            scores[rate] = json.loads(file.read_text(encoding="utf-8"))["score"]
    if not scores:
        sys.exit(f"{run.name}: needs the runs with seed 0; do those first")
    return max(scores, key=scores.__getitem__)


def plan(run: Run, root: Path, results: Path, device: str) -> None:
    """Turn the budget of a run that has not begun into steps, kept beside it."""
    folder = results / run.name
    if run.like or run.time[0] != "--budget" or (folder / _STEPS).exists() or planned_by(run) != run.name:
        return
    data = prepared(run.data, root, results)
    if run.rival:
        words = [*rival_arguments(run, data, folder, results, held_back(run, data)), *run.time, "--plan"]
        said = ran(folder, [str(Path(__file__).with_name("rival.py")), *words], "python benchmarks/rival.py", words)
        found = json.loads(said)
    else:
        arguments = training_arguments(run, data, folder, device)
        found = json.loads(biounet(folder, "train", *arguments, *run.time, "--dry-run", "--json"))
    save_json(folder / _STEPS, {"budget": run.time[1], "steps": found["steps"]})


def training_arguments(run: Run, data: Path, folder: Path, device: str) -> list[str]:
    """Arguments of ``biounet train`` without its time."""
    settings = [word for setting in run.settings for word in ("--set", setting)]
    preset = ["--preset", run.preset] if run.preset != "standard" else []
    held = held_back(run, data)  # empty: biounet chooses
    given = [
        *(("--validation", held) if held else ()),
        *run.options,
        "--seed",
        str(run.seed),
        *preset,
        *settings,
        "--device",
        device,
    ]
    return [str(data), "--out", str(folder / "model.safetensors"), *given]


def time_of(run: Run, folder: Path) -> tuple[str, ...]:
    """What limits a run: the steps that its budget, or one like it, was turned into before, or its own limit."""
    file = folder.parent / planned_by(run).rpartition("/")[2] / _STEPS
    if run.time[0] == "--budget" and file.exists():
        return ("--steps", str(json.loads(file.read_text(encoding="utf-8"))["steps"]))
    return run.time


def planned_by(run: Run) -> str:
    """The run whose plan holds for this one too: of the recipes that with seed 0 and the rival's middle rate."""
    if not run.name.startswith("matrix/"):
        return run.name
    return re.sub(r"seed\d+$", "seed0", re.sub("basicunet_[^-]+", f"basicunet_{RATES[1]}", run.name))


def limited(time: tuple[str, ...], steps: int | None, budget: str | None) -> tuple[str, ...]:
    """The limit of a run, or what --steps or --budget says instead."""
    if steps is not None:
        return ("--steps", str(steps))
    return ("--budget", budget) if budget is not None and time[0] == "--budget" else time


def near_and_far(predicted: Path, truth: Path, scored: str, border_px: int) -> dict[str, float]:
    """Pixel error of all scored images together, near a true border between classes and far from any."""
    wrong, count = [0, 0], [0, 0]
    for pair in evaluate_files(predicted, truth, only=scored, warping=False).pairs:
        known = pair.true >= 0
        inside = [ndimage.distance_transform_edt(pair.true == k) for k in np.unique(pair.true[known])]
        near = np.maximum.reduce(inside) <= border_px  # how deep a pixel lies in its class
        for place, mask in enumerate((near & known, ~near & known)):
            wrong[place] += int((pair.predicted != pair.true)[mask].sum())
            count[place] += int(mask.sum())
    return {f"pixel_error_{name}": w / max(1, n) for name, w, n in zip(("near", "far"), wrong, count, strict=True)}


def without_splitting(source: Path, target: Path) -> None:
    """A copy of a model whose post-processing splits nothing."""
    if not source.exists():
        sys.exit(f"{source}: is not there yet; do that run first")
    model = load_model(source)
    save_model(target, replace(model, postprocessing={**model.postprocessing, "split": None}))


def biounet(folder: Path, *arguments: str) -> str:
    """Run a command; what it printed."""
    return ran(folder, ["-m", "biounet", *arguments], "biounet", arguments)


def ran(folder: Path, words: Sequence[str], program: str, arguments: Sequence[str]) -> str:
    """Run Python with ``words``, noted in ``commands.txt``; what it printed. Ends this program where it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    commands = folder / "commands.txt"
    line = f"{program} {shlex.join(arguments)}"
    before = commands.read_text(encoding="utf-8") if commands.exists() else ""
    if f"\t{line}\n" not in before:
        commands.write_text(f"{before}{commit()}\t{line}\n", encoding="utf-8")
    print(line, flush=True)
    done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def commit() -> str:
    """The commit of the source, with a plus where files differ from it."""
    here = Path(__file__).parent
    found = [
        subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False).stdout.strip()
        for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
    ]
    return found[0] + "+" * bool(found[1])


def facts(model: Path) -> dict[str, Any]:
    """Steps and time of a training, from its run folder; of a changed copy there are none."""
    file = model.with_name(model.name + ".run") / "run.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def expected(model: Path) -> dict[str, Any]:
    """Mean scores that a model file says to expect on new images: of its folds, or of the images it held back."""
    training = load_model(model).training
    if "estimate" in training:
        return dict(training["estimate"]["mean"])
    return {name: float(np.mean(values)) for name, values in training["validation_scores"].items()}


def save_json(path: Path, values: dict[str, Any]) -> None:
    """Write values, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")


def summary(chosen: Iterable[Run], results: Path) -> str:
    """The finished runs in markdown, a table for each group, then every command."""
    done = [run for run in chosen if (results / run.name / "scores.json").exists()]
    lines = []
    for group in dict.fromkeys(run.name.partition("/")[0] for run in done):
        of_group = [run for run in done if run.name.startswith(f"{group}/")]
        found = [json.loads((results / run.name / "scores.json").read_text(encoding="utf-8")) for run in of_group]
        for task in dict.fromkeys(scores["task"] for scores in found):
            more = [name for name in NEAR_AND_FAR if any(name in scores["mean"] for scores in found)]
            more += [f"expected {name}" for name in EXPECTED if any("expected" in scores for scores in found)]
            header = ["run", "commit", "seed", "held back", "steps", "best", "seconds", *SCORES[task], *more]
            lines += [f"## {group}\n", row(header), row(["---"] * len(header))]
            lines += [line(run, s, results) for run, s in zip(of_group, found, strict=True) if s["task"] == task]
            lines.append("")
    commands = [(results / run.name / "commands.txt").read_text(encoding="utf-8") for run in done]
    lines += ["## Commands\n", *(f"    {line}" for text in commands for line in text.splitlines())]
    return "\n".join(lines) + "\n"


def line(run: Run, scores: dict[str, Any], results: Path) -> str:
    """One row of the summary."""
    noted = (results / run.name / "commands.txt").read_text(encoding="utf-8").splitlines()
    trained = [text for text in noted if "--dry-run" not in text and not text.endswith("--plan")]
    at = trained[0].partition("\t")[0]
    held = scores["held_back"] if len(scores["held_back"]) < 40 else f"{len(scores['images'])} images"
    cells = [run.name.partition("/")[2], at, run.seed, held, scores.get("steps", "-"), scores.get("step", "-")]
    cells.append(f"{scores.get('seconds', 0):.0f}")
    extra = [name for name in NEAR_AND_FAR if name in scores["mean"]]
    for path in (*SCORES[scores["task"]], *extra):
        name, _, key = path.partition(".")
        mean, ends = scores["mean"][name], scores["interval"].get(name)
        mean, ends = (mean[key], ends and ends[key]) if key else (mean, ends)
        cells.append("-" if mean is None else f"{mean:.3f}" + (f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else ""))
    cells += [f"{scores['expected'][name]:.3f}" for name in EXPECTED if "expected" in scores]
    return row(cells)


def row(cells: Sequence[object]) -> str:
    """A row of a markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("which", nargs="*", default=["*"], help="groups, or patterns of group/name")
    parser.add_argument("--data", type=Path, help="folder with the public sets")
    parser.add_argument("--out", type=Path, help="folder for the results; without it the runs are listed")
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--steps", type=int, help="this many steps for every run")
    limit.add_argument("--budget", help="this time for every run that has a time, as 5min")
    parser.add_argument("--plan", action="store_true", help="turn budgets into steps for later, train nothing")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    chosen = [r for r in runs() if any(fnmatch(r.name, w) or r.name.startswith(f"{w}/") for w in options.which)]
    if options.out is None or options.data is None:
        for run in chosen:
            what = f"without splitting: {run.like}" if run.like else " ".join((*run.time, *run.options, *run.settings))
            what = f"{what} rival {run.rival}" if run.rival else f"{what} {run.preset * (run.preset != 'standard')}"
            print(f"{run.name:40} {run.data:20} {run.held_back:30} {what}")
        print(f"{len(chosen)} runs; give --data and --out to do them")
        return
    for run in chosen:
        timed = replace(run, time=limited(run.time, options.steps, options.budget))
        (plan if options.plan else do)(timed, options.data, options.out, options.device)
        text = summary(runs(), options.out)
        (options.out / "summary.md").write_text(text, encoding="utf-8")
    print(summary(chosen, options.out))


if __name__ == "__main__":
    main()
