"""The command that trains a model again, from the facts in its file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from biounet.settings import NETWORK_TAKES, dotted, read_settings

_NOT_GIVEN = {"preset", "network.name", "data.validation"}  # by options of their own


def repeat_command(training: Mapping[str, Any]) -> str:
    """``biounet train`` with the steps, the seed and every setting that is not the preset's.

    ``training``: the facts of a model file. DATA, MODEL and, where the run went on from a model, START stand
    for paths, which a model file does not keep.
    """
    settings = training["settings"]
    network = settings["network"]["name"]
    words = ["biounet", "train", "DATA", "--out", "MODEL.safetensors", "--preset", settings["preset"]]
    if network != "unet":
        words += ["--network", network]
    if training["from"]:
        words += ["--from", "START.safetensors"]
    words += ["--steps", str(training["steps"]), "--seed", str(training["seed"])]
    if "folds" in training:
        words += ["--folds", str(training["folds"]), *["--refit"] * bool(training.get("refit"))]
    if (held_back := settings["data"]["validation"]) is not None:
        words += ["--validation", held_back]
    usual = dict(dotted(read_settings(settings["preset"], values={"network.name": network}).model_dump(mode="json")))
    for name, value in dotted(settings):
        section, _, key = name.partition(".")
        taken = section != "network" or key in NETWORK_TAKES.get(network, ())
        if name not in _NOT_GIVEN and taken and value != usual[name]:
            words += ["--set", f"{name}={json.dumps(value)}"]
    return shlex.join(words)
