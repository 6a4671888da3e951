"""A classifier read as convolutions, scores brought to full resolution, and what tiles rest on."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from biounet.errors import UsageError
from biounet.inference.tiling import plan_tiles, predict_tiled
from biounet.networks.build import build
from biounet.networks.fcn import FCN, Classifier, bilinear_initialise, fcn_geometry
from biounet.networks.verify import verify_geometry

STRIDES = (32, 16, 8)


def made(stride=8, width=2, classes=3, **more):
    """A network whose skip scores, which start at zero, have a say."""
    torch.manual_seed(5)
    network = FCN(classes=classes, width=width, stride=stride, **more).eval()
    for layer in network.skips:
        nn.init.normal_(layer.weight)
    return network


def as_function(network):
    def function(x):
        with torch.no_grad():
            return network(torch.tensor(x)).numpy()

    return function


@pytest.fixture(scope="module")
def converted():
    torch.manual_seed(0)
    classifier = Classifier(classes=3, width=2).eval()
    network = FCN(classes=3, width=2).eval()
    network.take(classifier)
    return classifier, network


def test_on_one_window_it_equals_the_dense_classifier(converted):
    classifier, network = converted
    window = torch.randn(2, 1, classifier.window, classifier.window)
    with torch.no_grad():
        dense, convolutional = classifier(window), network.scores(window)
    assert convolutional.shape == (2, 3, 1, 1)
    assert dense.std() > 1e-3
    assert torch.allclose(convolutional.flatten(1), dense, atol=1e-5)


def test_on_an_image_it_equals_sliding_the_classifier(converted):
    classifier, network = converted
    side = classifier.window
    image = torch.randn(1, 1, side + 64, side + 32)
    with torch.no_grad():
        scores = network.scores(image)
        slid = [
            [classifier(image[:, :, 32 * i : 32 * i + side, 32 * j : 32 * j + side])[0] for j in range(2)]
            for i in range(3)
        ]
    assert scores.shape == (1, 3, 3, 2)
    assert torch.allclose(scores[0], torch.stack([torch.stack(row, 1) for row in slid], 1), atol=1e-5)


@pytest.mark.parametrize("factor", [2, 8, 16, 32])
def test_upsampling_starts_as_bilinear_interpolation(factor):
    network = made(8 if factor == 2 else factor)
    layer = network.up[0] if factor == 2 else network.head
    scores = torch.randn(2, 3, 4, 5)
    with torch.no_grad():
        ours = layer(scores)
    expected = functional.interpolate(scores, scale_factor=factor, mode="bilinear", align_corners=False)
    half = factor // 2  # at the edge torch has nothing to interpolate with
    assert ours.shape[2:] == (3 * factor, 4 * factor)
    assert torch.allclose(ours, expected[:, :, half:-half, half:-half], atol=1e-5)


@pytest.mark.parametrize("stride", STRIDES)
def test_it_is_learnt(stride):
    network = made(stride).train()
    network(torch.randn(1, 1, 252, 252)).square().mean().backward()
    for layer in (*network.up, *network.skips, network.head, network.score):
        assert layer.weight.grad.abs().max() > 0
        assert layer.weight.requires_grad


@pytest.mark.parametrize("stride", STRIDES)
def test_upsampled_tensors_have_as_many_channels_as_classes(stride):
    network = made(stride)
    channels = []
    for layer in (*network.up, network.head):
        layer.register_forward_hook(lambda _, inputs, output: channels.append((inputs[0].shape[1], output.shape[1])))
    network(torch.zeros(1, 1, 284, 252))
    assert channels == [(3, 3)] * (len(network.skips) + 1)
    assert len(network.skips) == STRIDES.index(stride)


def test_skip_scores_start_at_zero():
    torch.manual_seed(0)
    for layer in FCN(width=2).skips:
        assert not layer.weight.any()


@pytest.mark.parametrize("stride", STRIDES)
def test_scores_of_every_depth_lie_over_their_pixels(stride):
    """The trunk made to hand a ramp down: pooling takes the last of S pixels, (S - 1) / 2 after their middle."""
    network = FCN(width=1, stride=stride, dropout=0.0).double().eval()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            middle = layer.kernel_size[0] // 2
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
            layer.weight.data[0, 0, middle, middle] = 1
    for layer in (*network.up, network.head):
        bilinear_initialise(layer)
    size = network.geometry.input_size((40, 40))
    margin = network.geometry.axes[0].margin[0]
    ramp = torch.arange(size[0], dtype=torch.float64)[:, None].expand(size)
    with torch.no_grad():
        found = network(ramp[None, None])[0, 0]
    depths = [s for s in STRIDES if s >= stride]
    expected = sum(margin + np.arange(found.shape[0]) + (s - 1) / 2 for s in depths)
    assert np.allclose(found, expected[:, None], atol=1e-9)


def test_geometry_written_out():
    """94 pixels a side are lost to convolutions: 2 (1 + 2 + 4 + 8 + 16) and 32; the rest is interpolation."""
    for stride, margin in ((32, 94 + 16), (16, 94 + 16 + 8), (8, 94 + 16 + 8 + 4)):
        axis = fcn_geometry(stride).axes[0]
        assert (axis.margin, axis.period, axis.smallest) == ((margin, margin), 32, 2 * 32 + 2 * 94)
        assert axis.reach == (margin + 31, margin + 31)


@pytest.mark.slow  # sixty images of 700 x 700
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_geometry_is_verified(stride, batch_norm):
    network = made(stride, width=1, classes=2, batch_norm=batch_norm)
    verify_geometry(as_function(network), network.geometry, 1)


@pytest.mark.parametrize("stride", STRIDES)
def test_reach_is_tight(stride):
    """Somewhere in the period a pixel depends on the farthest one. With nothing negative, no pooling hides it."""
    network = made(stride, width=1).double()
    for parameter in network.parameters():
        parameter.data.abs_()
    (axis, _), function = network.geometry.axes, as_function(network)
    image = np.random.default_rng(0).random((1, 1, axis.admissible(400), 252))
    before, after = image.copy(), image.copy()
    first_of_a_cell, last_seen = 3 * 32, 11 * 32 + 27  # of the deepest score: 32 k, and 32 k + 31 + 2 * 62
    before[:, :, : first_of_a_cell + 1] += 1
    after[:, :, last_seen:] += 1
    whole = function(image)
    changed = [np.flatnonzero((function(x) != whole).any(axis=(0, 1, 3))) for x in (before, after)]
    assert changed[0].max() + axis.margin[0] - first_of_a_cell == axis.reach[0]
    assert last_seen - (changed[1].min() + axis.margin[0]) == axis.reach[1]


@pytest.mark.parametrize("stride", STRIDES)
def test_a_shift_by_the_period_shifts_the_result_and_no_other_does(stride):
    network = made(stride, width=1).double()
    image = np.random.default_rng(0).normal(size=(1, 1, 316, 300))
    function = as_function(network)
    whole = function(image[:, :, :284, :284])
    assert np.allclose(whole[:, :, 32:], function(image[:, :, 32:, :284])[:, :, :-32], atol=1e-12)
    assert not np.allclose(whole[..., 16:], function(image[:, :, :284, 16:])[..., :-16], atol=1e-3)


@pytest.mark.parametrize("stride", STRIDES)
def test_tiled_equals_whole(stride):
    network = made(stride, width=1)
    function, geometry = as_function(network), network.geometry
    image = np.random.default_rng(1).normal(size=(1, 70, 45)).astype(np.float32)
    whole = predict_tiled(function, image, geometry, tile=1000)
    plan = plan_tiles((70, 45), geometry, 40)
    assert len(plan) > 1
    tiled = predict_tiled(function, image, geometry, plan=plan)
    assert np.abs(tiled - whole).max() <= 2e-5 * np.abs(whole).max()


def test_description_builds_the_same_network():
    for stride in STRIDES:
        network = FCN(2, 3, 4, stride=stride, batch_norm=True, dropout=0.1)
        again = build(network.description)
        again.load_state_dict(network.state_dict())
        assert again.description == network.description
        assert again.geometry == network.geometry


@pytest.mark.parametrize(
    "arguments", [{"stride": 4}, {"classes": 1}, {"width": 0}, {"dropout": 1.0}, {"in_channels": 0}]
)
def test_impossible_settings_are_refused(arguments):
    with pytest.raises(UsageError, match="must be"):
        FCN(**arguments)


def test_volumes_and_sizes_that_do_not_divide_are_refused():
    with pytest.raises(UsageError, match="has 2 axes, the images have 3; take --network unet"):
        FCN(ndim=3)
    with pytest.raises(UsageError, match=r"\(253, 252\).*next admissible size is \(284, 252\)"):
        FCN(width=1)(torch.zeros(1, 1, 253, 252))
