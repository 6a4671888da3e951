"""A plan chooses what is left open, by rules on the fingerprint, and leaves alone what is given."""

import pytest

from biounet.errors import UsageError
from biounet.geometry import unet_geometry
from biounet.planning.choices import choose, margin_warning, reach_warning
from biounet.planning.fingerprint import Fingerprint
from biounet.planning.network_choices import chosen_geometry, poolings
from biounet.settings import dotted, paper, read_settings


def cells(diameter, *, spread=1.3, ndim=2, spacing=None):
    size = (512,) * ndim
    return Fingerprint(
        9, size, 1, spacing or (1.0,) * ndim, diameters_px=(diameter / spread, diameter, diameter * spread), objects=90
    )


def chosen(found, task="instances", *overrides):
    settings, choices = choose(read_settings(overrides=overrides), found, task=task)
    return settings, {choice.key: choice for choice in choices}


@pytest.mark.parametrize(("diameter", "stem"), [(8, 1), (26, 1), (60, 1), (69, 2), (112, 2), (120, 3), (900, 4)])
def test_large_objects_get_a_stem(diameter, stem):
    settings, choices = chosen(cells(diameter))
    assert settings.network.stem == stem
    assert settings.training.tile == 244 * stem
    assert f"objects of {diameter} px" in choices["network.stem"].reason


def test_thick_slices_are_not_taken_together_nor_pooled_before_the_pixels_in_the_plane_are_as_thick():
    settings, choices = chosen(cells(40, ndim=3, spacing=(4.0, 1.0, 1.0)))
    assert settings.network.stem == (1, 2, 2)  # pixels of 4:2:2 behind it
    assert settings.network.pooling == ((1, 2, 2), (2, 2, 2))
    assert settings.training.tile == (32, 128, 128)
    assert choices["network.pooling"].reason == "pixels of 4:1:1 are pooled on the finer axes first"


@pytest.mark.parametrize(
    ("spacing", "levels"),
    [
        ((1.0, 1.0, 1.0), ((2, 2, 2),) * 3),
        ((1.9, 1.0, 1.0), ((2, 2, 2),) * 3),
        ((2.0, 1.0, 1.0), ((1, 2, 2), (2, 2, 2), (2, 2, 2))),
        ((5.0, 1.0, 1.0), ((1, 2, 2), (1, 2, 2), (2, 2, 2))),  # 5 is less than twice 4
        ((1.0, 3.0, 1.0), ((2, 1, 2), (2, 2, 2), (2, 2, 2))),
    ],
)
def test_the_finer_axes_are_pooled_first(spacing, levels):
    assert poolings(3, spacing) == levels


@pytest.mark.parametrize(
    ("side", "tile", "depth"),
    # margins of the depths 1 to 4: 8, 20, 44 and 92 px a side, and ((128 + 88) / 128)^3 is 4.8, of 184 14.5
    [(6, "null", 1), (16, "null", 1), (44, "null", 2), (400, "null", 2), (400, "128", 3)],
)
def test_a_volume_gets_the_deepest_network_whose_margin_it_can_pay(side, tile, depth):
    found = Fingerprint(9, (side,) * 3, 1, (1.0,) * 3, thickness_px=(8.0, 8.0))
    settings, choices = chosen(found, "classes", f"training.tile={tile}")
    assert settings.network.depth == depth
    assert "times the voxels of its output, at depth" in choices["network.depth"].reason


def test_the_reason_for_a_depth_states_what_its_margin_costs():
    # 40 px of output a side: depth 2 reads 40 + 2 * 20 = 80 (admissible: 44 + k * 4), depth 3 reads 40 + 88 = 128
    # (the next of 92 + k * 8 is 132)
    found = Fingerprint(9, (40, 40, 40), 1, (1.0,) * 3, thickness_px=(8.0, 8.0))
    _, choices = chosen(found, "classes")
    assert choices["network.depth"].reason == (
        "with its margin a sample has 8.0 times the voxels of its output, at depth 3 it would have 27 times"
    )


def test_a_sample_of_a_volume_has_64_voxels_a_side():
    settings, _ = chosen(cells(10, ndim=3))
    assert settings.training.tile == 64


@pytest.mark.parametrize(
    ("largest", "depth", "expected"),
    # the grid's three vectors a side lie (input - 1) / 2 apart, and the deformation is 5 % of that: 10 px from 401 on
    [((512, 512), 4, 10.0), ((64, 64), 2, 2.6), ((44, 44, 44), 2, 2.1)],
)
def test_small_samples_are_deformed_less(largest, depth, expected):
    found = Fingerprint(9, largest, 1, (1.0,) * len(largest), thickness_px=(8.0, 8.0))
    settings, choices = chosen(found, "classes", f"network.depth={depth}")
    assert settings.augmentation.elastic_std_px == expected
    assert ("as in the paper" in choices["augmentation.elastic_std_px"].reason) == (expected == 10.0)


