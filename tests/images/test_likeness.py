"""Which images show the same: what changes a picture without changing what it shows, and what does not."""

import numpy as np
import pytest

from biounet.images.likeness import SAME, likeness, thumbnail, turns
from biounet.samples.synthetic import synthetic_cells

IMAGE = synthetic_cells((96, 96), seed=5, diameter_px=18)[0].astype(np.float32)
OTHER = synthetic_cells((96, 96), seed=6, diameter_px=18)[0].astype(np.float32)


def small(image):
    return thumbnail(np.asarray(image, np.float32)[None])


@pytest.mark.parametrize(
    "changed",
    [
        IMAGE[::-1],
        IMAGE.T,
        np.rot90(IMAGE),
        3 * IMAGE + 100,
        IMAGE + np.linspace(0, 0.3 * np.ptp(IMAGE), 96)[:, None],
        IMAGE + np.random.default_rng(0).normal(0, 0.05 * np.ptp(IMAGE), IMAGE.shape),
    ],
    ids=["mirrored", "transposed", "turned", "brighter", "shaded", "noisier"],
)
def test_an_image_that_shows_the_same_is_found(changed):
    assert likeness(small(changed), [small(IMAGE)])[0] >= SAME


def test_another_image_is_not_the_same_and_another_shape_has_no_likeness():
    found = likeness(small(IMAGE), [small(OTHER), small(IMAGE[:48]), small(IMAGE)])
    assert found[0] < 0.5
    assert found[1] == 0
    assert found[2] == pytest.approx(1)


def test_an_empty_image_is_like_nothing_not_even_itself():
    assert likeness(small(np.zeros((64, 64))), [small(np.zeros((64, 64)))])[0] == 0


def test_a_thumbnail_has_length_one_and_at_most_64_pixels_a_side():
    found = thumbnail(np.random.default_rng(1).random((2, 300, 40), np.float32))
    assert found.shape == (64, 40)
    assert float((found**2).sum()) == pytest.approx(1, abs=1e-5)


def test_a_square_has_seven_turns_beside_itself_and_a_rectangle_three():
    square, oblong = np.arange(9).reshape(3, 3), np.arange(6).reshape(2, 3)
    assert len({turned.tobytes() for _, turned in turns(square)} | {square.tobytes()}) == 8
    assert [name for name, _ in turns(oblong)] == ["mirrored along X", "mirrored along Y", "turned by a half"]
