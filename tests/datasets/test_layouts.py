import json

import numpy as np
import pytest
import tifffile
from roifile import ImagejRoi, roiwrite

from biounet.datasets.layouts import LAYOUTS, find_dataset, load, survey
from biounet.errors import DataError, UsageError
from biounet.images import ome_zarr_labels

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
BOXES = [(3, 3, 9, 9), (12, 12, 22, 30)]  # of CELLS: top, left, bottom, right


def corners(top, left, bottom, right):
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def write_pairs(root):
    write(root, raw__a=IMAGE, drawn__other=CELLS)
    (root / "pairs.csv").write_text("image,annotation\nraw/a.tif,drawn/other.tif\n")


def write_coco(root):
    write(root, images__a=IMAGE)
    objects = [{"image_id": 4, "segmentation": [np.ravel(corners(*box)).tolist()]} for box in BOXES]
    content = {"images": [{"id": 4, "file_name": "a.tif"}], "annotations": objects}
    (root / "annotations.json").write_text(json.dumps(content))


def write_masks(root):
    write(root, a__images__a=IMAGE, a__masks__m1=255 * (CELLS == 1), a__masks__m2=255 * (CELLS == 2))


def rois():
    return [ImagejRoi.frompoints(np.array(corners(*box)), name="") for box in BOXES]


def write_outlines(root):
    write(root, a=IMAGE)
    roiwrite(root / "a_RoiSet.zip", rois(), name=["1", "2"])


def write_rois_inside(root):
    tifffile.imwrite(root / "a.tif", IMAGE, imagej=True, metadata={"Overlays": [roi.tobytes() for roi in rois()]})


def write_zarr_labels(root):
    """Both as label images: the writer of those is at hand."""
    ome_zarr_labels.write_zarr_labels(
        root / "a.zarr", lambda a, b: IMAGE[tuple(map(slice, a, b))], IMAGE.shape, largest_id=200
    )
    ome_zarr_labels.add_zarr_labels(root / "a.zarr", "cells", lambda a, b: CELLS[tuple(map(slice, a, b))], largest_id=2)


TREES |= {
    "OME-Zarr labels": write_zarr_labels,
    "pairs": write_pairs,
    "COCO": write_coco,
    "masks of objects": write_masks,
    "outlines": write_outlines,
    "ROIs inside TIFFs": write_rois_inside,
}
NAMES = {
    "stacks": [f"train-volume[0{k}]" for k in range(5)],
    "suffixes": ["a", "b_img", "c"],
    "Cell Tracking Challenge": ["t003"],
}


@pytest.mark.parametrize("tree", TREES)
def test_every_layout_is_recognised_with_its_reason(tmp_path, tree):
    TREES[tree](tmp_path) if callable(TREES[tree]) else write(tmp_path, **TREES[tree])
    dataset = find_dataset(tmp_path)
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
    with pytest.raises(DataError, match="no annotation of this name beside or in it; name its folder"):
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


def test_one_image_or_a_pattern_of_them_stands_for_its_pairs(tmp_path):
    write(tmp_path, a1=IMAGE, a1_masks=CELLS, a2=IMAGE, a2_masks=CELLS, b=IMAGE, b_masks=CELLS)
    dataset = find_dataset(tmp_path / "a2.tif")
    assert [item.name for item in dataset.items] == ["a2"]
    assert "1 of 3 pairs, as named by a2.tif" in dataset.reasons
    assert [item.name for item in find_dataset(tmp_path / "a?.tif").items] == ["a1", "a2"]
    with pytest.raises(DataError, match=r"c\*\.tif: no file matches this pattern"):
        find_dataset(tmp_path / "c*.tif")


def test_one_image_of_a_folder_of_images(tmp_path):
    write(tmp_path, images__a=IMAGE, images__b=IMAGE, masks__a=CELLS, masks__b=CELLS)
    assert [item.name for item in find_dataset(tmp_path / "images" / "b.tif").items] == ["b"]


def test_named_patterns(tmp_path):
    write(tmp_path, raw__a1=IMAGE, raw__a2=IMAGE, raw__b1=IMAGE, drawn__a1=CELLS, drawn__a2=CELLS)
    dataset = find_dataset(None, images=tmp_path / "raw" / "a*.tif", masks=tmp_path / "drawn" / "*.tif")
    assert [item.name for item in dataset.items] == ["a1", "a2"]
    with pytest.raises(DataError, match="no file of a known format matches"):
        find_dataset(None, images=tmp_path / "raw" / "c*.tif", masks=tmp_path / "drawn" / "*.tif")


