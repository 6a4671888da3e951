"""Several networks trained on the same images, each as often as asked, into one folder; resumable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biounet.errors import UsageError
from biounet.settings import NETWORK_TAKES, read_settings
from biounet.training.events import Listener
from biounet.training.run_files import RunFiles
from biounet.training.train import train
from biounet.workflows.compare import Modelled, Tell


@dataclass(frozen=True)
class Training:
    """How every method is trained: settings over the preset, time or steps, seeds 0 to ``seeds`` - 1."""

    preset: str = "standard"
    overrides: tuple[str, ...] = ()
    steps: int | None = None
    budget: float | None = None
    seeds: int = 1
    validation: str | None = None
    task: str | None = None
    unlabelled: str | None = None
    object_classes: bool = True
    device: str = "auto"


def train_methods(
    data: str | Path, networks: Sequence[str], out: str | Path, how: Training, *, tell: Tell, listen: Listener
) -> list[Modelled]:
    """Train each network with each seed; models and run folders lie in ``out/models``.

    A model that is there is kept, an interrupted run goes on. A setting that a network does not have
    is left out for it, as long as one of the others has it. Raises `UsageError` for networks that there
    are not, and for settings that none of them has.
    """
    settings = {name: _settings(name, networks, how) for name in networks}
    methods = []
    for name in networks:
        runs = []
        for seed in range(how.seeds):
            path = Path(out) / "models" / f"{name}-seed{seed}.safetensors"
            runs.append((path,))
            if path.exists() and not RunFiles(path).is_unfinished:
                tell(f"{path}: trained before")
                continue
            tell(f"training {name}, seed {seed}")
            options: dict[str, Any] = {"steps": how.steps, "budget": how.budget, "seed": seed, "device": how.device}
            train(data, path, settings=settings[name], existing="resume", listen=listen, **options)
        methods.append(Modelled(name, tuple(runs)))
    return methods


def _settings(name: str, networks: Sequence[str], how: Training) -> Any:
    """The settings of one network: of the overrides those that it has."""
    unknown = [network for network in networks if network not in NETWORK_TAKES]
    if unknown or len(set(networks)) < len(networks):
        raise UsageError(f"--methods {','.join(networks)}: choose from {', '.join(NETWORK_TAKES)}, each once")
    if how.seeds < 1:
        raise UsageError(f"--seeds {how.seeds}: must be at least 1")
    elsewhere = {key for other in networks for key in NETWORK_TAKES[other]} - set(NETWORK_TAKES[name])
    kept = [text for text in how.overrides if text.partition("=")[0].strip() not in _dotted(elsewhere)]
    values = {
        "network.name": name,
        "data.validation": how.validation,
        "data.task": how.task,
        "data.unlabelled": how.unlabelled,
        "data.object_classes": None if how.object_classes else False,  # on: as the overrides have it
    }
    return read_settings(how.preset, overrides=kept, values=values)


def _dotted(keys: set[str]) -> set[str]:
    return {f"network.{key}" for key in keys}
