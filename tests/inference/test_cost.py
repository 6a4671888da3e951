import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from biounet.geometry import unet_geometry
from biounet.inference.cost import _CALL, MEMORY, PixelCost, UNetCost, cost_of
from biounet.inference.engines import ENGINES
from biounet.inference.tiling import cheapest_tiles, plan_tiles
from biounet.networks.unet import UNet

NETWORKS = [
    {"width": 3, "depth": 2},
    {"width": 5, "depth": 1, "in_channels": 3, "classes": 4},
    {"width": 2, "depth": 2, "ndim": 3, "pooling": [(1, 2, 2), (2, 2, 2)]},
    {"width": 4, "depth": 0},
]


@pytest.mark.parametrize("arguments", NETWORKS)
def test_operations_are_those_that_torch_counts(arguments):
    network = UNet(**arguments).eval()
    size = network.geometry.input_size((9, 13, 11)[: network.geometry.ndim])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, network.description["in_channels"], *size))
    assert cost_of(network.description).work(size) - _CALL == counter.get_total_flops()


def test_the_papers_network():
    """301 GFLOP for 572x572; the peak is on the way up: three skips below, and 392x392 of 64 and 128 channels."""
    cost = UNetCost(1, 2, 64, ((2, 2),) * 4)
    assert round(cost.work((572, 572)) / 1e9) == 301
    skip, up, given = 64 * 568**2, 64 * 392**2, 128 * 196**2
    assert cost.memory((572, 572)) == 4 * max(skip + given + 3 * up, skip + given + 2 * up + 64 * (390**2 + 388**2))


def test_sizes_may_be_arrays():
    cost = UNetCost(1, 2, 8, ((2, 2),) * 2)
    rows, columns = np.array([[44], [48]]), np.array([[44, 60, 76]])
    for measure in (cost.work, cost.memory):
        table = measure((rows, columns))
        assert table.shape == (2, 3)
        assert table[1, 2] == measure((48, 76))


def test_a_foreign_network_is_taken_for_a_wide_one():
    cost = cost_of({"name": "foreign", "factory": "mine"})
    assert cost.memory((100, 100)) > 10_000 * 4 * 64
    assert cost.work((100, 200)) == 2 * cost.work((100, 100))


def test_every_engine_and_precision_has_its_memory():
    assert set(MEMORY) == {(name, precision) for name, kind in ENGINES.items() for precision in kind.precisions}


def test_tiles_are_chosen_by_work_not_by_pixels():
    """A call that costs much is made seldom, one that costs its pixels alone is not."""
    geometry = unet_geometry(2)
    dear = cheapest_tiles((300, 300), geometry, 10**9, work=lambda n: n[0] * n[1] + 10**9)
    assert len(dear) == 1
    thin = cheapest_tiles((300, 300), geometry, 10**9, work=lambda n: (n[0] * n[1]) ** 2)
    assert len(thin) > 4
    assert cheapest_tiles((300, 300), geometry, 40_000, memory=PixelCost(bytes=2).memory).input[0] < 180


def test_less_memory_decides_among_equal_work():
    geometry = unet_geometry(1)
    chosen = cheapest_tiles((200, 200), geometry, 10**9, work=lambda n: 1 / plan_count(n))
    least = min(n for n in range(18, 300, 2) if plan_count((n, n)) > 0)
    assert chosen.input[0] >= least


def plan_count(size):
    """Tiles of a 200x200 image, so that work in all is always 1."""
    first, second = (np.vectorize(_count)(np.asarray(n)) for n in size)
    return first * second


def _count(n):
    return plan_tiles((200, 200), unet_geometry(1), int(n) - 16).counts[0]
