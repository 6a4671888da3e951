import copy

import pytest
import torch

from biounet.errors import UsageError
from biounet.planning.data import read_training_data
from biounet.planning.plan import make_plan
from biounet.training import budget as budgets
from biounet.training.budget import calibrate, parse_duration
from biounet.training.state import new_state, write_state


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("15min", 900), ("90s", 90), ("1.5h", 5400), ("600s", 600), (" 2 M ", 120), ("30SEC", 30), (".5min", 30)],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "600", "-5min", "5 days", "1.2.3s", ".", "min", "1e3", "5min 30s", "9" * 400]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(UsageError, match="write a time such as 15min, 90s or 2h"):
        parse_duration(text)


class Clock:
    """Time that passes only where work is done."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now

    def takes(self, seconds, result=None):
        def work(*_, **__):
            self.now += seconds
            return result

        return work


@pytest.mark.parametrize(
    ("budget", "steps", "timed"), [(1000.0, 2384, 15), (100.0, 204, 13), (12.0, 3, 4), (1.0, 1, 4)]
)
def test_steps_are_what_is_left_after_calibration_validations_and_finishing(monkeypatch, tiny, budget, steps, timed):
    """97 % of the budget, less the timed steps of 0.4 s and a validation of 2 s, less 4 validations to come.

    Batches are made beside the steps and take none of their time; timing ends after 5 % of the budget.
    """
    clock = Clock()
    taken = []
    monkeypatch.setattr(budgets, "time", clock)
    monkeypatch.setattr(budgets, "train_step", lambda *_, **__: taken.append(clock.takes(0.4)()))
    network = torch.nn.Conv2d(1, 2, 1)
    settings = tiny("training.validations=4").training

    class Sampler:
        def batch(self, seed, step, size, first=0):
            return step

    found = calibrate(
        new_state(network, settings, {}),
        Sampler(),
        clock.takes(2.0),
        settings,
        seed=0,
        precision="fp32",
        budget_s=budget,
    )
    assert len(taken) == timed
    assert (found.step_seconds, found.validation_seconds) == pytest.approx((0.4, 2.0))
    left = 0.97 * budget - (0.4 * timed + 2)
    assert found.steps == steps
    assert found.validations == min(4, steps)
    if budget > 1:
        assert left - 2.4 < 0.4 * steps + 2 * found.validations <= left + 1e-6


def test_where_validations_take_most_of_the_time_it_is_said_how_to_have_fewer():
    assert str(budgets.Calibration(100, 0.5, 2.0, 12)) == (
        "100 steps of 0.5 s and 12 validations of 2 s; --steps 100 repeats this run"
    )
    assert str(budgets.Calibration(40, 0.5, 2.0, 12)).endswith(
        "; validations take most of the time, --set training.validations=3 leaves more for steps"
    )


@pytest.mark.parametrize("preset", ["paper", "standard"])
def test_calibration_leaves_the_state_and_the_random_numbers_as_they_were(cells, tiny, tmp_path, preset):
    settings = tiny("network.batch_norm=true", preset=preset)
    plan = make_plan(read_training_data(cells, settings.data), settings, seed=0)
    state = new_state(plan.network, settings.training, {})
    write_state(tmp_path / "before", state)
    optimizer, numbers = copy.deepcopy(state.optimizer.state_dict()), torch.random.get_rng_state()
    calibrate(
        state,
        plan.sampler,
        lambda network: {"selection": float(next(network.parameters()).data.fill_(3.0).sum())},
        settings.training,
        seed=0,
        precision="fp32",
        budget_s=10.0,
    )
    write_state(tmp_path / "after", state)
    assert (tmp_path / "after").read_bytes() == (tmp_path / "before").read_bytes()
    assert state.optimizer.state_dict() == optimizer
    assert torch.equal(torch.random.get_rng_state(), numbers)
