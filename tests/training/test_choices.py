"""A plan chooses what is left open, by rules on the fingerprint, and leaves alone what is given."""

import pytest

from biounet.geometry import unet_geometry
from biounet.settings import paper, read_settings
from biounet.training.choices import choose, reach_warning
from biounet.training.fingerprint import Fingerprint


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


def test_thick_slices_are_not_taken_together():
    settings, _ = chosen(cells(90, ndim=3, spacing=(4.0, 1.0, 1.0)))
    assert settings.network.stem == (1, 2, 2)
    assert settings.network.depth == 2


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


def test_what_is_given_stays_and_is_no_choice():
    given = ("network.stem=3", "network.batch_norm=false", "training.weight_standardisation=false", "training.tile=100")
    settings, choices = chosen(cells(20), "instances", *given)
    assert (settings.network.stem, settings.network.batch_norm, settings.training.tile) == (3, False, 100)
    assert choices == {}


def test_the_papers_preset_leaves_nothing_open():
    assert choose(paper(), cells(300), task="instances") == (paper(), ())


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
