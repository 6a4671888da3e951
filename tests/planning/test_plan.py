import numpy as np
import pytest
import torch
from torch import nn

from biounet.errors import UsageError
from biounet.geometry import AxisGeometry, Geometry, unet_geometry
from biounet.networks.unet import UNet
from biounet.planning import plan as planning
from biounet.planning.choices import choose
from biounet.planning.data import read_training_data
from biounet.planning.fingerprint import fingerprint
from biounet.planning.plan import make_network, make_plan
from biounet.samples.synthetic import synthetic_cells


class Blur(nn.Module):
    """A foreign network: unpadded 3x3 convolutions, ``margin`` of them, with whatever geometry it declares."""

    def __init__(self, in_channels, classes, *, reach=2, margin=2, period=1, ndim=2):
        super().__init__()
        axis = AxisGeometry((margin, margin), period, 2 * margin + 1, (reach, reach))
        self.geometry = Geometry((axis,) * ndim)
        self.layers = nn.Sequential(nn.Conv2d(in_channels, 3, 3), nn.ReLU(), nn.Conv2d(3, classes, 3))

    def forward(self, x):
        return self.layers(x)


@pytest.fixture
def plan(cells, tiny):
    def make(*overrides, seed=0, pairs=cells, **options):
        settings = tiny(*overrides)
        return make_plan(read_training_data(pairs, settings.data), settings, seed=seed, **options)

    return make


def weights(network):
    return torch.cat([p.detach().ravel() for p in network.parameters()])


def test_the_network_is_initialised_by_the_seed_alone(plan):
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first = weights(plan().network)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(8)
    assert torch.equal(weights(plan().network), first)
    assert not torch.equal(weights(plan(seed=1).network), first)


def test_the_network_takes_the_data_s_channels_classes_and_axes(tiny, cells):
    image, labels = cells[0]
    pairs = [(np.stack([image, image, image]), np.minimum(labels, 2))] * 3
    data = read_training_data(pairs, tiny("data.task=classes").data)
    settings, _ = choose(tiny(), fingerprint(data.examples, "classes", 3), task="classes")
    description = make_network(data, settings, None).description
    assert (description["in_channels"], description["classes"], description["ndim"]) == (3, 3, 2)


@pytest.mark.parametrize(
    ("asked", "pooling", "depth"),
    [("null", None, 1), (3, None, 3), ("null", [[1, 2, 2]] * 3, 3), (3, [[1, 2, 2]] * 3, 3)],
)
def test_in_3d_the_depth_is_what_a_volume_can_pay_unless_it_is_given(tiny, asked, pooling, depth):
    data = read_training_data([synthetic_cells((16, 24, 24), seed=0, diameter_px=10)], tiny().data)
    settings = tiny(f"network.depth={asked}", f"network.pooling={pooling}".replace("None", "null"))
    assert make_plan(data, settings, seed=0).geometry == unet_geometry(depth, 3, pooling=pooling)


@pytest.mark.parametrize(
    ("asked", "task", "expected"),
    [("null", "instances", True), ("null", "classes", False), ("false", "instances", False), ("true", "classes", True)],
)
def test_batch_normalisation_follows_the_task_unless_it_is_given(plan, asked, task, expected):
    made = plan(f"network.batch_norm={asked}", f"data.task={task}")
    assert made.network.description["batch_norm"] is expected
    assert any(line.startswith(f"network.batch_norm = {expected}") for line in made.statements) is (asked == "null")


def test_samples_are_of_the_tile_asked_for_and_no_larger_than_the_image_needs(plan):
    small, large = plan("training.tile=16").sampler, plan("training.tile=300").sampler
    geometry = unet_geometry(1)
    assert small.output_size == (16, 16)
    assert large.output_size == (48, 48)
    for sampler in (small, large):
        assert sampler.output_size == geometry.output_size(sampler.input_size)
        assert sampler.margin == (8, 8)


