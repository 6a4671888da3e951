import numpy as np
import torch

from biounet.networks.unet import UNet
from biounet.samples.sampler import Sampler
from biounet.training.batch_statistics import settle_batch_norm


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
