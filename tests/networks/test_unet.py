"""The network of figure 1, tensor by tensor, and the properties the tiling needs."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from biounet.errors import UsageError
from biounet.geometry import unet_geometry
from biounet.networks.build import build, parameter_count
from biounet.networks.unet import UNet
from biounet.networks.verify import verify_geometry

# name of the module whose output (or, with "in:", input) is the tensor: shape in figure 1
TABLE_1 = {
    "A0 in:encoder.0": (1, 572, 572), "A1 encoder.0.1": (64, 570, 570), "A2 encoder.0.3": (64, 568, 568),
    "B0 pool.0": (64, 284, 284), "B1 encoder.1.1": (128, 282, 282), "B2 encoder.1.3": (128, 280, 280),
    "C0 pool.1": (128, 140, 140), "C1 encoder.2.1": (256, 138, 138), "C2 encoder.2.3": (256, 136, 136),
    "D0 pool.2": (256, 68, 68), "D1 encoder.3.1": (512, 66, 66), "D2 encoder.3.3": (512, 64, 64),
    "E0 pool.3": (512, 32, 32), "E1 encoder.4.1": (1024, 30, 30), "E2 encoder.4.3": (1024, 28, 28),
    "F0 up.3": (512, 56, 56), "F1 in:decoder.3": (1024, 56, 56),
    "F2 decoder.3.1": (512, 54, 54), "F3 decoder.3.3": (512, 52, 52),
    "G0 up.2": (256, 104, 104), "G1 in:decoder.2": (512, 104, 104),
    "G2 decoder.2.1": (256, 102, 102), "G3 decoder.2.3": (256, 100, 100),
    "H0 up.1": (128, 200, 200), "H1 in:decoder.1": (256, 200, 200),
    "H2 decoder.1.1": (128, 198, 198), "H3 decoder.1.3": (128, 196, 196),
    "I0 up.0": (64, 392, 392), "I1 in:decoder.0": (128, 392, 392),
    "I2 decoder.0.1": (64, 390, 390), "I3 decoder.0.3": (64, 388, 388), "G0 head": (2, 388, 388),
}  # fmt: skip


@pytest.fixture(scope="module")
def table():
    """Shapes of all tensors of the full-size network, without computing a pixel."""
    shapes = {}
    with torch.device("meta"):
        network = UNet()
        for name, module in network.named_modules():
            module.register_forward_hook(
                lambda _, inputs, output, name=name: shapes.update(
                    {name: tuple(output.shape[1:]), f"in:{name}": tuple(inputs[0].shape[1:])}
                )
            )
        network(torch.empty(1, 1, 572, 572))
    return shapes


@pytest.mark.parametrize("tensor", TABLE_1)
def test_table_1(table, tensor):
    assert table[tensor.split()[1]] == TABLE_1[tensor]


def test_parameters_of_the_paper():
    with torch.device("meta"):
        assert parameter_count(UNet()) == 31_030_658


@pytest.mark.parametrize(("ndim", "depth"), [(2, 0), (2, 1), (2, 2), (2, 3), (2, 4), (3, 0), (3, 1), (3, 2)])
def test_sizes_follow_the_geometry(ndim, depth):
    network = UNet(2, 3, 2, depth, ndim).eval()
    size = tuple(axis.smallest + axis.period * k for k, axis in enumerate(network.geometry.axes))
    assert network(torch.zeros(1, 2, *size)).shape == (1, 3, *network.geometry.output_size(size))


def test_pooling_per_axis_keeps_thick_slices():
    network = UNet(1, 2, 2, 2, 3, pooling=[(1, 2, 2), (2, 2, 2)]).eval()
    assert network.geometry.period == (2, 4, 4)
    assert network(torch.zeros(1, 1, 28, 48, 44)).shape == (1, 2, 4, 8, 4)


def test_other_sizes_are_refused_with_the_next_admissible():
    with pytest.raises(UsageError, match=r"\(573, 188\).*\(588, 188\)"):
        UNet(width=1)(torch.zeros(1, 1, 573, 188))


@pytest.mark.parametrize(
    "arguments",
    [
        {"classes": 1},
        {"width": 0},
        {"depth": -1},
        {"ndim": 4},
        {"dropout": 1.0},
        {"in_channels": 0},
        {"pooling": [(2, 2)]},
        {"depth": 1, "pooling": [(3, 2)]},
        {"stem": 0},
        {"stem": (2, 2, 2)},
    ],
)
def test_impossible_settings_are_refused(arguments):
    with pytest.raises(UsageError, match="must"):
        UNet(**arguments)


def test_he_initialisation():
    torch.manual_seed(0)
    network = UNet(width=32, depth=3)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            taps = 1 if isinstance(layer, nn.ConvTranspose2d) else layer.weight[0, 0].numel()
            expected = math.sqrt(2 / (layer.in_channels * taps))
            n = layer.weight.numel()
            assert abs(layer.weight.std().item() / expected - 1) < 5 / math.sqrt(2 * n)
            assert abs(layer.weight.mean().item()) < 5 * expected / math.sqrt(n)
            assert not layer.bias.any()


def test_activations_keep_their_scale():
    """What He initialisation is for: unit mean square in, about the same out of every block."""
    torch.manual_seed(0)
    network = UNet(width=16, depth=3).eval()
    for block in [*network.encoder[1:], *network.decoder]:
        x = torch.randn(4, block[0].in_channels, 24, 24)
        assert 0.5 < block(x).square().mean().item() < 2


def test_dropout_acts_at_the_end_of_the_contracting_path_only():
    network = UNet(width=2, depth=2).train()
    entered = []
    network.dropout.register_forward_hook(lambda _, inputs, __: entered.append(inputs[0].shape[1]))
    network(torch.zeros(1, 1, 44, 44))
    assert entered == [4, 8]  # channels of the two deepest of the three levels


def test_description_builds_the_same_network():
    network = UNet(2, 3, 4, 2, 3, batch_norm=True, dropout=0.1, pooling=[(1, 2, 2), (2, 2, 2)])
    again = build(network.description)
    again.load_state_dict(network.state_dict())
    assert again.description == network.description


def test_a_stem_takes_blocks_of_pixels_together_and_parts_them_again():
    network = UNet(2, 3, 4, 2, stem=(3, 2)).eval()
    assert network.geometry.margin == ((60, 60), (40, 40))
    assert network(torch.zeros(1, 2, 3 * 44, 2 * 48)).shape == (1, 3, 3 * 4, 2 * 8)
    assert build(network.description).description == network.description


def test_without_a_stem_the_network_is_the_papers():
    names = set(UNet(width=2).state_dict())
    assert not any(name.startswith("stem") for name in names)
    assert set(UNet(width=2, stem=2).state_dict()) == names | {"stem.weight", "stem.bias"}


def test_pixels_of_a_block_begin_alike():
    """Until something is learnt the head shows no pattern of blocks."""
    torch.manual_seed(0)
    logits = UNet(width=4, depth=1, stem=2).eval()(torch.randn(1, 1, 44, 44)).detach()
    assert torch.equal(logits[..., ::2, ::2], logits[..., 1::2, 1::2])
    assert logits.std() > 0.01


@pytest.mark.parametrize("description", [{"name": "os.system"}, {}, {"name": "unet", "widht": 3}])
def test_unknown_descriptions_are_refused(description):
    with pytest.raises(UsageError, match="not known|does not take"):
        build(description)


def as_function(network):
    def function(x):
        with torch.no_grad():
            return network(torch.from_numpy(x)).numpy()

    return function


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_geometry_is_verified(ndim, batch_norm):
    torch.manual_seed(1)
    network = UNet(1, 2, 3, 2 if ndim == 2 else 1, ndim, batch_norm=batch_norm).eval()
    verify_geometry(as_function(network), network.geometry, 1)


@pytest.mark.parametrize(("ndim", "stem"), [(2, 2), (2, (1, 3)), (3, (1, 2, 2))])
def test_geometry_of_a_stem_is_verified(ndim, stem):
    torch.manual_seed(1)
    network = UNet(1, 2, 3, 1, ndim, stem=stem).eval()
    torch.nn.init.normal_(network.head.weight)  # as after training: pixels of a block differ
    verify_geometry(as_function(network), network.geometry, 1)


def test_reach_is_tight():
    """The declared reach is reached: somewhere in the period a pixel depends on the farthest one."""
    torch.manual_seed(3)
    network = UNet(width=6, depth=2).double().eval()
    margin, (before, after) = network.geometry.axes[0].margin[0], network.geometry.axes[0].reach
    image = torch.randn(1, 1, 76, 76, dtype=torch.float64, requires_grad=True)
    seen = []
    for position in range(12, 16):
        gradient = torch.autograd.grad(network(image)[0, :, position, 16].sum(), image)[0]
        rows = gradient[0, 0].abs().sum(1).nonzero().flatten()
        seen.append((position + margin - rows.min().item(), rows.max().item() - position - margin))
    # max pooling passes one of two gradients, so a row may be missed by chance, never exceeded
    assert all(a <= before and b <= after for a, b in seen)
    assert max(a for a, _ in seen) == before
    assert max(b for _, b in seen) == after


class _Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 2, 5)
        self.normalise = nn.InstanceNorm2d(2)

    def forward(self, x):
        return self.normalise(self.convolution(x))


def test_a_module_that_is_not_what_it_declares_is_refused():
    torch.manual_seed(0)
    with pytest.raises(UsageError, match="margin"):
        verify_geometry(as_function(nn.Conv2d(1, 2, 3)), unet_geometry(1), 1)
    with pytest.raises(UsageError, match="period"):
        verify_geometry(as_function(_Padded()), unet_geometry(0), 1)


def test_a_reach_that_is_too_short_is_refused():
    from dataclasses import replace

    from biounet.geometry import Geometry

    torch.manual_seed(2)
    network = UNet(width=4, depth=1).eval()
    short = tuple(replace(axis, reach=axis.margin) for axis in network.geometry.axes)
    with pytest.raises(UsageError, match="reach"):
        verify_geometry(as_function(network), Geometry(short), 1)


def test_output_is_deterministic_in_evaluation():
    network = UNet(width=2, depth=1).eval()
    x = torch.randn(1, 1, 18, 18)
    assert np.array_equal(network(x).detach(), network(x).detach())
