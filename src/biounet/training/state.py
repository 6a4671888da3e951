"""Everything a run needs to go on as if it had never stopped, in one safetensors file.

Weights, their running average, the best weights so far, the optimiser and the step, with a SHA-256
over all of it. Samples need no state: each is a function of (seed, step, index). Written whole or
not at all; no pickle.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from biounet.errors import DataError, UsageError
from biounet.images.writing import whole_file
from biounet.settings import TrainingSettings, dotted

# Facts that a resume may change: rounding depends on them, and on the kind of device what dropout leaves out.
MAY_DIFFER = ("threads", "device", "processes")
NO_FACTS = {"training": {"state_seconds", "workers"}}  # settings that change no result, and stand in no model file

_KEY = "biounet_state"
_MOST_NAMED = 5


@dataclass
class TrainingState:
    """A network in training. ``average`` is what is validated and saved as the model.

    ``facts``: plain values, as JSON has them, that must be equal for a resume to be exact (steps, seed,
    settings, hash of the data, threads). ``best`` maps names to tensors of the best average so far (of equals the
    last), that of ``best_step``; ``gain_step``: the last one whose score was above all before it.
    """

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    facts: dict[str, Any]
    step: int = 0
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    best_step: int = 0
    best_score: float | None = None
    gain_step: int = 0


def new_state(network: nn.Module, settings: TrainingSettings, facts: dict[str, Any]) -> TrainingState:
    """A state at step 0."""
    average = copy.deepcopy(network).eval().requires_grad_(False)
    return TrainingState(network, average, make_optimizer(network, settings), facts)


def make_optimizer(network: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """SGD with momentum as in the paper, or AdamW; weight decay acts on convolutions, not on biases."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(settings.momentum, 0.999))


def write_state(path: Path, state: TrainingState) -> None:
    """Write the state, whole or not at all."""
    data = pack_state(state)
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def pack_state(state: TrainingState) -> bytes:
    """The content of a state file."""
    tensors = {f"network.{k}": v for k, v in state.network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in state.average.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in state.best.items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in values.items() if v is not None}
    metadata = {
        "facts": state.facts,
        "step": state.step,
        "best_step": state.best_step,
        "best_score": state.best_score,
        "gain_step": state.gain_step,
    }
    plain = _plain(tensors)
    metadata["sha256"] = _digest(plain, metadata)
    packed: bytes = save_tensors(plain, {_KEY: json.dumps(metadata, sort_keys=True)})
    return packed


def read_facts(path: Path) -> tuple[dict[str, Any], int]:
    """Facts and step of a state file; `DataError` when it is damaged."""
    metadata, _ = _unpacked(_content(path), str(path))
    return metadata["facts"], int(metadata["step"])


def read_state(path: Path, state: TrainingState) -> None:
    """Fill ``state`` from a file written for the same run.

    Raises `DataError` for a damaged file, `UsageError` when facts differ, naming them.
    """
    unpack_state(_content(path), state, str(path))


def unpack_state(data: bytes, state: TrainingState, source: str) -> None:
    """Fill ``state`` from what `pack_state` made of one of the same run.

    Errors as of `read_state`, naming ``source``.
    """
    metadata, tensors = _unpacked(data, source)
    differing = differing_facts(metadata["facts"], state.facts)
    if differing:
        more = " and more" if len(differing) > _MOST_NAMED else ""
        raise UsageError(
            f"{source}: was written with {', '.join(differing[:_MOST_NAMED])}{more}; "
            "give the same options as before, or --overwrite to start anew"
        )
    try:
        state.network.load_state_dict(_part(tensors, "network."))
        state.average.load_state_dict(_part(tensors, "average."))
        _load_optimizer(state.optimizer, _part(tensors, "optimizer."))
    except (RuntimeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[:2][-1].strip()  # torch lists every tensor, a line each, under a title
        raise DataError(f"{source}: does not fit this run ({reason}); --overwrite starts anew") from error
    state.best = _part(tensors, "best.")
    state.step, state.best_step = int(metadata["step"]), int(metadata["best_step"])
    state.best_score, state.gain_step = metadata["best_score"], int(metadata["gain_step"])


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    values = optimizer.state_dict()
    values["state"] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        values["state"].setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(values)
    for parameter, state in optimizer.state.items():
        for key, tensor in state.items():
            if tensor.shape == parameter.shape:
                # laid out as the parameter is: otherwise slower loops are taken, and they may round differently
                state[key] = torch.empty_like(parameter).copy_(tensor)


def _plain(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """On the CPU, contiguous, no two in the same memory (safetensors refuses tied weights)."""
    plain: dict[str, torch.Tensor] = {}
    taken = set()
    for name, value in tensors.items():
        tensor = value.detach().cpu().contiguous()
        plain[name] = tensor.clone() if tensor.data_ptr() in taken else tensor
        taken.add(tensor.data_ptr())
    return plain


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def differing_facts(written: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Each fact that is not as it was, in words; groups are compared entry by entry."""
    before, after = dict(dotted(written)), dict(dotted(now))
    return [
        f"{name} {before.get(name)!r} (now {after.get(name)!r})"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name) and name not in MAY_DIFFER
    ]


def _digest(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: not a readable training state; --overwrite starts anew") from error


def _unpacked(data: bytes, source: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        tensors = load_tensors(data)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_KEY])
        stated = metadata.pop("sha256")
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{source}: not a readable training state; --overwrite starts anew") from error
    if stated != _digest(tensors, metadata):
        raise DataError(f"{source}: the content does not match its checksum; --overwrite starts anew")
    return metadata, tensors
