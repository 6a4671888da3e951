import numpy as np
import pytest
import torch

from biounet.errors import UsageError
from biounet.geometry import AxisGeometry, Geometry, common_geometry, unet_geometry
from biounet.inference.tiling import predict_tiled
from biounet.networks.build import build
from biounet.networks.ensemble import Ensemble
from biounet.networks.patch_cnn import PatchCNN
from biounet.networks.unet import UNet
from biounet.networks.verify import verify_geometry


def unets(*seeds, **arguments):
    made = []
    for seed in seeds:
        torch.manual_seed(seed)
        made.append(UNet(**({"width": 2, "depth": 2, "classes": 3} | arguments)).eval())
    return made


def as_function(network):
    def function(batch):
        with torch.no_grad():
            return network(torch.from_numpy(np.ascontiguousarray(batch, np.float32))).numpy()

    return function


def softmax(logits):
    powers = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def test_its_softmax_is_the_mean_of_the_members_probabilities():
    members = unets(0, 1, 2)
    x = np.random.default_rng(0).standard_normal((2, 1, *members[0].geometry.input_size((5, 9)))).astype(np.float32)
    mean = np.mean([softmax(as_function(member)(x)) for member in members], axis=0)
    logits = as_function(Ensemble(members).eval())(x)
    assert np.allclose(np.exp(logits), mean, rtol=1e-5)
    assert np.allclose(softmax(logits), mean, rtol=1e-5)


def test_a_probability_of_zero_has_a_logarithm_all_the_same():
    (member,) = unets(0)
    with torch.no_grad():
        member.head.bias.copy_(torch.tensor([0.0, 500.0, 0.0]))
    logits = as_function(Ensemble([member]).eval())(np.zeros((1, 1, *member.geometry.smallest)))
    assert np.isfinite(logits).all()
    assert np.allclose(softmax(logits)[0, :, 0, 0], [0, 1, 0], atol=1e-12)


@pytest.mark.parametrize("others", [unets(1), [PatchCNN(width=2, window=17, classes=3)]])
def test_it_is_tiled_exactly_and_its_geometry_is_verified(others):
    network = Ensemble([*unets(0), *others]).eval()
    function = as_function(network)
    verify_geometry(function, network.geometry, 1)
    image = np.random.default_rng(0).standard_normal((1, 61, 77)).astype(np.float32)
    whole = predict_tiled(function, image, network.geometry, tile=200)
    tiled = predict_tiled(function, image, network.geometry, tile=8)
    assert np.abs(whole - tiled).max() <= 2e-5 * np.abs(whole).max()


def test_members_of_different_geometry_speak_of_the_same_pixels():
    """Each predicts the whole image on its own; the mean of that is the ensemble's."""
    members = [*unets(0), PatchCNN(width=2, window=33, classes=3).eval()]
    image = np.random.default_rng(0).standard_normal((1, 40, 52)).astype(np.float32)
    alone = [softmax(predict_tiled(as_function(m), image, m.geometry, tile=64)[None]) for m in members]
    network = Ensemble(members).eval()
    together = softmax(predict_tiled(as_function(network), image, network.geometry, tile=64)[None])
    assert np.allclose(together, np.mean(alone, axis=0), atol=1e-5)


def test_common_geometry_written_out():
    """Margins 3 and 1 before, 2 and 4 after; inputs 9 + 4k and, with a cut of (3 - 1) + (4 - 4), 8 + 2 + 6k."""
    one, other = AxisGeometry((3, 2), 4, 9, (5, 5)), AxisGeometry((1, 4), 6, 9, (2, 7))
    found = common_geometry([Geometry((one,)), Geometry((other,))]).axes[0]
    # the first is cut by 7 - 5 = 2: 11, 15, 19, 23; the second by 7 - 5 = 2: 11, 17, 23
    assert found == AxisGeometry((3, 4), 12, 11, (5, 7))
    assert common_geometry([unet_geometry()] * 3) == unet_geometry()


def test_what_cannot_go_together_is_refused():
    even, odd = AxisGeometry((0, 0), 2, 2, (0, 0)), AxisGeometry((0, 0), 2, 1, (0, 0))
    with pytest.raises(UsageError, match=r"no size of an image suits all .* 2 \+ k \* 2, 1 \+ k \* 2; leave some out"):
        common_geometry([Geometry((even,)), Geometry((odd,))])
    with pytest.raises(UsageError, match="of no networks"):
        Ensemble([])
    with pytest.raises(UsageError, match=r"differ in classes: \[3, 2\]"):
        Ensemble([*unets(0), *unets(0, classes=2)])
    with pytest.raises(UsageError, match=r"differ in ndim: \[2, 3\]"):
        Ensemble([*unets(0), *unets(0, ndim=3)])


def test_description_builds_the_same_network():
    network = Ensemble(unets(0, 1)).eval()
    again = build(network.description).eval()
    again.load_state_dict(network.state_dict())
    x = torch.randn(1, 1, *network.geometry.smallest)
    assert torch.equal(again(x), network(x))
    with pytest.raises(UsageError, match="'ensemble' does not take these settings"):
        build({"name": "ensemble", "members": 3})
