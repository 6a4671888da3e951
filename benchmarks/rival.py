"""MONAI's BasicUNet trained on the same images as biounet, for the same time, with the same samples, scored alike.

    python benchmarks/rival.py DATA --out FOLDER --validation 'images 30-39' --budget 5min --learning-rate 1e-3

The same: images, held-back images, normalisation, augmentation, targets, precision, number of validations, how objects
are made of probabilities and tuned, and (about) the operations per pixel, which its width is chosen by. Its own: padded
convolutions with instance normalisation, the loss (the sum of Dice and cross-entropy of its DiceCELoss, here over
annotated pixels), AdamW with a cosine schedule, and `sliding_window_inference` with its defaults. FOLDER gets
``predicted/NAME_labels.tif`` of the held-back images and ``run.json``; an interrupted run is begun anew.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import BasicUNet
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from biounet.datasets.layouts import find_dataset
from biounet.images.writing import whole_file, write_labels
from biounet.inference.predict import instance_settings
from biounet.labels.instances import instances
from biounet.planning.data import TrainingData, read_training_data
from biounet.planning.plan import Plan, make_plan
from biounet.samples.sampler import Sampler
from biounet.settings import read_settings
from biounet.training.batches import batches
from biounet.training.budget import parse_duration
from biounet.training.loop import learning_rate, validation_steps
from biounet.training.validate import Validator, mean_scores

_PERIOD = 16  # of its four poolings
_WARM_UP, _TIMED = 3, 12
_FINISHING_SHARE = 0.03  # of the budget, as biounet keeps it


class Rival:
    """A BasicUNet of as many operations per pixel as the plan's network, its samples and its scores."""

    def __init__(self, data: TrainingData, plan: Plan, seed: int, rate: float) -> None:
        self.data, self.plan, self.seed = data, plan, seed
        self.settings = plan.settings.training.model_copy(update={"learning_rate": rate})
        sides = [max(_PERIOD, n // _PERIOD * _PERIOD) for n in plan.sampler.output_size]
        self.tile = tuple(sides)
        self.sampler: Sampler = replace(plan.sampler, input_size=self.tile, output_size=self.tile, margin=(0, 0))
        self.width, self.flops = self._width()
        torch.manual_seed(seed)
        self.network = self._network(self.width)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=rate, weight_decay=1e-2)
        self.validator = Validator(
            plan.split.validation, plan.normalisation, data.meaning.task, data.classes, "fp32",
            cell_classes=data.meaning.cell_classes,
        )  # fmt: skip

    def _network(self, width: int) -> BasicUNet:
        features = (width, width, 2 * width, 4 * width, 8 * width, width)
        return BasicUNet(2, self.data.channels, self.data.classes, features=features)

    def _width(self) -> tuple[int, dict[str, float]]:
        """The width whose operations per pixel of output come closest to those of the plan's network."""
        of = {"biounet": flops(self.plan.network, self.data.channels, self.plan.sampler.input_size)}
        of["biounet"] /= math.prod(self.plan.sampler.output_size)
        counted = {w: flops(self._network(w), self.data.channels, (64, 64)) / 64**2 for w in range(4, 65, 2)}
        width = min(counted, key=lambda w: abs(math.log(counted[w] / of["biounet"])))
        return width, of | {"rival": counted[width]}

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.plan.precision == "bf16")

    def step(self, batch: Any, rate: float) -> float:
        """One step on a batch; its loss."""
        self.network.train()
        self.optimizer.param_groups[0]["lr"] = rate
        with self._autocast():
            logits = self.network(torch.from_numpy(batch.image))
        loss = dice_and_cross_entropy(logits.float(), torch.from_numpy(batch.target).long())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def probabilities(self) -> list[Any]:
        """Of every held-back image, (K, Y, X)."""
        self.network.eval()
        found = []
        for image in self.validator.images:
            with self._autocast():
                logits = sliding_window_inference(torch.from_numpy(image[None]), self.tile, 1, self.network)
            found.append(torch.softmax(logits[0].float(), 0).numpy())
        return found

    def score(self) -> float:
        """What the weights are chosen by, as in biounet."""
        return mean_scores(self.validator.scores_of_each(self.probabilities(), self.validator.untuned))["selection"]

    def affordable(self, budget_s: float) -> int:
        """Steps that a budget buys beside the validations, from steps and a validation that are timed and undone."""
        start = time.perf_counter()
        before = {name: value.clone() for name, value in self.network.state_dict().items()}
        ends = []
        for batch in self._batches(_WARM_UP + _TIMED):
            self.step(batch, 0.0)
            ends.append(time.perf_counter())
        step_s = (ends[-1] - ends[_WARM_UP - 1]) / _TIMED
        began = time.perf_counter()
        self.score()
        validation_s = time.perf_counter() - began
        self.network.load_state_dict(before)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.0, weight_decay=1e-2)
        left = budget_s * (1 - _FINISHING_SHARE) - (time.perf_counter() - start)
        return max(1, int((left - self.settings.validations * validation_s) / step_s))

    def train(self, steps: int) -> dict[str, Any]:
        """Train; leaves the weights that scored best and returns their score and step."""
        best: dict[str, Any] = {"score": -math.inf}
        due = validation_steps(steps, self.settings.validations)
        for number, batch in enumerate(self._batches(steps), start=1):
            self.step(batch, learning_rate(number - 1, steps, self.settings))
            if number in due and (score := self.score()) >= best["score"]:
                weights = {name: value.clone() for name, value in self.network.state_dict().items()}
                best = {"score": score, "step": number, "weights": weights}
        self.network.load_state_dict(best.pop("weights"))
        return best

    def _batches(self, steps: int) -> Any:
        return batches(self.sampler, seed=self.seed, samples=(0, self.settings.batch_size), first=0, stop=steps)

    def write(self, folder: Path) -> None:
        """Labels of the held-back images, post-processing tuned on them as in biounet.

        Pages of a stack come in one file, as biounet writes them; those that are not held back stay empty.
        """
        probabilities = self.probabilities()
        tuned = self.validator.tune(probabilities)
        found = {}
        for example, values in zip(self.validator.examples, probabilities, strict=True):
            task = self.data.meaning.task
            labels = values.argmax(0) if task == "classes" else instances(1 - values[0], instance_settings(tuned))
            found[example.name] = labels.astype(np.int32)
        for name in dict.fromkeys(name.partition("[")[0] for name in found):
            pages = [e for e in self.data.examples if e.name.partition("[")[0] == name]
            every = [found.get(e.name, np.zeros(e.labels.shape, np.int32)) for e in pages]
            write_labels(folder / f"{name}_labels.tif", every[0] if len(every) == 1 else np.stack(every))


