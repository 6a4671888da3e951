"""Tiles of a framed network, cut as formats with halos cut them, are the whole image's result."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch

from biounet.geometry import frame_of, mirrored
from biounet.inference.frames import Framed, module_in_frame, onnx_in_frame, outer_geometry
from biounet.inference.onnx_engine import OnnxEngine
from biounet.inference.tiling import plan_tiles, predict_tiled
from biounet.inference.unet_graph import unet_graph
from biounet.networks.build import build

NETWORKS = [{"depth": 1}, {"depth": 3}, {"depth": 1, "stem": 3}, {"depth": 1, "ndim": 3, "in_channels": 2}]


def by_halo(function, image, geometry):
    """An image whose sides are multiples of the period, in tiles of the smallest size, mirrored outside of it."""
    frames = [frame_of(axis) for axis in geometry.axes]
    steps = [frame.smallest - 2 * frame.halo for frame in frames]
    assert all(n % step == 0 for n, step in zip(image.shape[1:], steps, strict=True))
    result = None
    for index in np.ndindex(*(n // step for n, step in zip(image.shape[1:], steps, strict=True))):
        begin = [i * step for i, step in zip(index, steps, strict=True)]
        start = [b - frame.halo for b, frame in zip(begin, frames, strict=True)]
        stop = [s + frame.smallest for s, frame in zip(start, frames, strict=True)]
        found = function(mirrored(image, start, stop)[None])[0]
        assert found.shape[1:] == tuple(frame.smallest for frame in frames)
        if result is None:
            result = np.zeros((len(found), *image.shape[1:]), found.dtype)
        kept = tuple(slice(frame.halo, -frame.halo or None) for frame in frames)
        place = tuple(slice(b, b + step) for b, step in zip(begin, steps, strict=True))
        result[(slice(None), *place)] = found[(slice(None), *kept)]
    return result


@pytest.mark.parametrize("arguments", NETWORKS)
def test_tiles_with_halos_are_exact(random_network, arguments):
    """In float64 to 1e-12: what one pass of biounet over the whole image gives."""
    network = random_network(**arguments).double()
    framed = module_in_frame(network)
    side = {2: (24, 36), 3: (4, 6, 2)}[network.geometry.ndim]
    side = tuple(-(-n // period) * period for n, period in zip(side, network.geometry.period, strict=True))
    channels = network.description["in_channels"]
    image = np.random.default_rng(0).standard_normal((channels, *side))

    def run(module):
        return lambda batch: module(torch.from_numpy(np.ascontiguousarray(batch))).detach().numpy()

    whole = predict_tiled(run(network), image, network.geometry, plan=plan_tiles(side, network.geometry, max(side)))
    tiled = by_halo(run(framed), image, network.geometry)
    assert np.abs(tiled - whole).max() <= 1e-12 * np.abs(whole).max()


def test_at_another_step_they_are_not(random_network):
    """So that the test above can fail: a halo that is two pixels larger leaves the grid."""
    network = random_network(depth=2).double()
    geometry = network.geometry
    frame = frame_of(geometry.axes[0])
    image = np.random.default_rng(0).standard_normal((1, 48, 48))

    def run(batch):
        return network(torch.from_numpy(np.ascontiguousarray(batch))).detach().numpy()

    whole = predict_tiled(run, image, geometry, plan=plan_tiles((48, 48), geometry, 48))
    size = geometry.axes[0].smallest
    shifted = run(mirrored(image, [2 - frame.halo] * 2, [2 - frame.halo + size] * 2)[None])[0]
    kept = shifted.shape[-1]
    assert np.abs(shifted - whole[:, 2 : 2 + kept, 2 : 2 + kept]).max() > 1e-3 * np.abs(whole).max()


@pytest.mark.parametrize("arguments", [*NETWORKS, {"depth": 2, "batch_norm": True, "classes": 4}])
def test_a_framed_graph_out_of_its_frame(random_network, arguments):
    network = random_network(**arguments)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    plain = unet_graph(network.description, weights)
    framed = onnx_in_frame(plain, network.geometry)
    outer = outer_geometry(network.geometry)
    engine = Framed(OnnxEngine(framed, outer), network.geometry)
    size = network.geometry.input_size((3,) * network.geometry.ndim)
    batch = np.random.default_rng(0).standard_normal((2, network.description["in_channels"], *size))
    batch = batch.astype(np.float32)
    expected = OnnxEngine(plain, network.geometry)(batch)
    assert np.array_equal(engine(batch), expected)
    session = onnxruntime.InferenceSession(framed)
    around = np.pad(batch, [(0, 0), (0, 0), *(frame_of(axis).cut for axis in network.geometry.axes)])
    assert session.run(None, {"image": around})[0].shape[2:] == around.shape[2:]
    assert (engine.geometry, engine.name, engine.batches) == (network.geometry, "onnx", False)


def test_a_network_that_loses_nothing_stays_as_it_is():
    network = build({"name": "patch_cnn", "window": 9, "width": 2}).eval()
    axis = network.geometry.axes[0]
    assert frame_of(axis) == replace(frame_of(axis), cut=(0, 0), pad=(4, 4), halo=4)
    x = torch.randn(1, 1, 20, 23)
    framed = module_in_frame(network)(x)
    assert framed.shape[2:] == x.shape[2:]
    assert torch.equal(framed[..., 4:-4, 4:-4], network(x))
