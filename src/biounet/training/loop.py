"""The training loop: takes batches, moves weights, yields events. It prints and writes nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from biounet.networks.dropout import drawn_by_sample
from biounet.samples.sampler import Sample, Sampler
from biounet.settings import TrainingSettings
from biounet.training.batch_statistics import keep_batch_norm, steps_with_batch_statistics, train_mode
from biounet.training.batches import batches
from biounet.training.loss import loss_of, loss_sums
from biounet.training.patience import is_in_vain
from biounet.training.state import TrainingState
from biounet.training.together import ALONE, Together

Scores = dict[str, float]
Validate = Callable[[nn.Module], Scores]


@dataclass(frozen=True)
class StepDone:
    """One step: the loss of its batch, and how long it took."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Validated:
    """Scores of the averaged weights on the held-back images; ``scores["selection"]`` decides."""

    step: int
    steps: int
    scores: Scores
    is_best: bool
    seconds: float


Event = StepDone | Validated


def train_steps(
    state: TrainingState,
    sampler: Sampler,
    validate: Validate,
    settings: TrainingSettings,
    *,
    steps: int,
    seed: int,
    precision: str,
    dice: float = 0.0,
    together: Together = ALONE,
) -> Generator[Event, None, None]:
    """Go on from ``state.step`` to ``steps``, changing ``state``; an event after every step.

    After each event the state is complete: written then, it resumes exactly. Validation takes place
    at steps that follow from ``steps`` alone, not after a loss that is no number. Ends before ``steps`` where
    validations bring no gain, see `patience`. Closing the generator ends the workers that make the batches. Of
    processes ``together`` each makes its part of every batch and goes through the same events.
    """
    due = validation_steps(steps, settings.validations)
    if is_in_vain(state, due, settings):
        return
    stream = batches(
        sampler,
        seed=seed,
        samples=together.part(settings.batch_size),
        first=state.step,
        stop=steps,
        workers=settings.workers,
    )
    with reproducible(), closing(stream):
        for batch in stream:
            start = time.perf_counter()
            rate = learning_rate(state.step, steps, settings)
            keeps = state.step >= steps_with_batch_statistics(steps, settings)
            if state.step == steps_with_batch_statistics(steps, settings):
                keep_batch_norm(state.network, state.average, sampler, seed=seed, precision=precision)
            loss = train_step(
                state, batch, settings, rate=rate, seed=seed, precision=precision, keeps=keeps, dice=dice,
                together=together,
            )  # fmt: skip
            state.step += 1
            average_weights(state, steps, settings.averaging)
            validated = None
            seconds = time.perf_counter() - start
            if state.step in due and math.isfinite(loss):
                validated = _validated(state, validate, steps)
            yield StepDone(state.step, steps, loss, rate, seconds)
            if validated is not None:
                yield validated
                if is_in_vain(state, due, settings):
                    return


def train_step(
    state: TrainingState,
    batch: Sample,
    settings: TrainingSettings,
    *,
    rate: float,
    seed: int,
    precision: str,
    keeps: bool = False,
    dice: float = 0.0,
    together: Together = ALONE,
) -> float:
    """One step of the optimiser on a batch; returns the loss.

    The units that dropout leaves out of a sample follow from (seed, step, its position in the global batch). What a
    network of one's own draws otherwise is seeded by (seed, step) and the process. Where it ``keeps`` the statistics
    of batch normalisation, those of the batch do not matter.

    ``dice`` weighs the Dice loss beside the cross-entropy, see `loss.loss_of`. Of several processes each has a part
    of the batch; the loss is that of all parts together.
    """
    device = next(state.network.parameters()).device
    images = torch.from_numpy(batch.image).to(device)
    if images.ndim == 4:
        images = images.contiguous(memory_format=torch.channels_last)
    targets = torch.from_numpy(batch.target).to(device)
    weights = torch.from_numpy(batch.weights).to(device)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    train_mode(state.network, keeps=keeps)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(_drawn(seed, state.step, together.rank))
        first, _ = together.part(settings.batch_size)
        seeds = [_drawn(seed, state.step, first + index) for index in range(len(images))]
        with (
            drawn_by_sample(state.network, seeds),
            torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"),
        ):
            logits = together.forward(state.network)(images)
    sums = loss_sums(logits, targets, weights, with_dice=dice > 0)
    # the values of all processes with this one's gradient, of which going backward takes the mean over them
    loss = loss_of(together.total(sums.detach()) + (sums - sums.detach()) * together.size, dice)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if settings.clip > 0:
        nn.utils.clip_grad_norm_(state.network.parameters(), settings.clip)
    state.optimizer.step()
    return float(loss.detach())


def learning_rate(step: int, steps: int, settings: TrainingSettings) -> float:
    """The rate of a step: linear warm-up, then constant or down to zero along a half cosine."""
    warmup = settings.warmup * steps
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    if settings.schedule == "constant":
        return settings.learning_rate
    done = (step - warmup) / max(1.0, steps - warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


@torch.no_grad()
def average_weights(state: TrainingState, steps: int, share: float) -> None:
    """Exponential average of the weights over about ``share`` of the run; early on over less.

    With share 0 the average is the network itself. Counters and other integers are copied.
    """
    horizon = min(share * steps, state.step / 3)  # in the beginning only what has been seen
    decay = math.exp(-1 / horizon) if horizon > 0 else 0.0
    source = state.network.state_dict()
    for name, value in state.average.state_dict().items():
        if decay > 0 and value.is_floating_point():
            value.lerp_(source[name].to(value.dtype), 1 - decay)
        else:
            value.copy_(source[name])


def validation_steps(steps: int, validations: int) -> frozenset[int]:
    """The steps after which held-back images are scored: evenly spaced, the last one always."""
    count = min(steps, validations)
    return frozenset(round(steps * (k + 1) / count) for k in range(count))


@contextmanager
def reproducible() -> Iterator[None]:
    """Same seed, same result: cuDNN held to deterministic algorithms and to true fp32."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32)
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = True, False, False, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before


def _drawn(*entropy: int) -> int:
    """A seed for torch that follows from these numbers."""
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def _validated(state: TrainingState, validate: Validate, steps: int) -> Validated:
    start = time.perf_counter()
    scores = validate(state.average)
    score = scores["selection"]
    before = -math.inf if state.best_score is None else state.best_score
    best = math.isfinite(score) and score >= before
    if best:
        if score > before:
            state.gain_step = state.step
        state.best = {name: value.detach().clone() for name, value in state.average.state_dict().items()}
        state.best_step, state.best_score = state.step, score
    return Validated(state.step, steps, scores, best, time.perf_counter() - start)
