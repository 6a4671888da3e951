import numpy as np
import pytest
import torch

from biounet.checks.model import TOLERANCE
from biounet.inference.engines import make_engine
from biounet.planning.data import read_training_data
from biounet.planning.plan import make_plan
from biounet.training.assemble import assemble_model, best_weights, last_weights, provenance
from biounet.training.state import new_state


@pytest.fixture
def parts(cells, tiny):
    """Data, plan and a state before its first step."""

    def make(*overrides):
        settings = tiny(*overrides)
        data = read_training_data(cells, settings.data)
        plan = make_plan(data, settings, seed=3)
        facts = {"settings": settings.model_dump(mode="json"), "seed": 3, "from": None, "steps": 9}
        return data, plan, new_state(plan.network, settings.training, facts)

    return make


def test_before_any_score_the_best_weights_are_the_last(parts):
    _, _, state = parts()
    state.step = 4
    weights, step = best_weights(state)
    assert step == 4
    assert all(torch.equal(value, state.average.state_dict()[name]) for name, value in weights.items())
    state.best, state.best_step = {name: value + 1 for name, value in weights.items()}, 2
    assert best_weights(state) == (state.best, 2)
    assert last_weights(state)[1] == 4


def test_the_model_keeps_its_own_copy_of_the_weights(parts):
    data, plan, state = parts()
    model = assemble_model(state.average, data, plan, postprocessing={}, training={})
    before = {name: value.copy() for name, value in model.weights.items()}
    last, _ = last_weights(state)
    for value in state.average.state_dict().values():
        value.add_(1.0)
    assert all(np.array_equal(model.weights[name], value) for name, value in before.items())
    assert all(not torch.equal(value, state.average.state_dict()[name]) for name, value in last.items())


def test_the_golden_sample_is_what_the_model_computes(parts):
    data, plan, state = parts()
    model = assemble_model(state.average, data, plan, postprocessing={}, training={})
    given, expected = model.golden
    assert given.shape == (1, 1, 32, 32)
    assert expected.shape == (1, 2, 16, 16)
    assert given.dtype == expected.dtype == np.float32
    assert np.abs(make_engine(model)(given) - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_the_score_is_that_of_the_step_or_none(parts):
    data, plan, state = parts()
    state.best_step, state.best_score = 6, 0.5
    assert provenance(state, data, plan, 6)["score"] == 0.5
    assert provenance(state, data, plan, 9)["score"] is None


def test_what_the_model_says_of_its_training(parts):
    data, plan, state = parts("data.validation=images 1-2")
    said = provenance(state, data, plan, 5)
    assert (said["seed"], said["steps"], said["step"], said["precision"]) == (3, 9, 5, "fp32")
    assert said["data_sha256"] == data.digest
    assert said["statements"] == [*data.statements, *plan.statements]
    assert said["training_images"] == ["array 0", "array 3"]
    assert said["validation_images"] == ["array 1", "array 2"]
    assert said["settings"]["data"]["validation"] == "array 1,array 2"
    assert state.facts["settings"]["data"]["validation"] == "images 1-2"
