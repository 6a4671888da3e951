from pathlib import Path

import pytest

from biounet.datasets.dataset import Source
from biounet.datasets.pairing import image_files, label_stem, paired
from biounet.errors import DataError


def paths(*names):
    return [Path(name) for name in names]


def pairs(found):
    return {item.name: (item.image.path.name, item.labels.path.name) for item in found.items}


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a_masks.tif", "a"), ("a_cp_masks.png", "a"), ("a_Labels.tif", "a"), ("a_seg.ome.tif", "a"), ("a.tif", "a")],
)
def test_the_name_of_the_image_a_label_file_belongs_to(name, stem):
    assert label_stem(name) == stem


def test_equal_names_pair_whatever_the_format():
    found = paired(paths("b.png", "a.tif"), paths("a.png", "b.ome.tif"))
    assert pairs(found) == {"a": ("a.tif", "a.png"), "b": ("b.png", "b.ome.tif")}
    assert found.reasons == ("2 pairs of equal names",)
    assert not found.problems


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a.tif", "a_masks.tif"),
        ("a_img.tif", "a_cp_masks.png"),
        ("image_007.png", "mask_007.png"),
        ("img.tif", "gt.tif"),
    ],
)
def test_words_for_image_and_mask_do_not_count(image, mask):
    found = paired(paths(image), paths(mask))
    assert list(pairs(found).values()) == [(image, mask)]
    assert "1 paired by name without the words for image and mask" in found.reasons[0]
    assert mask in found.reasons[0]


def test_equal_names_come_before_similar_ones():
    found = paired(paths("a.tif", "a_mask.tif"), paths("a_mask.tif", "a.tif"))
    assert pairs(found) == {"a": ("a.tif", "a.tif"), "a_mask": ("a_mask.tif", "a_mask.tif")}


def test_what_has_no_partner_or_several_is_a_problem():
    found = paired(paths("a.tif", "b.tif", "c.tif", "c.png"), paths("a.tif", "c.tif", "d.tif"))
    assert pairs(found) == {"a": ("a.tif", "a.tif")}
    assert {(problem.name, problem.message) for problem in found.problems} == {
        ("b.tif", "has no mask of its name"),
        ("c.tif", "is one of several files for one image (c.tif, c.png)"),
        ("c.tif", "is a mask without an image of its name"),
        ("d.tif", "is a mask without an image of its name"),
    }


def test_ignore_and_region_files_go_to_their_image():
    found = paired(paths("a.tif", "b.tif", "a_region.tif"), paths("a.tif", "b.tif", "b_ignore.png"))
    assert not found.problems
    first, second = found.items
    assert (first.extras.region, first.extras.ignore) == (Source(Path("a_region.tif")), None)
    assert (second.extras.region, second.extras.ignore) == (None, Source(Path("b_ignore.png")))
    assert found.reasons[1:] == ("1 with NAME_ignore: unknown where it is not 0", "1 with NAME_region: unknown outside")


@pytest.mark.parametrize(
    ("image", "mask", "extra"),
    [
        ("img_01.tif", "mask_01.tif", "mask_01_region.tif"),
        ("img_01.tif", "mask_01.tif", "img_01_region.tif"),
        ("t_0000.tif", "t_0000.tif", "t_0000_region.tif"),
        ("a.tif", "a_masks.tif", "a_masks_region.tif"),
        ("a.tif", "a_masks.tif", "a_Region.tif"),
    ],
)
def test_what_is_said_of_the_mask_is_said_of_its_image(image, mask, extra):
    found = paired(paths(image), paths(mask, extra))
    assert not found.problems
    assert found.items[0].extras.region == Source(Path(extra))


def test_images_called_as_what_is_said_of_others():
    names = paths("tumour_region.tif", "hilus_region.tif")
    assert list(pairs(paired(names, names))) == ["hilus_region", "tumour_region"]
    assert list(pairs(paired(names[:1], paths("tumour_region_masks.tif")))) == ["tumour_region"]
    found = paired([*names, Path("a.tif")], paths("a.tif", "hilus_region.tif"))
    assert list(pairs(found)) == ["a", "hilus_region"]
    (problem,) = found.problems
    assert problem.name == "tumour_region.tif"
    assert "says something of an image or mask of the name before it, and there is none" in problem.message


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (("t_0000.tif", "t_0001.tif"), ("t_0000_masks.tif", "t_0001_masks.tif")),
        (("t_0000.tif", "t_0001.tif"), ("t_0000.geojson", "t_0001.geojson")),
        (("a.ome.tif", "b.ome.tif"), ("a.ome_cp_masks.tif", "b.ome_cp_masks.tif")),
        (("s1_roi.tif", "s2_roi.tif"), ("s1_roi_masks.tif", "s2_roi_masks.tif")),
    ],
)
def test_numbers_from_0000_and_endings_of_other_programs(images, masks):
    found = paired(paths(*images), paths(*masks))
    assert not found.problems
    assert sorted(pairs(found).values()) == list(zip(images, masks, strict=True))


def test_only_image_files_are_listed_in_order(tmp_path):
    for name in ("b.TIF", "a.png", ".hidden.tif", "index.csv", "a_seg.npy", "Thumbs.db"):
        (tmp_path / name).write_text("x")
    assert [file.name for file in image_files(tmp_path)] == ["a.png", "b.TIF"]
    with pytest.raises(DataError, match="cannot be listed"):
        image_files(tmp_path / "none")
