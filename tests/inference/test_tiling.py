"""Tiled equals whole: bit for bit with integers, to 1e-12 in float64, to 2e-5 in float32."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biounet.errors import UsageError
from biounet.geometry import AxisGeometry, Geometry, mirrored, pointwise_geometry, unet_geometry
from biounet.inference.tiling import TilePlan, cheapest_tiles, plan_tiles, predict_tiled
from biounet.networks.unet import UNet


def integer_unet(depth, ndim):
    """A fake engine with the sizes and the reach of the U-Net, in integers: no rounding at all."""

    def convolve(x):  # unpadded, different weights per tap, so that a shift cannot cancel
        for axis in range(2, x.ndim):
            n = x.shape[axis]
            x = sum(w * np.take(x, range(k, n - 2 + k), axis) for k, w in enumerate((3, 7, 5)))
        return x % 65521

    def pool(x):
        for axis in range(2, x.ndim):
            x = np.maximum(np.take(x, range(0, x.shape[axis], 2), axis),
                           np.take(x, range(1, x.shape[axis], 2), axis))  # fmt: skip
        return x

    def up(x):
        for axis in range(2, x.ndim):
            x = np.repeat(x, 2, axis)
            x = x + 11 * (np.arange(x.shape[axis]) % 2).reshape((-1,) + (1,) * (x.ndim - axis - 1))
        return x

    def level(x, below):
        x = convolve(convolve(x))
        if below == 0:
            return x
        y = up(level(pool(x), below - 1))
        crop = (x.shape[2] - y.shape[2]) // 2
        return convolve(convolve(13 * y + x[(..., *(slice(crop, crop + n) for n in y.shape[2:]))]))

    return lambda batch: level(batch.astype(np.int64), depth)


def whole_pass(function, image, geometry):
    """One pass over the mirrored image, large enough for every output pixel; an independent path."""
    size = image.shape[1:]
    inputs = geometry.input_size(size)
    start = tuple(-axis.margin[0] for axis in geometry.axes)
    padded = mirrored(image, start, tuple(a + n for a, n in zip(start, inputs, strict=True)))
    return np.asarray(function(padded[None]))[(0, slice(None), *(slice(0, n) for n in size))]


POINTWISE = pointwise_geometry()
sizes_2d = st.tuples(st.integers(1, 90), st.integers(1, 90))
sizes_3d = st.tuples(st.integers(1, 22), st.integers(1, 22), st.integers(1, 22))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3), sizes_2d, st.integers(1, 70), st.integers(1, 3), st.integers(0, 9))
def test_integers_are_bit_equal_in_2d(depth, size, tile, batch, seed):
    image = np.random.default_rng(seed).integers(0, 255, (1, *size))
    geometry, function = unet_geometry(depth), integer_unet(depth, 2)
    tiled = predict_tiled(function, image, geometry, tile=tile, batch=batch)
    assert np.array_equal(tiled, whole_pass(function, image, geometry))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2), sizes_3d, st.integers(1, 16), st.integers(0, 9))
def test_integers_are_bit_equal_in_3d(depth, size, tile, seed):
    image = np.random.default_rng(seed).integers(0, 255, (1, *size))
    geometry, function = unet_geometry(depth, 3), integer_unet(depth, 3)
    tiled = predict_tiled(function, image, geometry, tile=tile)
    assert np.array_equal(tiled, whole_pass(function, image, geometry))


def torch_function(network):
    def function(batch):
        with torch.no_grad():
            return network(torch.from_numpy(batch))

    return function


def random_network(depth, ndim, seed, **arguments):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = UNet(2, 3, 3, depth, ndim, **arguments)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return network.eval()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3), sizes_2d, st.integers(1, 70), st.booleans(), st.integers(0, 99))
def test_network_in_float64_to_1e_12(depth, size, tile, batch_norm, seed):
    network = random_network(depth, 2, seed, batch_norm=batch_norm).double()
    image = np.random.default_rng(seed).standard_normal((2, *size))
    whole = whole_pass(torch_function(network), image, network.geometry)
    tiled = predict_tiled(torch_function(network), image, network.geometry, tile=tile)
    assert np.abs(tiled - whole).max() <= 1e-12 * max(1, np.abs(whole).max())


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2), st.sampled_from([2, 3, (1, 2)]), sizes_2d, st.integers(1, 70), st.integers(0, 99))
def test_network_with_a_stem_in_float64(depth, stem, size, tile, seed):
    network = random_network(depth, 2, seed, stem=stem).double()
    torch.nn.init.normal_(network.head.weight, generator=torch.Generator().manual_seed(seed))
    image = np.random.default_rng(seed).standard_normal((2, *size))
    whole = whole_pass(torch_function(network), image, network.geometry)
    tiled = predict_tiled(torch_function(network), image, network.geometry, tile=tile)
    assert np.abs(tiled - whole).max() <= 1e-12 * max(1, np.abs(whole).max())


@settings(max_examples=6, deadline=None)
@given(sizes_3d, st.integers(1, 16), st.integers(0, 99))
def test_network_in_float64_in_3d_with_thick_slices(size, tile, seed):
    network = random_network(2, 3, seed, pooling=[(1, 2, 2), (2, 2, 2)]).double()
    image = np.random.default_rng(seed).standard_normal((2, *size))
    whole = whole_pass(torch_function(network), image, network.geometry)
    tiled = predict_tiled(torch_function(network), image, network.geometry, tile=tile)
    assert np.abs(tiled - whole).max() <= 1e-12 * max(1, np.abs(whole).max())


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), sizes_2d, st.integers(1, 70), st.integers(0, 99))
def test_network_in_float32_to_the_stated_tolerance(depth, size, tile, seed):
    network = random_network(depth, 2, seed)
    image = np.random.default_rng(seed).standard_normal((2, *size)).astype(np.float32)
    whole = whole_pass(torch_function(network), image, network.geometry)
    tiled = predict_tiled(torch_function(network), image, network.geometry, tile=tile)
    tolerance = 2e-5 * np.abs(whole).max()
    assert np.abs(tiled - whole).max() <= tolerance
    best = np.sort(whole, axis=0)
    undecided = best[-1] - best[-2] <= 2 * tolerance
    assert not ((tiled.argmax(0) != whole.argmax(0)) & ~undecided).any()


def test_a_step_off_the_period_fails():
    """The property can fail: the paper's own natural step, 4 modulo 16 for depth 4, 4 modulo 8 here."""
    network = random_network(3, 2, 0).double()
    geometry = network.geometry
    image = np.random.default_rng(0).standard_normal((2, 64, 64))
    whole = whole_pass(torch_function(network), image, geometry)
    natural = TilePlan((64, 64), (28, 28), (116, 116), (28, 28), (3, 3), geometry)  # 28 mod 8 = 4
    tiled = predict_tiled(torch_function(network), image, geometry, plan=natural)
    assert np.abs(tiled[:, :28, :28] - whole[:, :28, :28]).max() < 1e-12  # the first tile is on the period
    assert np.abs(tiled - whole).max() > 0.01 * np.abs(whole).max()
    assert (tiled.argmax(0) != whole.argmax(0)).any()


