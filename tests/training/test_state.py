import copy

import pytest
import torch
from torch import nn

from biounet.errors import BiounetError, DataError, UsageError
from biounet.planning.data import read_training_data
from biounet.planning.plan import make_plan
from biounet.settings import TrainingSettings
from biounet.training.loop import train_steps
from biounet.training.state import dotted, make_optimizer, new_state, read_facts, read_state, write_state

FACTS = {"seed": 0, "data": "abc", "threads": 2, "settings": {"training": {"tile": 16, "clip": 1.0}, "preset": "paper"}}


@pytest.fixture
def parts(cells, tiny):
    """A state, its sampler and its settings: ``parts("key=value", steps=3)`` has done three steps."""

    def make(*overrides, steps=0, seed=0, preset="standard"):
        settings = tiny("network.batch_norm=true", *overrides, preset=preset)
        plan = make_plan(read_training_data(cells, settings.data), settings, seed=seed)
        state = new_state(plan.network.to(memory_format=torch.channels_last), settings.training, copy.deepcopy(FACTS))
        train(state, plan.sampler, settings.training, steps)
        return state, plan.sampler, settings.training

    return make


def train(state, sampler, settings, until, of=8):
    events = train_steps(state, sampler, lambda n: {"selection": 0.25}, settings, steps=of, seed=0, precision="fp32")
    for _ in range(until - state.step):
        next(events)
    events.close()


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.stride() == b.stride() and torch.equal(a, b)


def assert_equal(one, other):
    for part in ("network", "average"):
        a, b = getattr(one, part).state_dict(), getattr(other, part).state_dict()
        assert a.keys() == b.keys()
        assert all(same(a[name], b[name]) for name in a)
    assert one.best.keys() == other.best.keys()
    assert all(torch.equal(one.best[name], other.best[name]) for name in one.best)
    kept = [state.optimizer.state_dict()["state"] for state in (one, other)]
    assert kept[0].keys() == kept[1].keys()
    for index, values in kept[0].items():
        assert values.keys() == kept[1][index].keys()
        assert all(same(value, kept[1][index][key]) for key, value in values.items())
    for name in ("step", "best_step", "best_score", "gain_step"):
        assert getattr(one, name) == getattr(other, name)


@pytest.mark.parametrize("preset", ["paper", "standard"])
def test_a_state_comes_back_bit_for_bit_and_goes_on_as_the_first_would(parts, tmp_path, preset):
    first, sampler, settings = parts(steps=5, preset=preset)
    assert first.best_step == 4
    write_state(tmp_path / "state", first)
    second, *_ = parts(seed=1, preset=preset)
    read_state(tmp_path / "state", second)
    assert_equal(first, second)
    for state in (first, second):
        train(state, sampler, settings, 8)
    assert_equal(first, second)


def test_a_state_before_its_first_step_comes_back_too(parts, tmp_path):
    first, *_ = parts()
    write_state(tmp_path / "state", first)
    second, *_ = parts(seed=1)
    read_state(tmp_path / "state", second)
    assert_equal(first, second)
    assert read_facts(tmp_path / "state") == (FACTS, 0)


def test_sgd_without_momentum_keeps_nothing_and_comes_back(parts, tmp_path):
    first, *_ = parts("training.optimizer=sgd", "training.momentum=0", steps=2)
    write_state(tmp_path / "state", first)
    second, *_ = parts("training.optimizer=sgd", "training.momentum=0")
    read_state(tmp_path / "state", second)
    assert torch.equal(next(first.network.parameters()), next(second.network.parameters()))


def test_tied_weights_can_be_written(tmp_path):
    network = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    network[1].weight = network[0].weight
    settings = TrainingSettings()
    write_state(tmp_path / "state", new_state(network, settings, {}))
    with torch.no_grad():
        expected = network[0].weight.clone()
        network[0].weight.zero_()
    state = new_state(network, settings, {})
    read_state(tmp_path / "state", state)
    assert torch.equal(state.network[1].weight, expected)


