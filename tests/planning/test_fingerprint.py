"""Diameters, gaps and thicknesses against arithmetic written out."""

import math

import numpy as np
import pytest

from biounet.datasets.examples import Example
from biounet.planning.fingerprint import diameters_px, fingerprint, gaps_px, relative_spacing, same_side


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


def two_classes(direction, *, at=(20, 20), size=40):
    """Class 1 at a place and class 2 from there in a direction, as two squares of 3x3 pixels."""
    labels = np.zeros((size, size), np.int32)
    for k, place in ((1, np.array(at)), (2, np.array(at) + np.round(direction).astype(int))):
        labels[tuple(slice(n - 1, n + 2) for n in place)] = k
    return labels


def directions(angles_degrees):
    radians = np.deg2rad(angles_degrees)
    return [two_classes(10 * np.array([np.sin(a), np.cos(a)])) for a in radians]


def test_images_whose_classes_lie_the_same_way_from_each_other_stand_upright():
    assert same_side(directions(np.linspace(-20, 20, 9)), 3, (1.0, 1.0)) == (1, 2, 9)
    assert same_side(directions(np.linspace(0, 320, 9)), 3, (1.0, 1.0)) is None
    assert same_side(directions(np.linspace(-80, 80, 9)), 3, (1.0, 1.0)) is None


def test_few_images_that_agree_may_do_so_by_chance():
    assert same_side(directions([0, 5, -5, 3, 0, 1]), 3, (1.0, 1.0)) is None  # 6 < 7


def test_an_image_without_one_of_the_classes_says_nothing_of_their_sides():
    alone = np.where(two_classes((0, 10)) == 1, 1, 0).astype(np.int32)
    assert same_side([*directions([0] * 8), alone, np.zeros_like(alone)], 3, (1.0, 1.0)) == (1, 2, 8)
    assert same_side([alone] * 9, 3, (1.0, 1.0)) is None


def test_sides_are_told_in_space():
    # 45 degrees to either side in square pixels; 7 degrees where those of the first axis are eight times as long
    images = [two_classes((8, side * 8)) for side in (-1, 1)] * 5
    assert same_side(images, 3, (1.0, 1.0)) is None
    assert same_side(images, 3, (8.0, 1.0)) == (1, 2, 10)


def test_pages_of_one_stack_have_a_side_in_common_without_saying_so():
    images = [example(a) for a in directions([0] * 9)]
    assert fingerprint(images, "classes", 3).upright == (1, 2, 9)
    assert fingerprint(images, "classes", 3, sequence=True).upright is None