def test_the_papers_tile_steps_by_384():
    plan = plan_tiles((1024, 1024), unet_geometry(4), 388)
    assert (plan.output, plan.input, plan.step, plan.counts) == ((388,) * 2, (572,) * 2, (384,) * 2, (3, 3))


@given(st.integers(0, 4), st.integers(1, 3000), st.integers(1, 2000))
def test_every_output_pixel_is_written_once_by_a_tile_on_the_period(depth, size, tile):
    axis = unet_geometry(depth).axes[0]
    plan = plan_tiles((size,), Geometry((axis,)), tile)
    written = np.zeros(size, int)
    for t in plan:
        written[t.target[0]] += 1
        assert (t.start[0] + axis.margin[0]) % axis.period == 0
        assert axis.is_admissible(t.stop[0] - t.start[0])
        assert t.kept[0].stop <= plan.output[0]
    assert (written == 1).all()


@given(st.integers(1, 4), st.integers(1, 3000), st.integers(1, 2000))
def test_the_tile_is_the_nearest_possible(depth, size, tile):
    axis = unet_geometry(depth).axes[0]
    output = plan_tiles((size,), Geometry((axis,)), tile).output[0]
    whole = axis.output_size(axis.input_size(size))
    possible = [n for n in range(1, whole + 1) if axis.is_admissible(n + 2 * axis.margin[0])]
    possible = [n for n in possible if n >= axis.period or n >= size]
    assert abs(output - tile) == min(abs(n - tile) for n in possible)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.tuples(st.integers(1, 1500), st.integers(1, 1500)), st.integers(50_000, 10**6))
