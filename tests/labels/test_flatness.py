import numpy as np
from scipy import ndimage

from biounet.labels.flatness import A_MASK, AN_IMAGE, flatness
from biounet.samples.synthetic import synthetic_cells


def test_masks_are_flat_and_images_are_not():
    image, labels = synthetic_cells((80, 90), seed=1)
    assert flatness(labels) > A_MASK
    assert flatness(image) < AN_IMAGE


def test_a_dark_image_is_no_mask_and_one_value_tells_nothing():
    image = np.zeros((60, 60), np.uint8)
    image[20:40, 20:40] = np.random.default_rng(0).integers(1, 200, (20, 20))
    assert flatness(image) < AN_IMAGE
    assert flatness(np.full((9, 9), 7)) == 0.5


def test_outlines_and_small_objects_are_still_labels():
    points = np.zeros((60, 60), np.int32)
    points[::6, ::6] = np.arange(1, 101).reshape(10, 10)
    assert flatness(ndimage.grey_dilation(points, size=(3, 3))) > AN_IMAGE
