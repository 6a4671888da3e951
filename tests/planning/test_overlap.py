"""Held-back images that show the same as one learnt from are named; groups of images that show the same."""

import numpy as np
import pytest

from biounet.datasets.examples import Example
from biounet.images.likeness import thumbnail
from biounet.planning.data import read_training_data
from biounet.planning.overlap import alike_groups, overlap_warnings
from biounet.planning.plan import make_plan
from biounet.planning.split import Split
from biounet.samples.synthetic import synthetic_cells


def example(name, seed, turned=0):
    image, labels = synthetic_cells((64, 64), seed=seed, diameter_px=16)
    return Example(name, np.rot90(image, turned)[None].copy(), np.rot90(labels, turned).copy())


@pytest.fixture(scope="module")
def examples():
    """Six images: b, d and e show the same as a, as c and as b."""
    return [
        example("a", 1), example("b", 1, turned=1), example("c", 2),
        example("d", 2, turned=2), example("e", 1, turned=3), example("f", 3),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def thumbnails(examples):
    return {e.name: thumbnail(e.image) for e in examples}


def test_every_held_back_double_is_named_with_its_like(examples, thumbnails):
    a, b, c, d, _, f = examples
    (warning,) = overlap_warnings(Split((a, c, f), (b, d), ""), thumbnails)
    assert warning.startswith("warning: 2 held-back images show the same as one learnt from: b as a (")
    assert "d as c (" in warning
    assert "hold all of them back with --validation" in warning


def test_one_is_spoken_of_as_one_and_none_not_at_all(examples, thumbnails):
    a, b, c, d, e, f = examples
    assert "1 held-back image shows the same" in overlap_warnings(Split((a, c), (f, e), ""), thumbnails)[0]
    assert overlap_warnings(Split((a, b, e), (c, d, f), ""), thumbnails) == ()


def test_parts_of_one_image_are_no_double(examples, thumbnails):
    a = examples[0]
    assert overlap_warnings(Split((a,), (a,), ""), thumbnails) == ()


def test_groups_pass_likeness_on_and_keep_the_order_of_their_first_images(examples, thumbnails):
    assert alike_groups([e.name for e in examples], thumbnails) == [[0, 1, 4], [2, 3], [5]]


def test_the_plan_of_a_run_warns(cells, tiny):
    image, labels = cells[0]
    doubled = [*cells, (image[::-1].copy(), labels[::-1].copy())]
    data = read_training_data(doubled, tiny("data.task=instances").data)
    names = [e.name for e in data.examples]
    settings = tiny(f"data.validation={names[0]}", "data.task=instances")
    statements = make_plan(data, settings, seed=0).statements
    assert any(f"{names[0]} as {names[4]}" in text for text in statements)
    plain = read_training_data(cells, settings.data)
    assert not any("show" in text and "warning" in text for text in make_plan(plain, settings, seed=0).statements)