def test_cheapest_tiles_beat_every_square_tile_within_the_limit(depth, size, limit):
    geometry = unet_geometry(depth)
    best = cheapest_tiles(size, geometry, limit)
    assert math.prod(best.input) <= limit
    for tile in range(8, 800, 16):
        plan = plan_tiles(size, geometry, tile)
        assert math.prod(plan.input) > limit or plan.work >= best.work


def test_no_tile_fits():
    with pytest.raises(UsageError, match="smallest possible has 41616"):
        cheapest_tiles((500, 500), unet_geometry(4), 1000)


def test_pointwise_function_of_any_dtype_and_an_image_without_channels():
    image = np.arange(35, dtype=np.uint16).reshape(5, 7)
    tiled = predict_tiled(lambda batch: batch + 1, image, pointwise_geometry(), tile=3)
    assert tiled.dtype == np.uint16
    assert np.array_equal(tiled, image[None] + 1)


def test_asymmetric_margin():
    geometry = Geometry((AxisGeometry((0, 2), 1, 3, (0, 2)), AxisGeometry((1, 0), 1, 2, (1, 0))))

    def function(batch):
        return batch[:, :, 2:, 1:] * 100 + batch[:, :, :-2, :-1]

    image = np.random.default_rng(0).integers(0, 99, (1, 11, 9))
    tiled = [predict_tiled(function, image, geometry, tile=t) for t in (1, 4, 20)]
    assert all(np.array_equal(t, whole_pass(function, image, geometry)) for t in tiled)


def test_progress_is_told():
    told = []
    image = np.zeros((10, 10), np.float32)
    predict_tiled(lambda b: b, image, POINTWISE, tile=5, batch=3, progress=lambda *n: told.append(n))
    assert told == [(3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("image", "tile", "words"),
    [
        (np.zeros((2, 2, 5, 5)), 4, "2 spatial axes"),
        (np.zeros((0, 5)), 4, "at least 1"),
        (np.zeros((5, 5)), 0, "at least 1"),
        (np.zeros((5, 5)), (4, 4, 4), "3 axes"),
    ],
)
def test_what_cannot_be_tiled_is_refused(image, tile, words):
    with pytest.raises(UsageError, match=words):
        predict_tiled(lambda batch: batch, image, pointwise_geometry(), tile=tile)


def test_a_function_that_breaks_its_geometry_is_refused():
    with pytest.raises(UsageError, match="geometry declares"):
        predict_tiled(lambda batch: batch[..., 1:], np.zeros((5, 5)), pointwise_geometry())


def test_all_tiles_are_of_one_shape():
    plan = plan_tiles((100, 333), unet_geometry(2), 60)
    assert len({tuple(b - a for a, b in zip(t.start, t.stop, strict=True)) for t in plan}) == 1
    assert len(plan) == math.prod(plan.counts) == len(list(itertools.chain(plan)))
    assert str(plan).startswith(f"{len(plan)} tiles of 60x60")