def dice_and_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum of cross-entropy and 1 - Dice (mean over classes, background too) over annotated pixels."""
    known = targets >= 0
    entropy = functional.cross_entropy(logits, targets, ignore_index=-1)
    probabilities = torch.softmax(logits, 1) * known[:, None]
    true = functional.one_hot(targets.clamp_min(0), logits.shape[1]).movedim(-1, 1) * known[:, None]
    over = (0, 2, 3)
    dice = (2 * (probabilities * true).sum(over) + 1e-5) / (probabilities.sum(over) + true.sum(over) + 1e-5)
    return entropy + 1 - dice.mean()


def flops(network: torch.nn.Module, channels: int, size: Any) -> float:
    """Operations of one pass over a tile."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, channels, *size))
    return float(counter.get_total_flops())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--validation", required=True)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="settings of biounet's plan")
    limit = parser.add_mutually_exclusive_group(required=True)
    limit.add_argument("--budget")
    limit.add_argument("--steps", type=int)
    parser.add_argument("--plan", action="store_true", help="print the steps that the budget buys, and end")
    options = parser.parse_args()
    start = time.perf_counter()
    settings = read_settings("standard", overrides=options.set, values={"data.validation": options.validation})
    data = read_training_data(find_dataset(options.data), settings.data, skip_bad=False)
    plan = make_plan(data, settings, seed=options.seed)
    rival = Rival(data, plan, options.seed, options.learning_rate)
    steps = options.steps or rival.affordable(parse_duration(options.budget) - (time.perf_counter() - start))
    if options.plan:
        print(json.dumps({"steps": steps}))
        return
    found = rival.train(steps)
    rival.write(options.out / "predicted")
    facts = {
        "steps": steps, **found, "seconds": time.perf_counter() - start, "width": rival.width, "tile": rival.tile,
        "parameters": sum(p.numel() for p in rival.network.parameters()), "flops_per_pixel": rival.flops,
        "learning_rate": options.learning_rate,
    }  # fmt: skip
    with whole_file(options.out / "run.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
