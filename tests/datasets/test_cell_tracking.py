import numpy as np
import pytest
import tifffile

from biounet.datasets.cell_tracking import unknown_cells
from biounet.datasets.layouts import find_dataset, load
from biounet.errors import DataError

SHAPE = (40, 60)


def boxes(*places):
    """Cells 1, 2, ... as rectangles (top, bottom, left, right)."""
    labels = np.zeros(SHAPE, np.int32)
    for index, (top, bottom, left, right) in enumerate(places, start=1):
        labels[top:bottom, left:right] = index
    return labels


DRAWN, MISSED, SMALL = (2, 12, 2, 22), (15, 25, 30, 50), (30, 34, 4, 8)
MARKERS = boxes((6, 8, 10, 14), (19, 21, 38, 42), (31, 33, 5, 7))
GOLD = boxes(DRAWN) * 7


def test_all_cells_drawn_leaves_nothing_unknown():
    labels, reason = unknown_cells(boxes(DRAWN, MISSED, SMALL), MARKERS, None)
    assert np.array_equal(labels, boxes(DRAWN, MISSED, SMALL))
    assert reason == "gold masks for all 3 marked cells"


def test_silver_masks_say_where_the_unknown_cells_lie():
    silver = boxes(DRAWN, MISSED, SMALL)
    labels, reason = unknown_cells(GOLD, MARKERS, silver)
    expected = GOLD.copy()
    expected[(silver == 2) | (silver == 3)] = -1
    assert np.array_equal(labels, expected)
    assert reason == "gold masks for 1 of 3 marked cells, unknown are 2 by their silver masks"


def test_silver_never_overrules_gold_and_unmarked_silver_is_background():
    silver = boxes((2, 12, 20, 24), (8, 25, 10, 50), SMALL)
    labels, _ = unknown_cells(GOLD, boxes((6, 8, 10, 14), (19, 21, 38, 42)), silver)
    assert (labels[GOLD > 0] == 7).all()
    assert (labels[silver == 3] == 0).all()
    assert (labels[(silver == 2) & (GOLD == 0)] == -1).all()


def test_a_marker_that_silver_missed_is_unknown_as_far_as_any_cell_reaches():
    labels, reason = unknown_cells(GOLD, MARKERS, boxes(DRAWN, MISSED))
    # farthest from a marker's centre: DRAWN, rows 2..11 about 6 (5), columns 2..21 about 12 (10);
    # MISSED, rows 15..24 about 19 (5), columns 30..49 about 40 (10). Centre of the third: row 31, column 5.
    expected = GOLD.copy()
    expected[15:25, 30:50] = -1
    expected[26:37, 0:16] = -1
    assert np.array_equal(labels, expected)
    assert reason.endswith("unknown are 1 by their silver masks and 1 without silver mask by a box of 11 x 21 pixels")


def test_without_silver_nothing_undrawn_is_called_background():
    labels, reason = unknown_cells(GOLD, MARKERS, None)
    assert np.array_equal(labels, np.where(GOLD > 0, 7, -1))
    assert reason.endswith("unknown, without silver masks to tell where, is all that is not drawn")
    labels, _ = unknown_cells(GOLD * 0, boxes(DRAWN), np.zeros(SHAPE, np.int32))
    assert (labels == -1).all()


def test_half_a_marker_is_not_enough():
    """Of the first marker one drawn cell covers the left half, another the right one: whose is it?"""
    gold, silver = boxes((6, 8, 10, 12), (6, 8, 12, 14)), boxes(DRAWN)
    labels, _ = unknown_cells(gold, boxes((6, 8, 10, 14)), silver)
    assert np.array_equal(labels, np.where(gold > 0, gold, -silver))


def test_the_same_in_three_dimensions():
    gold, markers, silver = (np.stack([array] * 3) for array in (GOLD, MARKERS, boxes(DRAWN, MISSED, SMALL)))
    flat, _ = unknown_cells(GOLD, MARKERS, boxes(DRAWN, MISSED, SMALL))
    assert np.array_equal(unknown_cells(gold, markers, silver)[0], np.stack([flat] * 3))