def test_a_csv_of_pairs_by_name_without_a_header_and_with_faults(tmp_path):
    write(tmp_path, raw__a=IMAGE, drawn__x=CELLS, drawn__where=CELLS > 0)
    (tmp_path / "mine.csv").write_text("raw/a.tif,drawn/x.tif\n")
    assert [item.name for item in find_dataset(tmp_path / "mine.csv").items] == ["a"]
    (tmp_path / "mine.csv").write_text("Region,mask,image\ndrawn/where.tif,drawn/x.tif,raw/a.tif\n")
    assert load(find_dataset(tmp_path / "mine.csv"))[0].annotated_share == (CELLS > 0).mean()
    (tmp_path / "mine.csv").write_text("image;labels\nraw/a.tif;drawn/x.tif\n")  # as in a German spreadsheet
    assert [item.name for item in find_dataset(tmp_path / "mine.csv").items] == ["a"]
    (tmp_path / "mine.csv").write_text("raw/a.tif,drawn/y.tif\nraw/a.tif\n")
    with pytest.raises(DataError, match=r"y\.tif is not there.*a line needs an image and an annotation"):
        find_dataset(tmp_path / "mine.csv")


def test_pairs_of_one_name_in_several_folders_are_told_apart(tmp_path):
    write(tmp_path, s1__img=IMAGE, s2__img=IMAGE, s1__drawn=CELLS, s2__drawn=CELLS)
    (tmp_path / "pairs.csv").write_text("s1/img.tif,s1/drawn.tif\ns2/img.tif,s2/drawn.tif\n")
    dataset = find_dataset(tmp_path)
    assert [item.name for item in dataset.items] == ["s1_img", "s2_img"]
    assert "2 images share their names with others: they are called s1_img, s2_img" in dataset.reasons


def test_two_coco_files_are_one_too_many(tmp_path):
    write_coco(tmp_path)
    (tmp_path / "b.json").write_text((tmp_path / "annotations.json").read_text())
    with pytest.raises(DataError, match=r"annotations\.json and b\.json are both COCO"):
        find_dataset(tmp_path)
    assert len(find_dataset(tmp_path / "b.json").items) == 1


def test_an_image_that_coco_lists_and_nobody_has(tmp_path):
    write_coco(tmp_path)
    (tmp_path / "images" / "a.tif").unlink()
    with pytest.raises(DataError, match=r"a\.tif: is listed in annotations\.json and not there"):
        find_dataset(tmp_path)


def test_outlines_in_a_folder_of_their_own_and_the_only_ones(tmp_path):
    write(tmp_path, images__a=IMAGE)
    (tmp_path / "rois").mkdir()
    roiwrite(tmp_path / "rois" / "a.zip", rois(), name=["1", "2"])
    assert np.array_equal(load(find_dataset(tmp_path))[0].labels, CELLS)
    other = tmp_path / "other"
    write(other, cells=IMAGE)
    roiwrite(other / "RoiSet.zip", rois(), name=["1", "2"])
    dataset = find_dataset(other)
    assert "cells.tif with RoiSet.zip, the only ones" in dataset.reasons
    assert np.array_equal(load(dataset)[0].labels, CELLS)


def test_a_mask_of_another_size_is_named(tmp_path):
    write_masks(tmp_path)
    tifffile.imwrite(tmp_path / "a" / "masks" / "m3.tif", CELLS[1:])
    with pytest.raises(DataError, match="an object drawn on 31 x 40 pixels, the image has 32 x 40"):
        load(find_dataset(tmp_path))


def test_only_planes_with_outlines_of_a_stack_are_used(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([IMAGE] * 5), imagej=True, metadata={"axes": "ZYX"})
    first, second = rois()
    first.position, second.z_position = 2, 4
    roiwrite(tmp_path / "a.zip", [first, second], name=["1", "2"])
    dataset = find_dataset(tmp_path)
    assert dataset.ndim == 2
    assert [item.name for item in dataset.items] == ["a[01]", "a[03]"]
    assert "a: 3 planes without any outline are not used" in dataset.reasons
    one, other = load(dataset)
    assert np.array_equal(one.labels > 0, CELLS == 1)
    assert np.array_equal(other.labels > 0, CELLS == 2)
    with pytest.raises(DataError, match="holds outlines of planes; a volume needs label images"):
        find_dataset(tmp_path, ndim=3)
    first.position = 6
    roiwrite(tmp_path / "a.zip", [first], name=["1"], mode="w")
    with pytest.raises(DataError, match="an outline lies on plane 6 of the stack, which has 5"):
        find_dataset(tmp_path)


