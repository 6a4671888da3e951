import numpy as np
import pytest

from biounet.datasets.examples import Example
from biounet.errors import UsageError
from biounet.geometry import unet_geometry
from biounet.planning.split import split_examples

GEOMETRY = unet_geometry(2)  # reaches 23 pixels each way


def examples(count, shape=(64, 64)):
    labels = np.zeros(shape, np.int32)
    labels[..., ::2] = 1
    return [Example(f"image {i}", np.zeros((1, *shape), np.uint8), labels.copy()) for i in range(count)]


def split(given, *, sequence=False, share=0.2, named=None, geometry=GEOMETRY):
    return split_examples(given, geometry, sequence=sequence, share=share, named=named)


def names(given):
    return [int(example.name.split()[1]) for example in given]


def test_of_a_sequence_the_end_is_held_back_behind_a_guard():
    found = split(examples(10), sequence=True)
    assert names(found.validation) == [8, 9]
    assert names(found.training) == [0, 1, 2, 3, 4, 5, 6]
    assert found.reason == "image 8, image 9: the last 2 of a sequence, image 7 left out between as a guard"


def test_a_short_sequence_gives_up_its_guard_before_its_training_images():
    found = split(examples(3), sequence=True)
    assert (names(found.training), names(found.validation)) == ([0, 1], [2])
    assert "guard" not in found.reason


@pytest.mark.parametrize(
    ("count", "share", "held"), [(10, 0.2, [2, 7]), (3, 0.2, [1]), (4, 0.5, [1, 3]), (5, 0.01, [2])]
)
def test_of_independent_images_every_so_manyth_is_held_back(count, share, held):
    found = split(examples(count), share=share)
    assert names(found.validation) == held
    assert names(found.training) == [i for i in range(count) if i not in held]
    assert f"{len(held)} of {count} images" in found.reason


def test_other_divisions_have_other_facts():
    one, other = split(examples(4), named="image 1"), split(examples(4), named="image 2")
    assert one.facts["images"] == {f"image {i}": "held back" if i == 1 else "learnt from" for i in range(4)}
    assert one.facts == split(examples(4), named="images 1").facts != other.facts
    assert split(examples(10), sequence=True).facts["images"].keys() == {f"image {i}" for i in range(10) if i != 7}
    blocks = [split(examples(1, (64, 200)), geometry=unet_geometry(depth)).facts for depth in (1, 2)]
    assert [found["images"] for found in blocks] == [{"image 0": "partly held back"}] * 2
    assert blocks[0] != blocks[1]  # other guards


@pytest.mark.parametrize("sequence", [True, False])
def test_however_large_the_share_one_image_is_left_to_learn_from(sequence):
    found = split(examples(4), share=0.99, sequence=sequence)
    assert len(found.training) == 1
    assert len(found.validation) == 3


@pytest.mark.parametrize(("shape", "axis"), [((64, 200), 1), ((240, 120), 0), ((8, 40, 180), 2)])
def test_a_single_image_gives_a_block_of_itself_behind_a_guard_of_the_reach(shape, axis):
    geometry = unet_geometry(2, len(shape))
    found = split(examples(1, shape), geometry=geometry)
    learnt, judged = found.training[0].labels >= 0, found.validation[0].labels >= 0
    along = tuple(i for i in range(len(shape)) if i != axis)
    last_learnt = np.flatnonzero(learnt.any(along)).max()
    first_judged = np.flatnonzero(judged.any(along)).min()
    assert first_judged - last_learnt - 1 == max(geometry.reach[axis])
    assert judged.sum() * 4 == judged.size
    assert f"from {first_judged} to {shape[axis]} on axis {axis}" in found.reason
    assert "no room" not in found.reason


def test_a_guard_that_is_narrower_than_the_reach_is_said_to_be():
    found = split(examples(1, (30, 40)))
    assert np.flatnonzero((found.training[0].labels >= 0).any(0)).max() == 14
    assert np.flatnonzero((found.validation[0].labels >= 0).any(0)).min() == 30
    assert (
        "15 px before it left out as a guard (the network reaches 23, the image has no room for more)" in found.reason
    )


def test_of_two_images_the_first_is_learnt_from_whole():
    found = split(examples(2, (60, 200)))
    assert (found.training[0].labels >= 0).all()
    assert names(found.training) == [0, 1]
    assert names(found.validation) == [1]


def test_a_block_without_objects_is_not_worth_holding_back():
    given = examples(1, (60, 200))
    given[0].labels[:, 140:] = 0
    found = split(given)
    assert found.training == found.validation == tuple(given)
    assert found.reason == "too little is annotated to hold anything back: judged on itself"


@pytest.mark.parametrize("only", [0, 1])
def test_where_the_others_teach_nothing_all_are_learnt_from_and_that_is_said(only):
    given = examples(3)
    for example in (given[0], given[2]):
        example.labels[:] = only
    found = split(given)
    assert names(found.validation) == [1]
    assert names(found.training) == [0, 1, 2]
    assert "the others show no object or no background, so all are learnt from too" in found.reason


def test_images_can_be_named():
    found = split(examples(5), named="images 1-2")
    assert (names(found.training), names(found.validation)) == ([0, 3, 4], [1, 2])
    assert found.reason == "image 1, image 2: as named by --validation"


def test_a_path_does_not_enter_the_stored_reason(tmp_path):
    (tmp_path / "held.txt").write_text("image 0\n")
    found = split(examples(3), named=str(tmp_path / "held.txt"))
    assert names(found.validation) == [0]
    assert str(tmp_path) not in found.reason


def test_naming_every_image_or_one_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="the 0 images that are left show no object or no background"):
        split(examples(3), named="images 0-2")
    with pytest.raises(UsageError, match="--validation"):
        split(examples(3), named="image 7")