@pytest.fixture
def challenge(tmp_path):
    """Two frames with gold of four, in sequence 01."""
    image = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.uint16)
    for k in range(4):
        save(tmp_path / "01" / f"t00{k}.tif", image + k)
        save(tmp_path / "01_GT" / "TRA" / f"man_track00{k}.tif", MARKERS.astype(np.uint16))
    save(tmp_path / "01_GT" / "SEG" / "man_seg000.tif", boxes(DRAWN, MISSED, SMALL).astype(np.uint16))
    save(tmp_path / "01_GT" / "SEG" / "man_seg002.tif", GOLD.astype(np.uint16))
    save(tmp_path / "01_ST" / "SEG" / "man_seg002.tif", boxes(DRAWN, MISSED, SMALL).astype(np.uint16))
    return tmp_path


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array)


def test_only_frames_with_gold_are_used_each_with_its_rule(challenge):
    dataset = find_dataset(challenge)
    assert (dataset.layout, dataset.task, dataset.is_sequence) == ("Cell Tracking Challenge", "instances", True)
    assert "sequence 01: gold masks for 2 of 4 frames" in dataset.reasons
    first, second = load(dataset)
    assert (first.name, second.name) == ("t000", "t002")
    assert first.notes == ("gold masks for all 3 marked cells",)
    assert first.annotated_share == 1
    assert second.notes == ("gold masks for 1 of 3 marked cells, unknown are 2 by their silver masks",)
    assert second.annotated_share == 1 - (10 * 20 + 4 * 4) / (40 * 60)
    assert second.image[0, 0, 0] == 2


def test_two_sequences_have_the_sequence_in_the_name(challenge):
    save(challenge / "02" / "t0011.tif", np.ones(SHAPE, np.uint8))
    save(challenge / "02_GT" / "SEG" / "man_seg0011.tif", GOLD.astype(np.uint16))
    assert [item.name for item in find_dataset(challenge).items] == ["01_t000", "01_t002", "02_t0011"]


def test_without_markers_gold_is_complete_and_that_is_said(challenge):
    for file in (challenge / "01_GT" / "TRA").iterdir():
        file.unlink()
    dataset = find_dataset(challenge)
    assert any("no markers (TRA), so gold masks are taken as complete" in reason for reason in dataset.reasons)
    assert load(dataset)[1].annotated_share == 1


def test_gold_without_its_image_is_a_problem(challenge):
    (challenge / "01" / "t002.tif").unlink()
    with pytest.raises(DataError, match=r"t002: gold mask man_seg002\.tif has no image t002 in 01/"):
        find_dataset(challenge)


def test_frames_of_pages_are_volumes_and_single_gold_planes_are_2d(tmp_path):
    volume = np.arange(18)[:, None, None] + np.zeros((18, *SHAPE), np.uint8)
    save(tmp_path / "01" / "t000.tif", volume.astype(np.uint8))
    save(tmp_path / "01_GT" / "SEG" / "man_seg000.tif", np.stack([GOLD] * 18).astype(np.uint16))
    dataset = find_dataset(tmp_path)
    assert (dataset.ndim, load(dataset)[0].labels.shape) == (3, (18, *SHAPE))
    (tmp_path / "01_GT" / "SEG" / "man_seg000.tif").unlink()
    save(tmp_path / "01_GT" / "SEG" / "man_seg_000_005.tif", GOLD.astype(np.uint16))
    save(tmp_path / "01_GT" / "TRA" / "man_track000.tif", np.stack([MARKERS] * 18).astype(np.uint16))
    dataset = find_dataset(tmp_path)
    assert (dataset.ndim, [item.name for item in dataset.items]) == (2, ["t000[005]"])
    (example,) = load(dataset)
    assert (example.image == 5).all()
    assert example.annotated_share == (GOLD > 0).mean()