def test_images_that_stand_upright_are_neither_mirrored_nor_turned_far():
    upright = Fingerprint(9, (64, 64), 1, (1.0, 1.0), thickness_px=(8.0, 8.0, 8.0), upright=(1, 2, 9))
    settings, choices = chosen(upright, "classes")
    assert (settings.augmentation.mirror, settings.augmentation.rotation_degrees) == (False, 20.0)
    assert choices["augmentation.mirror"].reason == "class 2 lies on the same side of class 1 in 9 images"
    settings, _ = chosen(cells(20))
    assert (settings.augmentation.mirror, settings.augmentation.rotation_degrees) == (True, 180.0)


def test_classes_stay_at_full_resolution():
    found = Fingerprint(24, (512, 512), 1, (1.0, 1.0), thickness_px=(8.0, 48.0))
    settings, _ = chosen(found, "classes")
    assert settings.network.stem == 1
    assert settings.training.tile == 244


@pytest.mark.parametrize(("task", "batch_norm"), [("instances", True), ("classes", False)])
def test_kernels_are_standardised_where_batches_are_not_normalised(task, batch_norm):
    settings, _ = chosen(cells(20), task)
    assert settings.network.batch_norm is batch_norm
    assert settings.training.weight_standardisation is not batch_norm


def test_dice_is_added_for_objects_alone_and_for_the_network_it_was_measured_with():
    assert chosen(cells(20), "instances")[0].loss.dice == 1
    assert chosen(cells(20), "classes")[0].loss.dice == 0
    assert chosen(cells(20), "instances", "network.name=fcn8s")[0].loss.dice == 0


def test_what_is_given_stays_and_is_no_choice():
    given = {
        "network.stem": 3,
        "network.depth": 3,
        "network.pooling": ((2, 2),) * 3,
        "network.batch_norm": False,
        "training.weight_standardisation": False,
        "training.tile": 100,
        "augmentation.elastic_std_px": 3.0,
        "augmentation.mirror": False,
        "augmentation.rotation_degrees": 10.0,
        "loss.dice": 0.5,
    }
    words = (f"{key}={str(value).lower().replace('(', '[').replace(')', ']')}" for key, value in given.items())
    settings, choices = chosen(cells(20), "instances", *words)
    assert {key: dict(dotted(settings.model_dump()))[key] for key in given} == given
    assert choices == {}


def test_the_papers_preset_leaves_nothing_open():
    assert choose(paper(), cells(300), task="instances") == (paper(), ())


def test_a_given_depth_that_makes_samples_mostly_margin_is_kept_and_said_with_the_remedy():
    small = Fingerprint(9, (44, 44, 44), 1, (1.0,) * 3, thickness_px=(8.0, 8.0))
    settings, _ = choose(paper(), small, task="classes")
    assert settings.network.depth == 4
    words = margin_warning(settings, small, chosen_geometry(settings, 3))
    # margin 92 a side: inputs of 44 + 184 = 228 and up to the next admissible, 188 + k * 16 = 236, outputs 52
    assert words.startswith("warning: with its margin a sample has 93 times the voxels of its output")
    assert "--set network.depth=null" in words
    assert margin_warning(settings, cells(300), chosen_geometry(settings, 2)) is None


def test_nothing_drawn_gives_the_plain_network():
    settings, _ = chosen(Fingerprint(1, (64, 64), 1, (1.0, 1.0)))
    assert settings.network.stem == 1


def test_a_network_is_asked_only_for_what_it_has():
    settings, choices = chosen(cells(112), "instances", "network.name=patch_cnn")
    assert not any(key.startswith("network.") for key in choices)
    assert settings.training.weight_standardisation is False


def test_objects_beyond_the_reach_are_said_with_the_remedy():
    geometry = unet_geometry(4)
    assert geometry.reach[0] == (107, 107)
    words = reach_warning(geometry, cells(60, spread=2))
    assert words.startswith("warning: large objects (120 px) exceed the network's reach (107 px)")
    assert "--set network.stem=3" in words
    assert reach_warning(geometry, cells(60, spread=1.5)) is None
    assert reach_warning(unet_geometry(4, stem=2), cells(60, spread=2)) is None


@pytest.mark.parametrize("preset", ["paper", "standard"])
@pytest.mark.parametrize(
    ("ndim", "override", "said"),
    [
        (2, "network.stem=[2,2,2]", r"setting network.stem \(=\(2, 2, 2\)\) must be one number, or one an axis \(2\)"),
        (3, "network.stem=[2,2]", r"setting network.stem \(=\(2, 2\)\) .* one an axis \(3\)"),
        (2, "network.stem=[]", r"setting network.stem \(=\(\)\) must be"),
        (2, "training.tile=[32,32,32]", r"setting training.tile \(=\(32, 32, 32\)\) .* one an axis \(2\)"),
        (3, "training.tile=[32,32]", r"setting training.tile \(=\(32, 32\)\) .* one an axis \(3\)"),
        (2, "network.pooling=[[2,2,2],[2,2,2],[2,2,2],[2,2,2]]", r"4 levels \(the depth\) of 2 factors"),
    ],
)
def test_a_setting_with_another_number_of_axes_than_the_images_is_refused(preset, ndim, override, said):
    with pytest.raises(UsageError, match=said):
        choose(read_settings(preset, overrides=[override]), cells(40, ndim=ndim), task="instances")
