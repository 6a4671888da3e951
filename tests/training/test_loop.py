import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from biounet.planning.data import read_training_data
from biounet.planning.plan import make_plan
from biounet.settings import TrainingSettings
from biounet.training import loop
from biounet.training.loop import (
    StepDone,
    Validated,
    average_weights,
    learning_rate,
    reproducible,
    train_step,
    train_steps,
    validation_steps,
)
from biounet.training.loss import weighted_cross_entropy
from biounet.training.state import TrainingState, new_state
from biounet.training.together import Together


@pytest.fixture
def start(cells, tiny):
    """A fresh state with its sampler and settings."""

    def make(*overrides, seed=0, preset="standard"):
        settings = tiny(*overrides, preset=preset)
        plan = make_plan(read_training_data(cells, settings.data), settings, seed=seed)
        network = plan.network.to(memory_format=torch.channels_last)
        return new_state(network, settings.training, {}), plan.sampler, settings.training

    return make


def run(state, sampler, settings, steps, *, validate=lambda network: {"selection": 0.0}, seed=0, precision="fp32"):
    return list(train_steps(state, sampler, validate, settings, steps=steps, seed=seed, precision=precision))


def flat(network):
    return torch.cat([value.detach().double().ravel() for value in network.state_dict().values()])


def test_the_rate_rises_linearly_and_falls_along_half_a_cosine():
    settings = TrainingSettings(learning_rate=2.0, warmup=0.1, schedule="cosine")
    rates = [learning_rate(step, 100, settings) for step in range(100)]
    assert rates[:10] == pytest.approx([2.0 * k / 11 for k in range(1, 11)])
    assert rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)  # half way from 10 to 100
    assert rates[40] == pytest.approx(2.0 * (1 + 0.5) / 2)  # a third: cos 60 degrees
    assert rates[99] == pytest.approx(1 + math.cos(math.pi * 89 / 90))
    assert 0 < rates[99] < rates[98]


def test_the_rate_of_the_paper_is_constant():
    settings = TrainingSettings(learning_rate=0.3)
    assert {learning_rate(step, 50, settings) for step in range(50)} == {0.3}
    warm = TrainingSettings(learning_rate=0.3, warmup=0.5)
    assert [learning_rate(step, 4, warm) for step in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.3])


@given(st.integers(1, 10**5), st.integers(1, 50))
def test_validations_are_evenly_spaced_and_the_last_step_is_one(steps, validations):
    due = sorted(validation_steps(steps, validations))
    assert len(due) == min(steps, validations)
    assert due[-1] == steps
    gaps = np.diff([0, *due])
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1


class Scalar(nn.Module):
    def __init__(self, value, count=0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([float(value)]))
        self.register_buffer("count", torch.tensor(count))


def averaged(weights, steps, share):
    """The average after each step of a run in which the weight takes these values."""
    network, average = Scalar(0.0), Scalar(0.0)
    state = TrainingState(network, average, torch.optim.SGD(network.parameters(), lr=1.0), {})
    found = []
    for step, weight in enumerate(weights, start=1):
        network.weight.data.fill_(weight)
        network.count.fill_(step)
        state.step = step
        average_weights(state, steps, share)
        assert int(average.count) == step  # whole numbers are copied
        found.append(average.weight.item())
    return found


def test_the_average_looks_back_over_a_share_of_the_run_and_over_less_at_first():
    """Horizon at steps 1 to 4 of 20 with share 0.05: 1/3, 2/3, 1, 1."""
    expected, average = [], 0.0
    for weight, horizon in zip([1.0, 5.0, 2.0, -3.0], [1 / 3, 2 / 3, 1.0, 1.0], strict=True):
        average = math.exp(-1 / horizon) * average + (1 - math.exp(-1 / horizon)) * weight
        expected.append(average)
    assert averaged([1.0, 5.0, 2.0, -3.0], 20, 0.05) == pytest.approx(expected, rel=1e-6)


def test_without_averaging_the_average_is_the_network():
    assert averaged([1.0, 5.0, 2.0], 3, 0.0) == [1.0, 5.0, 2.0]


def test_events_come_in_order_and_the_state_counts_along(start):
    state, sampler, settings = start("training.validations=2")
    seen = []
    for event in train_steps(state, sampler, lambda n: {"selection": 0.5}, settings, steps=5, seed=0, precision="fp32"):
        assert state.step == event.step
        seen.append((type(event).__name__, event.step))
    assert seen == [
        ("StepDone", 1),
        ("StepDone", 2),
        ("Validated", 2),
        *[("StepDone", k) for k in (3, 4, 5)],
        ("Validated", 5),
    ]
    rates = [learning_rate(step, 5, settings) for step in range(5)]
    again = run(*start("training.validations=2"), 5)
    assert [e.learning_rate for e in again if isinstance(e, StepDone)] == rates


@pytest.mark.parametrize("preset", ["paper", "standard"])
def test_the_loss_falls(start, preset):
    """On samples that the training does not see; the losses of single steps differ more than they fall at first."""
    rate = {"paper": 0.003, "standard": 0.02}[preset]
    state, sampler, settings = start(f"training.learning_rate={rate}", "network.width=4", preset=preset)
    unseen = [sampler.batch(1, index, 1) for index in range(20)]
    before = mean_loss(state.network, unseen)
    run(state, sampler, settings, 120)
    assert mean_loss(state.average, unseen) < 0.75 * before


def mean_loss(network, batches):
    network.eval()
    with torch.no_grad():
        losses = [
            weighted_cross_entropy(network(torch.from_numpy(b.image)), *map(torch.from_numpy, (b.target, b.weights)))
            for b in batches
        ]
    network.train()
    return float(torch.stack(losses).mean())


