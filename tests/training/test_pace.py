from pathlib import Path

import pytest

from biounet.training.loop import StepDone, Validated
from biounet.training.pace import Pace, said_of_rise


def run(pace, scores, *, seconds, steps_between=10):
    """All that is said in a run whose steps take so many seconds each, scored every ten."""
    now, step, said, steps = 50.0, 0, [], len(scores) * steps_between
    for score in scores:
        for _ in range(steps_between):
            now += seconds(step)
            step += 1
            said.append(pace.heard(StepDone(step, steps, 0.1, 1e-3, 0.0), now))
        now += 1.0
        said.append(pace.heard(Validated(step, steps, {"selection": score}, True, 1.0), now))
    return [text for text in said if text]


def test_a_run_as_fast_as_reckoned_says_nothing():
    assert run(Pace(2.0, 1.0), [0.5] * 6, seconds=lambda step: 2.2) == []
    assert run(Pace(), [0.5] * 6, seconds=lambda step: 99.0) == []  # nothing was reckoned with


def test_a_machine_that_slows_is_said_once_and_again_when_it_gets_worse():
    said = run(Pace(2.0, 1.0), [0.5] * 8, seconds=lambda step: 2.0 if step < 20 else 4.0)
    assert "the machine is 1.3 times slower" in said[0]
    assert "goes on with its 80 steps" in said[0]
    assert len(said) == 2  # 1.3, then 1.7
    (once,) = run(Pace(2.0, 1.0), [0.5] * 8, seconds=lambda step: 6.0)
    assert "2.9 times slower" in once
    assert "about 7 min more" in once  # 70 steps of 2 s, 2.9 times


@pytest.mark.parametrize(
    ("scores", "rises"),
    [
        ([0.1, 0.4, 0.5, 0.55, 0.6, 0.65], True),
        ([0.1, 0.5, 0.6, 0.61, 0.615, 0.61], False),
        ([0.1, 0.7, 0.6, 0.5, 0.4, 0.3], False),
        ([0.1, 0.9, 0.95], False),  # too few to tell
        ([], False),
    ],
)
def test_a_curve_that_still_rises_names_the_way_on(scores, rises):
    steps = [(10 * (k + 1), score) for k, score in enumerate(scores)]
    said = said_of_rise(steps, Path("m.safetensors"), schedule="constant")
    assert (said is not None) == rises
    if rises:
        assert "--from m.safetensors --budget 15min" in said
        assert "0.550 after two thirds of the run, 0.650 at its end)" in said
        falling = said_of_rise(steps, Path("m.safetensors"), schedule="cosine")
        assert "at its end, in part because the learning rate falls to 0 there in every run)" in falling
    assert said_of_rise(steps, None, schedule="cosine") is None


def test_a_curve_without_its_beginning_says_nothing():
    assert (
        said_of_rise([(90, 0.5), (100, 0.6), (110, 0.7), (120, 0.8)], Path("m.safetensors"), schedule="cosine") is None
    )
