"""One model of several: their networks as members of an ensemble, in one file like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from biounet.errors import UsageError
from biounet.inference.exported import open_model
from biounet.inference.torch_engine import TorchEngine, torch_network
from biounet.model_file import Model, save_model
from biounet.networks.ensemble import Ensemble

_GOLDEN_OUTPUT = 16  # pixels a side, at least
_ALIKE = ("task", "classes", "values", "channels", "normalisation")
_SAME_SIZE = 1.05  # pixel sizes that differ by less are taken as equal, as in prediction


def ensemble(models: Sequence[Model | str | Path], out: str | Path | None = None) -> Model:
    """The model that predicts the mean of the probabilities of several models, as one file if ``out`` is given.

    ``models``: models or their files, of any networks here, trained for the same task, classes and channels with the
    same normalisation, at one pixel size where they state it (Ciresan et al. 2012 averaged four networks with windows
    of different size). Post-processing and pixel size are the first one's. Raises `UsageError` where models do not fit
    each other, and where ``out`` is there already.
    """
    if out is not None and Path(out).exists():
        raise UsageError(f"{out}: is there already; choose another name, or remove it first")
    members = [model if isinstance(model, Model) else open_model(model) for model in models]
    made = joined(members, training=_training(members))
    return made if out is None else replace(made, sha256=save_model(out, made))


def joined(
    members: Sequence[Model], *, training: Mapping[str, Any], postprocessing: Mapping[str, Any] | None = None
) -> Model:
    """The ensemble of these models, with a golden sample of its own; the rest is the first one's.

    ``training``: where it comes from. Raises `UsageError` as `ensemble` does.
    """
    _refuse_unlike(members)
    first = members[0]
    networks = [torch_network(member) for member in members]
    network = Ensemble(networks).eval()
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    made = replace(
        first,
        network=network.description,
        geometry=network.geometry,
        weights=weights,
        postprocessing=first.postprocessing if postprocessing is None else postprocessing,
        training=training,
        sha256="",
    )
    size = made.geometry.input_size((_GOLDEN_OUTPUT,) * made.ndim)
    golden = np.random.default_rng(0).standard_normal((1, len(made.channels), *size)).astype(np.float32)
    return made.with_golden(golden, TorchEngine(network)(golden))


def _refuse_unlike(members: Sequence[Model]) -> None:
    if not members:
        raise UsageError("an ensemble of 0 models: give at least one")
    for member in members:
        if member.exported is not None:
            raise UsageError(f"{member.exported.file}: is an exported form; give the model file it was made from")
        if member.network.get("name") == "foreign":
            raise UsageError("a network of one's own cannot be a member of an ensemble, as no file can build it")
    for name in _ALIKE:
        values = [getattr(member, name) for member in members]
        differing = next((value for value in values if value != values[0]), None)
        if differing is not None:
            raise _unlike(name, values[0], differing)
    sizes = [member.pixel_size_um for member in members if member.pixel_size_um is not None]
    for size in sizes[1:]:
        # members of 2D and 3D are refused by their networks
        if any(max(a / b, b / a) >= _SAME_SIZE for a, b in zip(sizes[0], size, strict=False)):
            raise _unlike("pixel size (um)", sizes[0], size)


def _unlike(what: str, one: Any, other: Any) -> UsageError:
    return UsageError(
        f"members of an ensemble must be alike, but their {what} differs: {_shown(one)} and {_shown(other)}; "
        "average models that were trained for the same"
    )


def _training(members: Sequence[Model]) -> dict[str, Any]:
    """Where an ensemble of given models comes from. Held back are the images that no member learnt from."""
    known = [member.training for member in members]
    learnt = sorted({name for one in known for name in one.get("training_images", ())})
    held = [set(one.get("validation_images", ())) for one in known]
    sums = [member.sha256 for member in members]
    return {
        **(known[0] if known else {}),
        "members": sums,
        "image_sha256": {name: of for one in known for name, of in one.get("image_sha256", {}).items()},
        "score": None,
        "training_images": learnt,
        "validation_images": sorted(set.intersection(*held).difference(learnt)) if held else [],
        "statements": [f"ensemble of {len(members)} models: {', '.join(name[:12] for name in sums)}"],
    }


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
