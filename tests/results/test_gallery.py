"""The pictures of a prediction: which images, which layers, and their pixels."""

from pathlib import Path

import numpy as np
import pytest

from biounet.report.pictures import colours, heat, to_rgb
from biounet.results.gallery import Gallery, Seen


@pytest.fixture
def taken(random_model):
    """The one figure that a gallery takes."""

    def take(seen, task="instances", classes=2):
        gallery = Gallery(random_model(0, task, classes=classes), [Path("a.tif")])
        gallery.show(Path("a.tif"), "a")(seen)
        return gallery.figures["a"]

    return take


def test_twelve_evenly_spaced_and_no_other(random_model):
    paths = [Path(f"{k:02d}.tif") for k in range(23)]
    gallery = Gallery(random_model(0), paths)
    assert [path.stem for path in paths if gallery.show(path, path.stem)] == [f"{k:02d}" for k in range(0, 23, 2)]
    assert Gallery(random_model(0), ()).show(paths[0], "0") is None


def test_an_image_and_its_objects_alone(taken):
    image = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    figure = taken(Seen(image, np.eye(3, 4, dtype=np.int32)))
    assert list(figure.layers) == ["image", "prediction"]
    np.testing.assert_array_equal(figure.layers["image"], to_rgb(image))
    np.testing.assert_array_equal(figure.layers["prediction"][..., 3] > 0, np.eye(3, 4, dtype=bool))
    assert (figure.note, figure.legend) == ("", {})


def test_probabilities_and_the_class_of_each_object(taken):
    labels = np.array([[0, 1, 1, 0], [2, 0, 0, 3]], np.int32)
    foreground = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 4)
    seen = Seen(np.zeros((1, 2, 4), np.uint8), labels, foreground, np.array([0, 2, 1, 2], np.int32))
    figure = taken(seen, classes=3)
    assert list(figure.layers) == ["image", "probability", "prediction", "classes"]
    np.testing.assert_array_equal(figure.layers["probability"], heat(foreground, limits=(0, 1)))
    of_class = colours(np.array([[0, 2, 2, 0], [1, 0, 0, 2]]))
    shown = labels > 0
    np.testing.assert_array_equal(figure.layers["classes"][shown][:, :3], of_class[shown])
    assert {name: tuple(colours(np.array(int(name)))) for name in ("1", "2")} == figure.legend


def test_of_a_large_volume_the_middle_plane_and_every_other_pixel(taken):
    labels = np.zeros((3, 700, 10), np.int32)
    labels[1, ::2, ::2] = 1
    foreground = np.zeros((3, 700, 10), np.float32)
    foreground[1] = 1
    figure = taken(Seen(np.zeros((1, 3, 700, 10), np.uint8), labels, foreground), "classes")
    assert figure.note == "Shown: the middle plane, one of 2 x 2 pixels."
    assert figure.layers["prediction"].shape == (350, 5, 4)
    assert (figure.layers["prediction"][..., 3] > 0).all()
    assert (figure.layers["probability"] == heat(np.ones((1, 1), np.float32), limits=(0, 1))[0, 0]).all()
    assert list(figure.legend) == ["1"]