def test_facts_that_differ_are_named(parts, tmp_path):
    state, *_ = parts()
    write_state(tmp_path / "state", state)
    state.facts["seed"] = 7
    state.facts["settings"]["training"]["tile"] = 32
    with pytest.raises(
        UsageError, match=r"was written with seed 0 \(now 7\), settings.training.tile 16 \(now 32\); give"
    ):
        read_state(tmp_path / "state", state)


def test_facts_that_came_or_went_are_named_and_many_are_not_all(parts, tmp_path):
    state, *_ = parts()
    write_state(tmp_path / "state", state)
    state.facts = {**FACTS, "more": 1}
    with pytest.raises(UsageError, match=r"more None \(now 1\)"):
        read_state(tmp_path / "state", state)
    state.facts = {**FACTS, **{f"x{i}": i for i in range(9)}}
    with pytest.raises(UsageError, match=r"x0 None \(now 0\), .*x4 None \(now 4\) and more; give the same options"):
        read_state(tmp_path / "state", state)


def test_the_number_of_threads_and_the_device_may_differ(parts, tmp_path):
    state, *_ = parts()
    write_state(tmp_path / "state", state)
    state.facts |= {"threads": 9, "device": "cuda"}
    read_state(tmp_path / "state", state)
    assert state.facts["threads"] == 9


def test_a_damaged_file_is_refused_wherever_the_damage_is(parts, tmp_path):
    state, *_ = parts(steps=1)
    path = tmp_path / "state"
    write_state(path, state)
    whole = path.read_bytes()
    before = {name: value.clone() for name, value in state.network.state_dict().items()}
    for position in [*range(0, len(whole), len(whole) // 40), len(whole) - 1]:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(DataError, match="state: .*--overwrite starts anew"):
            read_state(path, state)
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="state: not a readable training state; --overwrite starts anew"):
            read_facts(path)
    assert all(torch.equal(value, before[name]) for name, value in state.network.state_dict().items())


def test_another_file_or_none_is_refused(parts, tmp_path):
    state, *_ = parts()
    with pytest.raises(DataError, match="not a readable training state"):
        read_state(tmp_path / "none", state)
    (tmp_path / "other").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises(DataError, match="not a readable training state"):
        read_facts(tmp_path / "other")


def test_the_state_of_another_network_is_refused(parts, tmp_path):
    write_state(tmp_path / "state", parts()[0])
    with pytest.raises(
        DataError, match=r"does not fit this run \(size mismatch for \S+: .*\); --overwrite starts anew"
    ):
        read_state(tmp_path / "state", parts("network.width=3")[0])


def test_what_was_there_stays_when_writing_fails(parts, tmp_path, monkeypatch):
    state, *_ = parts()
    write_state(tmp_path / "state", state)
    before = (tmp_path / "state").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    state.step = 5
    with pytest.raises(BiounetError, match="No space left on device"):
        write_state(tmp_path / "state", state)
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
    assert (tmp_path / "state").read_bytes() == before


def test_weight_decay_acts_on_convolutions_and_not_on_biases():
    network = nn.Conv2d(1, 2, 3)
    with torch.no_grad():
        network.weight.fill_(1.0)
        network.bias.fill_(1.0)
    optimizer = make_optimizer(network, TrainingSettings(optimizer="adamw", learning_rate=0.1, weight_decay=0.5))
    network.weight.grad, network.bias.grad = torch.zeros_like(network.weight), torch.zeros_like(network.bias)
    optimizer.step()
    assert torch.allclose(network.weight, torch.tensor(1 - 0.1 * 0.5))
    assert torch.equal(network.bias, torch.ones(2))


def test_the_paper_s_optimizer_is_sgd_with_its_momentum():
    optimizer = make_optimizer(nn.Conv2d(1, 2, 3), TrainingSettings())
    assert isinstance(optimizer, torch.optim.SGD)
    assert {group["momentum"] for group in optimizer.param_groups} == {0.99}


def test_groups_are_flattened_to_dotted_names():
    assert dict(dotted({"a": 1, "b": {"c": 2, "d": {"e": None}}})) == {"a": 1, "b.c": 2, "b.d.e": None}
