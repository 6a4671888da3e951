import numpy as np
import torch

from biounet.networks.unet import UNet
from biounet.samples.sampler import Sampler
from biounet.settings import read_settings
from biounet.training.batch_statistics import (
    keep_batch_norm,
    settle_batch_norm,
    steps_with_batch_statistics,
    train_mode,
)
from biounet.training.train import train


def small_sampler():
    rng = np.random.default_rng(0)
    image = rng.normal(3.0, 2.0, (1, 48, 48)).astype(np.float32)
    labels = (rng.random((48, 48)) > 0.5).astype(np.int32)
    return Sampler((image,), (labels,), (26, 26), (10, 10), (8, 8), task="classes")


def test_statistics_are_those_of_the_samples():
    torch.manual_seed(0)
    network = UNet(width=2, depth=1, batch_norm=True).eval()
    sampler = small_sampler()
    settle_batch_norm(network, sampler, seed=5, precision="fp32")
    first = network.encoder[0]
    entered = [first[0](torch.from_numpy(sampler.sample(5, k, 0).image[None])) for k in range(12)]
    means = torch.stack([x.mean((0, 2, 3)) for x in entered]).mean(0)
    variances = torch.stack([x.var((0, 2, 3)) for x in entered]).mean(0)
    assert torch.allclose(first[1].running_mean, means, rtol=1e-5, atol=1e-6)
    assert torch.allclose(first[1].running_var, variances, rtol=1e-5)


def test_settling_twice_is_settling_once_and_leaves_evaluation_mode():
    torch.manual_seed(0)
    network = UNet(width=2, depth=1, batch_norm=True, dropout=0.5).train()
    settle_batch_norm(network, small_sampler(), seed=0, precision="fp32")
    once = {k: v.clone() for k, v in network.state_dict().items()}
    settle_batch_norm(network, small_sampler(), seed=0, precision="fp32")
    assert all(torch.equal(v, once[k]) for k, v in network.state_dict().items())
    assert not any(module.training for module in network.modules())
    assert network.encoder[0][1].momentum == 0.1


def test_weights_and_networks_without_batch_normalisation_stay_as_they_are():
    network = UNet(width=2, depth=1)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    settle_batch_norm(network, small_sampler(), seed=0, precision="fp32")
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def statistics_of(tensors):
    return {name: np.asarray(value) for name, value in tensors.items() if "running_" in name}


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(value, other[name]) for name, value in one.items())


def test_kept_statistics_are_those_of_the_weights_and_training_computes_what_prediction_does():
    torch.manual_seed(0)
    network, average = (UNet(width=2, depth=1, batch_norm=True, dropout=0) for _ in range(2))
    kernel = average.encoder[0][0].weight.clone()
    keep_batch_norm(network, average, small_sampler(), seed=0, precision="fp32")
    kept = {name: value.copy() for name, value in statistics_of(network.state_dict()).items()}
    settle_batch_norm(network, small_sampler(), seed=0, precision="fp32")
    assert same(statistics_of(network.state_dict()), kept)
    assert same(statistics_of(average.state_dict()), kept)
    assert torch.equal(average.encoder[0][0].weight, kernel)
    image = torch.from_numpy(small_sampler().sample(0, 0, 0).image[None])
    predicted = network.eval()(image)
    train_mode(network, keeps=True)
    assert network.training
    assert torch.equal(network(image), predicted)
    assert same(statistics_of(network.state_dict()), kept)
    train_mode(network, keeps=False)
    assert not torch.allclose(network(image), predicted)
    assert not same(statistics_of(network.state_dict()), kept)


def test_statistics_stand_still_in_the_last_part_of_a_run_and_the_model_has_them(cells, tiny, monkeypatch):
    """The weights go on; the statistics of both scores of the last half are those measured at its start."""
    kept, scored = [], []

    def keep(network, average, sampler, **options):
        keep_batch_norm(network, average, sampler, **options)
        kept.append(statistics_of({k: v.clone() for k, v in network.state_dict().items()}))

    def listen(event):
        if type(event).__name__ == "Validated":
            scored.append((event.step, len(kept)))

    monkeypatch.setattr("biounet.training.loop.keep_batch_norm", keep)
    settings = tiny("network.batch_norm=true", "training.batch_statistics_until=0.5", "training.validations=4")
    model = train(cells, settings=settings, steps=8, listen=listen)
    assert scored == [(2, 0), (4, 0), (6, 1), (8, 1)]
    assert model.training["step"] > 4  # else the best weights are older than what is tested here
    assert same(statistics_of(model.weights), kept[0])


def test_the_paper_preset_takes_statistics_of_every_batch_and_standard_of_the_first():
    paper, standard = (read_settings(preset).training for preset in ("paper", "standard"))
    assert steps_with_batch_statistics(100, paper) == 100
    assert 0 < steps_with_batch_statistics(100, standard) < 100