def test_the_first_loss_is_that_of_the_weights_before_the_step(start):
    state, sampler, settings = start("network.dropout=0")
    batch = sampler.batch(0, 0, 1)
    with torch.no_grad():
        logits = state.network(torch.from_numpy(batch.image)).double()
    expected = torch.nn.functional.cross_entropy(
        logits, torch.from_numpy(batch.target).long(), reduction="none", ignore_index=-1
    )
    weights = torch.from_numpy(batch.weights).double()
    assert run(state, sampler, settings, 1)[0].loss == pytest.approx(
        float((expected * weights).sum() / weights.sum()), rel=1e-5
    )


def test_dropout_is_seeded_by_seed_and_step_alone(start):
    def loss(*, step=0, seed=0, around=0):
        state, sampler, settings = start("network.dropout=0.5")
        state.step = step
        torch.manual_seed(around)
        before = torch.random.get_rng_state()
        value = train_step(state, sampler.batch(0, 0, 1), settings, rate=0.1, seed=seed, precision="fp32")
        assert torch.equal(torch.random.get_rng_state(), before)
        return value

    assert loss() == loss(around=5)
    assert len({loss(), loss(step=1), loss(seed=1)}) == 3


class Part(Together):
    """Of a batch these samples."""

    def __init__(self, first, count):
        self.samples = (first, count)

    def part(self, batch):
        return self.samples


def test_a_batch_loses_the_units_that_its_samples_would_lose_by_themselves(start):
    """Where every pixel is known and weighs the same, the loss of a batch is the mean of that of its samples."""

    def loss(first, count):
        state, sampler, settings = start("network.dropout=0.5", "training.batch_size=3")
        batch = sampler.batch(0, 0, count, first)
        batch = batch._replace(target=np.maximum(batch.target, 0), weights=np.ones_like(batch.weights))
        part = Part(first, count)
        return train_step(state, batch, settings, rate=0.1, seed=0, precision="fp32", together=part)

    alone = [loss(first, 1) for first in range(3)]
    assert loss(0, 3) == pytest.approx(np.mean(alone), rel=1e-5)
    assert loss(1, 2) == pytest.approx(np.mean(alone[1:]), rel=1e-5)


def test_a_run_split_in_two_is_the_same_run(start):
    whole = start()
    run(*whole, 6)
    parted = start()
    events = train_steps(*parted[:2], lambda n: {"selection": 0.0}, parted[2], steps=6, seed=0, precision="fp32")
    for event in events:
        if event.step == 2:
            break
    events.close()
    run(*parted, 6)
    assert torch.equal(flat(whole[0].network), flat(parted[0].network))
    assert torch.equal(flat(whole[0].average), flat(parted[0].average))


def test_the_gradient_is_clipped_to_its_largest_norm(start):
    def norm(clip):
        state, sampler, settings = start(f"training.clip={clip}")
        run(state, sampler, settings, 1)
        return math.sqrt(sum(float((p.grad.double() ** 2).sum()) for p in state.network.parameters()))

    free = norm(0)
    assert norm(free / 10) == pytest.approx(free / 10, rel=1e-4)
    assert norm(free * 10) == pytest.approx(free, rel=1e-6)


def test_bf16_computes_the_same_within_its_rounding(start):
    options = ("network.dropout=0", "training.learning_rate=0.01")
    exact = [e.loss for e in run(*start(*options), 3) if isinstance(e, StepDone)]
    rounded = [e.loss for e in run(*start(*options), 3, precision="bf16") if isinstance(e, StepDone)]
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.03)


def test_the_best_average_is_kept_and_of_equals_the_last(start):
    scores = iter([0.5, 0.7, 0.7, 0.6])
    kept = {}

    def validate(network):
        kept[state.step] = flat(network)
        return {"selection": next(scores)}

    state, sampler, settings = start("training.validations=4")
    events = run(state, sampler, settings, 8, validate=validate)
    assert [e.is_best for e in events if isinstance(e, Validated)] == [True, True, True, False]
    assert (state.best_step, state.best_score, state.gain_step) == (6, 0.7, 4)
    assert torch.equal(torch.cat([v.double().ravel() for v in state.best.values()]), kept[6])
    assert not torch.equal(flat(state.average), kept[6])


def test_a_score_that_is_no_number_is_never_the_best(start):
    scores = iter([math.nan, 0.1])
    state, sampler, settings = start()
    events = run(state, sampler, settings, 2, validate=lambda n: {"selection": next(scores)})
    assert [e.is_best for e in events if isinstance(e, Validated)] == [False, True]
    assert state.best_score == 0.1


def test_after_a_loss_that_is_no_number_nothing_is_validated(start, monkeypatch):
    monkeypatch.setattr(loop, "train_step", lambda *_, **__: math.nan)
    events = run(*start("training.validations=1"), 1)
    assert [type(event) for event in events] == [StepDone]


def test_what_goes_to_the_device_is_float32_as_apples_has_no_float64(start):
    _, sampler, _ = start()
    batch = sampler.batch(0, 0, 2)
    assert (batch.image.dtype, batch.weights.dtype, batch.target.dtype) == (np.float32, np.float32, np.int32)


def test_determinism_is_asked_for_and_given_back():
    cudnn = torch.backends.cudnn
    before = (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32)
    with reproducible():
        assert (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32) == (True, False, False)
    assert (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32) == before
    with pytest.raises(ZeroDivisionError), reproducible():
        _ = 1 / 0
    assert (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32) == before
