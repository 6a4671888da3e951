import numpy as np
import pytest
import tifffile

from biounet.errors import DataError, UsageError
from biounet.images.layouts import LAYOUTS, find_dataset, load

CELLS = np.zeros((32, 40), np.uint16)
CELLS[3:9, 3:9], CELLS[12:22, 12:30] = 1, 2
IMAGE = (np.arange(32 * 40).reshape(32, 40) % 200).astype(np.uint8)


def write(root, **files):
    for name, array in files.items():
        path = root / name.replace("__", "/").replace("V", "-volume").replace("L", "-labels")
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path.with_suffix(".tif"), array)
    return root


TREES = {
    "folders": {"images__a": IMAGE, "masks__a": CELLS},
    "folders called labels": {"images__a": IMAGE, "labels__a": CELLS},
    "folders in train": {"train__images__a": IMAGE, "train__masks__a": CELLS, "test__images__b": IMAGE},
    "stacks": {"trainV": np.stack([IMAGE] * 5), "trainL": np.stack([CELLS] * 5), "testV": np.stack([IMAGE] * 5)},
    "suffixes": {"a": IMAGE, "a_masks": CELLS, "b_img": IMAGE, "b_labels": CELLS, "c": IMAGE, "c_seg": CELLS},
    "nnU-Net": {"imagesTr__a_0000": IMAGE, "labelsTr__a": CELLS},
    "Cell Tracking Challenge": {"01__t003": IMAGE, "01_GT__SEG__man_seg003": CELLS},
}
NAMES = {
    "stacks": [f"train-volume[0{k}]" for k in range(5)],
    "suffixes": ["a", "b_img", "c"],
    "Cell Tracking Challenge": ["t003"],
}


@pytest.mark.parametrize("tree", TREES)
def test_every_layout_is_recognised_with_its_reason(tmp_path, tree):
    dataset = find_dataset(write(tmp_path, **TREES[tree]))
    layout = tree.split(" called")[0].split(" in ")[0]
    assert dataset.layout == layout
    assert dataset.reasons[0] == f"layout: {layout}"
    assert len(dataset.reasons) >= 3
    assert [item.name for item in dataset.items] == NAMES.get(tree, ["a"])
    assert dataset.is_sequence == (tree in ("stacks", "Cell Tracking Challenge"))
    example = load(dataset)[0]
    assert np.array_equal(example.image, IMAGE[None])
    assert np.array_equal(example.labels, CELLS)


def test_every_layout_has_a_tree_here():
    assert {layout.name for layout in LAYOUTS} <= {tree.split(" called")[0] for tree in TREES}


def test_a_stack_without_labels_is_said(tmp_path):
    dataset = find_dataset(write(tmp_path, **TREES["stacks"]))
    assert "test-volume.tif has no labels and is not used" in dataset.reasons
    assert "train-volume.tif with train-labels.tif" in dataset.reasons


def test_named_folders_and_files_override(tmp_path):
    root = write(tmp_path, images__a=IMAGE, masks__a=CELLS * 0 + 1, better__a=CELLS)
    dataset = find_dataset(root, images=root / "images", masks=root / "better")
    assert np.array_equal(load(dataset)[0].labels, CELLS)
    dataset = find_dataset(None, images=root / "images" / "a.tif", masks=root / "better" / "a.tif")
    assert np.array_equal(load(dataset)[0].labels, CELLS)
    assert dataset.reasons[1] == "a.tif with mask a.tif"


def test_options_that_do_not_fit(tmp_path):
    root = write(tmp_path, images__a=IMAGE, masks__a=CELLS)
    with pytest.raises(UsageError, match="--images and --masks belong together"):
        find_dataset(root, images=root / "images")
    with pytest.raises(UsageError, match="give two folders or two files"):
        find_dataset(root, images=root / "images", masks=root / "masks" / "a.tif")
    with pytest.raises(UsageError, match="no data given"):
        find_dataset(None)
    with pytest.raises(DataError, match=r"there is no such file or folder \(--masks\)"):
        find_dataset(root, images=root / "images", masks=root / "nothing")
    (root / "none").mkdir()
    with pytest.raises(DataError, match=r"hold no image of a known format \(\.tif"):
        find_dataset(root, images=root / "none", masks=root / "none")


def test_folders_that_hold_nothing_to_pair(tmp_path):
    with pytest.raises(DataError, match="there is no such folder"):
        find_dataset(tmp_path / "none")
    with pytest.raises(DataError, match="the folder is empty"):
        find_dataset(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match="images/ and masks/ hold no image"):
        find_dataset(tmp_path)
    tifffile.imwrite(tmp_path / "x.tif", IMAGE)
    with pytest.raises(DataError, match="is a file; name its folder"):
        find_dataset(tmp_path / "x.tif")


def test_what_was_looked_for_is_listed(tmp_path):
    write(tmp_path, a=IMAGE, b=IMAGE)
    with pytest.raises(DataError, match="no pairs of images and annotations") as caught:
        find_dataset(tmp_path)
    assert all(layout.looks_for in str(caught.value) for layout in LAYOUTS)
    assert "found a.tif, b.tif" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unpaired_files_are_listed_and_can_be_skipped(tmp_path):
    root = write(tmp_path, images__a=IMAGE, images__b=IMAGE, masks__a=CELLS, masks__c=CELLS)
    with pytest.raises(DataError, match=r"2 of 3 images cannot be used .*b\.tif: has no mask.*c\.tif: is a mask"):
        find_dataset(root)
    dataset = find_dataset(root, skip_bad=True)
    assert [item.name for item in dataset.items] == ["a"]
    assert [problem.name for problem in dataset.problems] == ["b.tif", "c.tif"]


def test_skipping_does_not_hide_that_nothing_is_left(tmp_path):
    root = write(tmp_path, images__a=IMAGE, masks__b=CELLS)
    with pytest.raises(DataError, match="2 of 2 images cannot be used"):
        find_dataset(root, skip_bad=True)


def test_outputs_of_other_programs_are_no_images(tmp_path):
    root = write(tmp_path, a=IMAGE, a_cp_masks=CELLS, a_flows=IMAGE, a_outlines=IMAGE)
    assert [item.image.path.name for item in find_dataset(root).items] == ["a.tif"]
