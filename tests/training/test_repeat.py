import shlex

import pytest

from biounet.settings import read_settings
from biounet.training.repeat import repeat_command
from biounet.training.train import train


def options(command, name):
    words = shlex.split(command)
    return [words[k + 1] for k, word in enumerate(words) if word == name]


@pytest.mark.parametrize("overrides", [(), ("training.schedule=constant", "augmentation.scale=[0.9, 1.2]")])
def test_the_command_gives_the_settings_that_were_used(cells, tiny, overrides):
    model = train(cells, settings=tiny(*overrides), steps=2, seed=7)
    command = repeat_command(model.training)
    assert (options(command, "--steps"), options(command, "--seed")) == (["2"], ["7"])
    again = read_settings(options(command, "--preset")[0], overrides=options(command, "--set"))
    stored = model.training["settings"]
    found = again.model_dump(mode="json", exclude={"training": {"state_seconds", "workers"}})
    assert found == stored
    assert train(cells, settings=again, steps=2, seed=7).weights.keys() == model.weights.keys()


def test_another_network_and_a_start_are_named(cells, tiny):
    settings = read_settings(
        "standard",
        overrides=("network.width=2", "network.window=9", "training.batch_size=2", "data.validation=array 1"),
        values={"network.name": "patch_cnn"},
    )
    facts = train(cells, settings=settings, steps=1).training | {"from": "abc"}
    command = repeat_command(facts)
    assert command == (
        "biounet train DATA --out MODEL.safetensors --preset standard --network patch_cnn --from START.safetensors "
        "--steps 1 --seed 0 --validation 'array 1' --set network.width=2 --set network.window=9 "
        "--set augmentation.elastic_std_px=10.0 --set augmentation.rotation_degrees=180.0 "
        "--set augmentation.mirror=true --set loss.dice=0.0 --set training.batch_size=2 "
        "--set training.weight_standardisation=false"
    )