def test_class_weights_are_inverse_frequencies_over_the_training_images(plan, tiny, cells):
    pairs = [(image, (labels > 0).astype(int)) for image, labels in cells]
    made = plan(pairs=pairs)
    assert [e.name for e in made.split.validation] == ["array 2"]
    used = np.stack([pairs[i][1] for i in (0, 1, 3)])
    share = used.mean()
    assert made.sampler.class_weights == pytest.approx((0.5 / (1 - share), 0.5 / share), rel=1e-12)
    assert plan("loss.class_balance=false", pairs=pairs).sampler.class_weights == (1.0, 1.0)


def test_a_class_that_only_held_back_images_show_is_warned_of(plan, cells):
    pairs = [(image, (labels > 0).astype(int) + ((labels == 1) & (k == 2))) for k, (image, labels) in enumerate(cells)]

    def warnings(*overrides):
        return [line for line in plan("data.task=classes", *overrides, pairs=pairs).statements if "never found" in line]

    (warning,) = warnings("data.validation=array 2")
    assert warning.startswith("warning: no image that is learnt from shows 2, so that is never found")
    assert not warnings("data.validation=array 1")


def test_intensities_of_held_back_images_do_not_enter_the_normalisation(plan, cells):
    made = plan("data.normalisation=dataset")
    used = np.stack([cells[i][0] for i in (0, 1, 3)]).astype(np.float64)
    assert made.normalisation.mean == pytest.approx((used.mean(),))
    assert made.normalisation.std == pytest.approx((used.std(),))
    assert np.concatenate([image.ravel() for image in made.sampler.images]).mean() == pytest.approx(0, abs=1e-5)


def test_each_choice_is_stated(plan):
    fingerprint_, *choices, network, held, sample = plan("network.depth=2").statements
    assert fingerprint_.startswith("fingerprint: 4 images, the largest 48x48; 36 objects of 12 px diameter")
    assert [line.split(" = ")[0] for line in choices] == [
        "network.stem",
        "training.weight_standardisation",
        "augmentation.elastic_std_px",
        "augmentation.mirror",
        "augmentation.rotation_degrees",
        "loss.dice",
    ]
    assert network.startswith("network unet, ")
    assert network.endswith("period 4, margin 20 and reach 23 px a side")
    assert held == "held back: array 2: 1 of 4 images, evenly spaced by name"
    assert sample == "each sample 16x16 pixels of output, 1 a step, computed in fp32"


def test_a_foreign_network_that_keeps_its_word_is_taken(plan):
    made = plan(factory=Blur)
    assert made.geometry == made.network.geometry
    assert made.network.description == {"name": "foreign", "factory": "Blur"}
    assert any(line.startswith("network foreign, ") for line in made.statements)


@pytest.mark.parametrize(
    ("factory", "match"),
    [
        (lambda c, k: Blur(c, k, margin=3, reach=3), r"its declared geometry says .* correct the margin"),
        (lambda c, k: Blur(c, k, reach=1), "farther than the declared reach"),
        (lambda c, k: Blur(c, k + 1), "gives 3 classes where 2 were asked for"),
        (lambda c, k: UNet(c, k, 2, 1, ndim=3), "its geometry has 3 axes, but the images have 2"),
        (lambda c, k: nn.Conv2d(c, k, 1), "must give a torch module with a `geometry`"),
        (lambda c, k: None, "not NoneType with geometry None"),
    ],
)
def test_a_foreign_network_that_does_not_keep_its_word_is_refused(plan, factory, match):
    with pytest.raises(UsageError, match=match):
        plan(factory=factory)


def test_a_foreign_network_with_a_period_it_does_not_have_is_refused(plan):
    def pooled(in_channels, classes):
        network = UNet(in_channels, classes, 2, 1)
        axis = network.geometry.axes[0]
        network.geometry = Geometry((AxisGeometry(axis.margin, 1, axis.smallest, axis.reach),) * 2)
        return network

    with pytest.raises(UsageError, match="fails on an input of a size that its geometry admits"):
        plan(factory=pooled)


def test_thick_slices_reach_the_sampler_as_spacing():
    assert planning._spacing((2.0, 0.5, 0.5)) == (4.0, 1.0, 1.0)
    assert planning._spacing((0.5, 0.51)) is None
