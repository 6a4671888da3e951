import pytest
import torch

from biounet.images.normalize import Normalisation
from biounet.model_file import Model
from biounet.networks.unet import UNet


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory):
    """Nothing that tests make lands in the cache of whoever runs them."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("biounet.inference.cache.cache_folder", lambda: folder)
        yield


@pytest.fixture
def random_network():
    """A U-Net with random weights, batch statistics too, in evaluation mode."""

    def make(seed=0, **arguments):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = UNet(**({"width": 3, "depth": 1} | arguments))
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
                    module.running_mean.normal_()
                    module.running_var.uniform_(0.5, 2)
        return network.eval()

    return make


@pytest.fixture
def random_model(random_network):
    """A model of such a network, as a training would leave it."""

    def make(seed=0, task="classes", kind="image", **arguments):
        network = random_network(seed, **arguments)
        channels, classes = network.description["in_channels"], network.description["classes"]
        statistics = ((100.0,) * channels, (30.0,) * channels) if kind == "dataset" else ((), ())
        return Model(
            network=network.description,
            geometry=network.geometry,
            weights={name: value.numpy() for name, value in network.state_dict().items()},
            normalisation=Normalisation(kind, *statistics),
            task=task,
            classes=tuple(map(str, range(classes))),
            values=tuple(range(classes)),
            channels=tuple(map(str, range(channels))),
        )

    return make
