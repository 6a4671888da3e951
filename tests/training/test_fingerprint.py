"""Diameters, gaps and thicknesses against arithmetic written out."""

import math

import numpy as np
import pytest

from biounet.images.examples import Example
from biounet.training.fingerprint import diameters_px, fingerprint, gaps_px, relative_spacing


def boxes(shape, *slices):
    labels = np.zeros(shape, np.int32)
    for number, place in enumerate(slices, start=1):
        labels[place] = number
    return labels


def example(labels, pixel_size_um=None):
    return Example("x", np.zeros((2, *labels.shape), np.uint8), labels, pixel_size_um)


def test_the_diameter_is_that_of_a_disk_or_ball_of_the_same_size():
    labels = boxes((9, 12), np.s_[2:6, 1:4], np.s_[2:6, 6:9])
    assert diameters_px(labels, (1, 1)) == pytest.approx([2 * math.sqrt(12 / math.pi)] * 2)
    ball = boxes((4, 9, 9), np.s_[1:3, 2:6, 2:6])
    assert diameters_px(ball, (2.5, 1, 1)) == pytest.approx([(6 * 32 * 2.5 / math.pi) ** (1 / 3)])


@pytest.mark.parametrize("width", range(6))
@pytest.mark.parametrize("axis", [0, 1])
def test_the_gap_is_the_background_between(width, axis):
    labels = boxes((7, 24), np.s_[2:5, 1:8], np.s_[2:5, 8 + width : 20])
    labels = np.moveaxis(labels, 1, axis)
    assert gaps_px(labels, (1, 1)).tolist() == [width]


def test_gaps_are_between_neighbours_only_and_in_units_of_the_finest_axis():
    labels = boxes((40, 6), np.s_[2:8, 1:5], np.s_[10:16, 1:5], np.s_[20:30, 1:5])
    assert gaps_px(labels, (1, 1)).tolist() == [2, 4]
    assert gaps_px(labels, (3, 1)).tolist() == [6, 12]


def test_unknown_pixels_are_no_object_and_a_lone_object_has_no_gap():
    labels = boxes((9, 12), np.s_[2:6, 1:4])
    labels[:, 8:] = -1
    assert gaps_px(labels, (1, 1)).size == 0
    assert gaps_px(np.zeros_like(labels), (1, 1)).size == 0


def test_fingerprint_of_instances():
    touching = boxes((20, 30), np.s_[2:10, 2:10], np.s_[2:10, 10:18])
    apart = boxes((16, 40), np.s_[2:10, 2:10], np.s_[2:10, 20:28])
    found = fingerprint([example(touching), example(apart)], "instances", 2)
    assert (found.images, found.largest, found.channels, found.objects) == (2, (20, 40), 2, 4)
    assert found.touching == 0.5
    assert found.diameters_px == pytest.approx([2 * math.sqrt(64 / math.pi)] * 3)
    assert found.gaps_px[1] == 5
    assert "4 objects of 9 px diameter" in str(found)
    assert "50% of neighbours touch" in str(found)


@pytest.mark.parametrize("thickness", [1, 4, 10])
def test_thickness_of_a_slab(thickness):
    labels = np.zeros((30, 60), np.int32)
    labels[:, 20 : 20 + thickness] = 1
    found = fingerprint([example(labels)], "classes", 3).thickness_px
    assert found[1] == pytest.approx(thickness, rel=0.15, abs=1.1)  # whole pixels: exact for even thickness
    assert found[2] is None
    if thickness % 2 == 0:
        assert found[1] == pytest.approx(thickness)


def test_nothing_drawn_has_no_diameters():
    found = fingerprint([example(np.zeros((20, 20), np.int32))], "instances", 2)
    assert found.diameters_px is None
    assert found.gaps_px is None


def test_spacing_is_relative_to_the_finest_axis():
    assert relative_spacing((3.0, 0.5, 0.5), 3) == (6, 1, 1)
    assert relative_spacing(None, 2) == (1, 1)
