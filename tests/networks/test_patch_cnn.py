"""The window's layers as the paper lists them, and both ways of running the same weights."""

import numpy as np
import pytest
import torch

from biounet.errors import UsageError
from biounet.geometry import mirrored
from biounet.inference.tiling import plan_tiles, predict_tiled
from biounet.networks.build import build, parameter_count
from biounet.networks.patch_cnn import PatchCNN, sliding_logits, window_kernels
from biounet.networks.verify import verify_geometry


def made(window=17, width=5, **more):
    torch.manual_seed(3)
    return PatchCNN(width=width, window=window, **more).eval()


def as_function(network):
    def function(x):
        with torch.no_grad():
            return network(torch.tensor(x)).numpy()

    return function


@pytest.mark.parametrize(
    ("window", "kernels", "end"),
    [(95, (4, 5, 4, 4), 3), (65, (4, 4, 5), 5), (33, (4, 4), 6), (17, (4, 4), 2), (9, (4,), 3)],
)
def test_layers_of_a_window(window, kernels, end):
    assert window_kernels(window) == (kernels, end)


def test_with_a_window_of_95_it_is_the_network_n4_of_the_paper():
    """Maps of 92, 46, 42, 21, 18, 9, 6 and 3 pixels a side, then 200 neurons, then the classes."""
    seen = []
    with torch.device("meta"):
        network = PatchCNN(window=95)
        for layer in network.modules():
            if not list(layer.children()):
                layer.register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape[1:])))
        convolutions = [tuple(layer.weight.shape) for layer in network.convolutions]
        assert network(torch.empty(1, 1, 95, 95)).shape == (1, 2, 1, 1)
    assert convolutions == [(48, 1, 4, 4), (48, 48, 5, 5), (48, 48, 4, 4), (48, 48, 4, 4)]
    assert seen[-2:] == [(200, 1, 1), (2, 1, 1)]
    weights = 16 * 48 + 25 * 48**2 + 2 * 16 * 48**2 + 9 * 48 * 200 + 200 * 2
    assert parameter_count(network) == weights + 4 * 48 + 200 + 2


@pytest.mark.parametrize("window", [9, 17, 33, 65])
def test_pixel_by_pixel_and_densely_give_the_same_probabilities(window):
    network = made(window)
    image = mirrored(np.random.default_rng(0).normal(size=(1, 11, 14)), (-(window // 2),) * 2, tuple(
        n + window // 2 for n in (11, 14)
    ))  # fmt: skip
    x = torch.tensor(image, dtype=torch.float32)
    with torch.no_grad():
        slow, dense = sliding_logits(network, x).softmax(0), network(x[None])[0].softmax(0)
    assert slow.shape == dense.shape == (2, 11, 14)
    assert dense[0].std() > 1e-3  # so that equality says something
    assert (slow - dense).abs().max() < 1e-5


def test_in_three_dimensions_too():
    network = made(9, ndim=3)
    x = torch.randn(1, 11, 10, 12)
    with torch.no_grad():
        assert (sliding_logits(network, x, batch=7) - network(x[None])[0]).abs().max() < 1e-5


def test_without_dilation_the_dense_form_would_be_wrong():
    """What the equality rests on: the same weights on the image without dilation give something else."""
    network = made(17)
    x = torch.randn(1, 24, 24)
    with torch.no_grad():
        y = x[None]
        for layer in network.convolutions:
            y = torch.nn.functional.max_pool2d(torch.relu(layer(y)), 2, 1)
        y = network.head(torch.relu(network.hidden(y)))
        difference = (sliding_logits(network, x) - y[0, :, :8, :8]).abs().max()
    assert difference > 1e-3


@pytest.mark.parametrize("ndim", [2, 3])
def test_geometry_is_verified(ndim):
    network = made(9 if ndim == 3 else 17, ndim=ndim)
    verify_geometry(as_function(network), network.geometry, 1)
    axis = network.geometry.axes[0]
    assert (axis.margin, axis.period, axis.smallest) == ((network.window // 2,) * 2, 1, network.window)
    assert axis.reach == axis.margin  # nothing is pooled away, so no phase adds to it


@pytest.mark.parametrize("tile", [1, 5, 16])
def test_tiled_equals_whole(tile):
    network = made(17)
    image = np.random.default_rng(1).normal(size=(1, 23, 30)).astype(np.float32)
    function = as_function(network)
    whole = predict_tiled(function, image, network.geometry, tile=1000)
    tiled = predict_tiled(
        function, image, network.geometry, plan=plan_tiles((23, 30), network.geometry, tile), batch=32
    )
    assert np.abs(tiled - whole).max() <= 2e-5 * np.abs(whole).max()


def test_description_builds_the_same_network():
    network = PatchCNN(2, 3, 4, 17, 2, dropout=0.1)
    again = build(network.description)
    again.load_state_dict(network.state_dict())
    assert again.description == network.description


@pytest.mark.parametrize(
    "arguments", [{"window": 64}, {"window": 7}, {"classes": 1}, {"width": 0}, {"ndim": 4}, {"dropout": 1.0}]
)
def test_impossible_settings_are_refused(arguments):
    with pytest.raises(UsageError, match="must be"):
        PatchCNN(**arguments)


def test_an_input_smaller_than_the_window_is_refused():
    with pytest.raises(UsageError, match=r"\(16, 40\) is smaller than the window of 17"):
        made()(torch.zeros(1, 1, 16, 40))
