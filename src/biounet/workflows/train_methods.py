"""Several networks trained on the same images, each as often as asked, into one folder; resumable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biounet.datasets.selection import select
from biounet.errors import UsageError
from biounet.model_file import load_model
from biounet.planning.choices import choose
from biounet.planning.data import TrainingData, read_training_data
from biounet.settings import NETWORK_TAKES, Settings, read_settings
from biounet.training.budget import asked_budget
from biounet.training.events import Listener
from biounet.training.run_files import RunFiles
from biounet.training.state import NO_FACTS, differing_facts, read_facts
from biounet.training.train import train
from biounet.workflows.compare import Modelled, Tell

_MOST_NAMED = 5


@dataclass(frozen=True)
class Training:
    """How every method is trained: settings over the preset, time or steps, seeds 0 to ``seeds`` - 1.

    ``config``: a TOML or JSON file of settings, under the ``overrides``.
    """

    preset: str = "standard"
    config: Path | None = None
    overrides: tuple[str, ...] = ()
    steps: int | None = None
    budget: float | None = None
    seeds: int = 1
    validation: str | None = None
    task: str | None = None
    ndim: int | None = None
    unlabelled: str | None = None
    object_classes: bool = True
    device: str = "auto"


def train_methods(
    data: str | Path, networks: Sequence[str], out: str | Path, how: Training, *, tell: Tell, listen: Listener
) -> list[Modelled]:
    """Train each network with each seed; models and run folders lie in ``out/models``.

    A model that is there is kept, an interrupted run goes on, where they were begun with the same images, settings,
    seed, and steps or budget. A setting that a network does not have is left out for it, as long as one of the others
    has it. Raises `UsageError` for networks that there are not, for settings that none of them has, and for what was
    trained otherwise.
    """
    settings = {name: _settings(name, networks, how) for name in networks}
    models = Path(out) / "models"
    runs = {name: [RunFiles(models / f"{name}-seed{k}.safetensors") for k in range(how.seeds)] for name in networks}
    _refuse_others(runs, data, settings, how)
    for name in networks:
        for seed, files in enumerate(runs[name]):
            if files.is_finished:
                tell(f"{files.out}: trained before")
                continue
            tell(f"training {name}, seed {seed}")
            options: dict[str, Any] = {"steps": how.steps, "budget": how.budget, "seed": seed, "device": how.device}
            train(data, files.out, settings=settings[name], existing="resume", listen=listen, **options)
    return [Modelled(name, tuple((files.out,) for files in runs[name] if files.out)) for name in networks]


def _refuse_others(
    runs: Mapping[str, Sequence[RunFiles]], data: str | Path, settings: Mapping[str, Settings], how: Training
) -> None:
    """Raise, before anything is trained, where one was begun otherwise than it would be now; see `_refuse_other`."""
    begun = [
        (name, seed, files)
        for name, of_seeds in runs.items()
        for seed, files in enumerate(of_seeds)
        if files.is_finished or files.is_unfinished_run
    ]
    if begun:
        known = read_training_data(data, next(iter(settings.values())).data)  # read alike for every network
        for name, seed, files in begun:
            _refuse_other(files, known, settings[name], seed, how)


def _refuse_other(files: RunFiles, known: TrainingData, settings: Settings, seed: int, how: Training) -> None:
    """Raise `UsageError` naming what differs, where a run was begun otherwise than it would be now."""
    planned, _ = choose(settings, known.fingerprint, task=known.meaning.task)
    now = {"seed": seed, **planned.model_dump(mode="json", exclude=NO_FACTS)}
    written, digest, steps = _begun_with(files, known, settings.data.validation)
    differing = [] if digest == known.digest else ["other images or annotations"]
    differing += differing_facts(written, now)
    budget, asked = files.facts().get("budget_s"), asked_budget(how.steps, how.budget)
    before = f"{steps} steps" if budget is None else f"a budget of {budget:g} s"
    if asked is None and steps != how.steps:
        differing.append(f"{steps} steps (now {how.steps})")
    elif asked is not None and asked != budget:
        differing.append(f"{before} (now a budget of {asked:g} s)")
    if differing:
        more = " and more" if len(differing) > _MOST_NAMED else ""
        folder = "" if files.folder is None or not files.folder.exists() else f" and {files.folder.name}"
        raise UsageError(
            f"{files.out}: was trained with {', '.join(differing[:_MOST_NAMED])}{more}; give another --out, or remove "
            f"it{folder} to train anew"
        )


def _begun_with(files: RunFiles, known: TrainingData, validation: str | None) -> tuple[dict[str, Any], str, int]:
    """Seed and settings that a run was begun with, the digest of its data, and its steps.

    A model file names the images that were held back, however they were chosen: where ``validation`` names the same
    ones, it is as if it were written there.
    """
    if files.state is not None and files.is_unfinished_run:
        facts, _ = read_facts(files.state)
        return {"seed": facts["seed"], **facts["settings"]}, facts["data"], facts["steps"]
    assert files.out is not None
    facts = dict(load_model(files.out).training)
    if not {"seed", "settings", "steps", "data_sha256", "validation_images"} <= facts.keys():
        raise UsageError(
            f"{files.out}: does not say how it was trained; give another --out, or remove it to train anew"
        )
    settings = dict(facts["settings"])
    if validation is not None and settings["data"]["validation"] is not None:
        names = [example.name for example in known.examples]
        if [names[k] for k in select(names, validation, "--validation")] == facts["validation_images"]:
            settings["data"] = {**settings["data"], "validation": validation}
    return {"seed": facts["seed"], **settings}, facts["data_sha256"], facts["steps"]


def _settings(name: str, networks: Sequence[str], how: Training) -> Any:
    """The settings of one network: of those given the ones that it has."""
    unknown = [network for network in networks if network not in NETWORK_TAKES]
    if unknown or len(set(networks)) < len(networks):
        raise UsageError(f"--methods {','.join(networks)}: choose from {', '.join(NETWORK_TAKES)}, each once")
    if how.seeds < 1:
        raise UsageError(f"--seeds {how.seeds}: must be at least 1")
    elsewhere = {key for other in networks for key in NETWORK_TAKES[other]} - set(NETWORK_TAKES[name])
    values = {
        "network.name": name,
        "data.validation": how.validation,
        "data.task": how.task,
        "data.ndim": how.ndim,
        "data.unlabelled": how.unlabelled,
        "data.object_classes": None if how.object_classes else False,  # on: as the overrides have it
    }
    left_out = {f"network.{key}" for key in elsewhere}
    return read_settings(how.preset, file=how.config, overrides=how.overrides, values=values, left_out=left_out)