def test_rgb_masks_by_the_colours_beside_them_or_given(tmp_path):
    colours = np.zeros((32, 40, 3), np.uint8)
    colours[CELLS == 1], colours[CELLS == 2] = (255, 0, 0), (0, 0, 255)
    write(tmp_path, images__a=IMAGE)
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks" / "a.tif", colours, photometric="rgb")
    with pytest.raises(DataError, match="channels that differ"):
        load(find_dataset(tmp_path))
    (tmp_path / "masks" / "colours.csv").write_text("000000,background\nff0000,axon\n#0000ff,myelin\n")
    dataset = find_dataset(tmp_path)
    assert (dataset.task, dataset.values) == ("classes", (0, 1, 2))
    assert dataset.value_names == ("background", "axon", "myelin")
    assert "colours of the masks by colours.csv: background, axon, myelin" in dataset.reasons
    assert np.array_equal(load(dataset)[0].labels, CELLS)
    given = ["000000=background", "0000ff=axon", "ff0000=ignore"]
    assert np.array_equal(
        load(find_dataset(tmp_path, colours=given))[0].labels, np.select([CELLS == 1, CELLS == 2], [-1, 1])
    )
    with pytest.raises(DataError, match="180 pixels have colours that are not in the list, as 0000ff"):
        load(find_dataset(tmp_path, colours=given[:1] + given[2:]))
    with pytest.raises(UsageError, match="write RRGGBB=name"):
        find_dataset(tmp_path, colours=["red=axon"])


def test_label_images_go_before_outlines_and_it_is_said(tmp_path):
    write(tmp_path, a=IMAGE, a_labels=CELLS)
    roiwrite(tmp_path / "a.zip", rois()[:1], name=["1"])
    dataset = find_dataset(tmp_path)
    assert "label images are used, outlines are not (as a.zip)" in dataset.reasons
    assert np.array_equal(load(dataset)[0].labels, CELLS)


def test_a_pattern_says_which_of_its_images_have_no_mask(tmp_path):
    write(tmp_path, a1=IMAGE, a1_masks=CELLS, a2=IMAGE, b=IMAGE)
    found = survey(str(tmp_path / "a*.tif"))
    assert [item.name for item in found.items] == ["a1"]
    assert [(problem.name, problem.message) for problem in found.problems] == [("a2.tif", "has no mask of its name")]


def test_a_mask_of_the_name_of_its_image_is_not_the_mask_of_one_object(tmp_path):
    write(tmp_path, images__img_01=IMAGE, masks__mask_01=CELLS, masks__mask_01_region=np.ones_like(CELLS))
    found = find_dataset(tmp_path)
    assert found.layout == "folders"
    assert load(found)[0].labels.max() == 2


def test_masks_of_objects_that_are_left_out_or_hold_none(tmp_path):
    write_masks(tmp_path)
    write(tmp_path, b__images__b=IMAGE, b__masks__b=CELLS, c__images__c=IMAGE)
    (tmp_path / "c" / "masks").mkdir()
    found = survey(tmp_path)
    assert [item.name for item in found.items] == ["a", "c"]
    assert [problem.name for problem in found.problems] == ["b"]
    assert "called as the image, as one of all objects is" in found.problems[0].message
    assert [int(example.labels.max()) for example in load(found)] == [2, 0]


def test_what_is_unknown_may_lie_beside_the_image_in_every_layout(tmp_path):
    ignored = np.zeros_like(CELLS)
    ignored[:9] = 1
    write_masks(tmp_path / "dsb")
    write(tmp_path / "dsb", a__images__a_ignore=ignored)
    write(tmp_path / "ctc", **{**TREES["Cell Tracking Challenge"], "01__t003_ignore": ignored})
    for root in (tmp_path / "dsb", tmp_path / "ctc"):
        found = find_dataset(root)
        assert len(found.items) == 1
        assert (load(found)[0].labels[:9] == -1).all()
        assert not (load(found)[0].labels[9:] == -1).any()
