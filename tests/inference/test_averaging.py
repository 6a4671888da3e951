"""Averaging over views: each is exact under tiling, and together they treat all views alike."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biounet.errors import UsageError
from biounet.geometry import unet_geometry
from biounet.inference.averaging import KINDS, View, unlearnt_views, views
from biounet.inference.cost import PixelCost
from biounet.inference.predict import predict_probabilities
from biounet.inference.tiling import plan_tiles, predict_tiled
from biounet.networks.unet import UNet


class Engine:
    """A function with the geometry of a U-Net, in the dtype it is given."""

    name, precision, cost = "fake", "fp32", PixelCost()

    def __init__(self, function, geometry):
        self.function, self.geometry = function, geometry

    def __call__(self, batch):
        return self.function(batch)


def whole_numbers(depth, ndim):
    """Pooling at the phase of the period and unlike taps, in integers: no rounding, no symmetry."""
    geometry = unet_geometry(depth, ndim)
    margin, period = geometry.axes[0].margin[0], geometry.period[0]

    def function(batch):
        x = np.rint(batch * 8).astype(np.int64)
        out = [n - 2 * margin for n in x.shape[2:]]
        pooled = x
        for axis in range(2, x.ndim):
            n = x.shape[axis] // period * period
            parts = np.split(np.take(pooled, range(n), axis), n // period, axis)
            pooled = np.concatenate([np.broadcast_to(p.max(axis, keepdims=True), p.shape) for p in parts], axis)
        middle = tuple(slice(margin, margin + n) for n in out)
        aside = tuple(slice(1, 1 + n) for n in out)
        cell = (3 * pooled[(..., *middle)] - 5 * x[(..., *aside)]) % 97 - 48
        return np.concatenate([np.zeros_like(cell), cell], axis=1).astype(np.float32)

    return Engine(function, geometry)


def network_engine(seed, dtype, **arguments):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = UNet(1, 2, 3, **arguments).eval().to(dtype)

    def function(batch):
        with torch.no_grad():
            return network(torch.from_numpy(batch).to(dtype)).numpy()

    return Engine(function, network.geometry)


def averaged(engine, image, tile, tta, batch=1):
    plan = plan_tiles(image.shape[1:], engine.geometry, tile)
    return predict_probabilities(engine, [image], plan, tta=tta, batch=batch)[0]


sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2), sizes, st.integers(1, 30), st.sampled_from(KINDS), st.integers(1, 3), st.integers(0, 9))
def test_tiled_equals_whole_bit_for_bit_with_integers(depth, size, tile, tta, batch, seed):
    image = np.random.default_rng(seed).integers(0, 255, (1, *size)).astype(np.float32)
    engine = whole_numbers(depth, 2)
    assert np.array_equal(averaged(engine, image, tile, tta, batch), averaged(engine, image, 10_000, tta))


@settings(max_examples=4, deadline=None)
@given(st.tuples(*[st.integers(1, 9)] * 3), st.integers(1, 8), st.sampled_from(["flips", "all"]))
def test_tiled_equals_whole_in_3d(size, tile, tta):
    image = np.random.default_rng(0).integers(0, 255, (1, *size)).astype(np.float32)
    engine = whole_numbers(1, 3)
    assert np.array_equal(averaged(engine, image, tile, tta), averaged(engine, image, 10_000, tta))


@settings(max_examples=8, deadline=None)
@given(sizes, st.integers(1, 30), st.sampled_from(["flips", "all"]), st.integers(0, 99))
def test_each_view_of_a_network_is_exact(size, tile, tta, seed):
    """In float64 the logits of every view to 1e-12; in fp32 the probabilities to the stated tolerance."""
    image = np.random.default_rng(seed).standard_normal((1, *size))
    engine = network_engine(seed, torch.float64, depth=2)
    for view in views(tta, engine.geometry):
        seen = view.apply(image)
        tiled, whole = (predict_tiled(engine, seen, engine.geometry, tile=n) for n in (tile, 10_000))
        assert np.abs(tiled - whole).max() <= 1e-12 * max(1, np.abs(whole).max())
    engine, image = network_engine(seed, torch.float32, depth=2), image.astype(np.float32)
    largest = np.abs(predict_tiled(engine, image, engine.geometry, tile=10_000)).max()
    found = averaged(engine, image, tile, tta)
    assert np.abs(found - averaged(engine, image, 10_000, tta)).max() <= 4e-5 * max(1, largest)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_view_of_the_image_gives_that_view_of_the_result(ndim):
    """The average is over a group: what is averaged stays the same, whatever view one starts from."""
    image = np.random.default_rng(0).integers(0, 255, (1, 7, 12, 9)[: 1 + ndim]).astype(np.float32)
    engine = whole_numbers(1, ndim)
    for tta in ("flips", "all"):
        looks = views(tta, engine.geometry)
        expected = averaged(engine, image, 8, tta)
        for view in looks:
            found = view.undo(averaged(engine, np.ascontiguousarray(view.apply(image)), 8, tta))
            assert np.abs(found - expected).max() < 1e-6
    alone = averaged(engine, image, 8, "none")
    mirrored = View((True,) * ndim)
    seen = averaged(engine, np.ascontiguousarray(mirrored.apply(image)), 8, "none")
    assert np.abs(mirrored.undo(seen) - alone).max() > 0.1  # without averaging it is another result


@pytest.mark.parametrize(("ndim", "counts"), [(2, (1, 4, 8)), (3, (1, 8, 16))])
def test_how_many_views_there_are_and_that_they_differ(ndim, counts):
    geometry = unet_geometry(1, ndim)
    image = np.arange(5**ndim).reshape(1, *(5,) * ndim)
    for kind, count in zip(KINDS, counts, strict=True):
        looks = views(kind, geometry)
        assert len({view.apply(image).tobytes() for view in looks}) == len(looks) == count
        assert all(np.array_equal(view.undo(view.apply(image)), image) for view in looks)


def test_the_mean_written_out():
    """Two flips of two pixels by hand: a function that prefers the left one."""

    def prefer_left(batch):
        cell = np.where(np.arange(batch.shape[-1]) == 0, 0.0, np.log(3.0)) * np.ones_like(batch)
        return np.concatenate([np.zeros_like(cell), cell], 1)

    geometry = unet_geometry(0)
    axis = type(geometry.axes[0])((0, 0), 1, 1, (0, 0))
    engine = Engine(prefer_left, type(geometry)((axis, axis)))
    image = np.zeros((1, 1, 2), np.float32)
    assert averaged(engine, image, 9, "none")[1].tolist() == [[0.5, 0.75]]
    assert averaged(engine, image, 9, "flips")[1].tolist() == [[0.625, 0.625]]


def test_what_cannot_be_averaged():
    with pytest.raises(UsageError, match="--tta 'turns' is not known; choose none, flips, all"):
        views("turns", unet_geometry(1))
    uneven = unet_geometry(2, pooling=[(1, 2), (2, 2)])
    with pytest.raises(UsageError, match="--tta all turns Y into X, and this network treats them differently"):
        views("all", uneven)
    assert len(views("flips", uneven)) == 4


@pytest.mark.parametrize(
    ("mirror", "degrees", "kind", "named"),
    [
        (False, 20.0, "none", None),
        (False, 20.0, "flips", "mirrored images,"),
        (False, 20.0, "all", "mirrored images and 90-degree rotations,"),
        (False, 180.0, "all", "mirrored images,"),
        (True, 20.0, "all", "90-degree rotations,"),
        (True, 20.0, "flips", None),
        (True, 180.0, "all", None),
    ],
)
def test_views_that_no_sample_showed_are_said(mirror, degrees, kind, named):
    said = unlearnt_views(kind, {"mirror": mirror, "rotation_degrees": degrees})
    assert [f"--tta {kind} averages over {named}" in line for line in said] == [True] * (named is not None)


def test_of_a_model_that_tells_nothing_of_its_samples_nothing_is_said():
    assert unlearnt_views("all", {}) == []
