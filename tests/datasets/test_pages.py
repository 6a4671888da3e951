from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from biounet.datasets.dataset import Item, Source
from biounet.datasets.layouts import find_dataset, load
from biounet.datasets.pages import labels_persist, uniquely_named
from biounet.errors import DataError

RNG = np.random.default_rng(5)


def stacks(root, name, labels, **options):
    image = RNG.integers(0, 99, labels.shape, np.uint8)
    for folder, array in (("images", image), ("masks", labels.astype(np.uint16))):
        (root / folder).mkdir(exist_ok=True)
        tifffile.imwrite(root / folder / f"{name}.tif", array, **options)
    return image


def column(pages=6):
    """One cell that goes on through all pages, and another."""
    labels = np.zeros((pages, 20, 24), int)
    labels[:, 3:9, 3:9], labels[2:, 12:18, 12:18] = 7, 8
    return labels


def renumbered(pages=6):
    """The same places, but ids start anew on each page."""
    return np.stack([np.where(page > 0, page + 5 * k, 0) for k, page in enumerate(column(pages))])


def test_persistence_by_hand():
    stack = np.array([[[1, 2, 0, 3]], [[1, 5, 5, 3]], [[0, 5, 5, 0]]], np.int32)
    # page 0-1: pixels 0, 1, 3 labelled in both, equal in 0 and 3; page 1-2: pixels 1 and 2, both equal
    assert labels_persist(stack) == 4 / 5
    assert labels_persist(np.zeros((3, 2, 2), np.int32)) == 0


def test_pages_whose_ids_persist_are_a_volume(tmp_path):
    image = stacks(tmp_path, "a", column())
    dataset = find_dataset(tmp_path)
    assert (dataset.ndim, [item.name for item in dataset.items]) == (3, ["a"])
    assert any("ids persist from page to page (in 100% of labelled pixels): volumes" in r for r in dataset.reasons)
    example = load(dataset)[0]
    assert np.array_equal(example.image, image[None])
    assert np.array_equal(example.labels, column())


def test_pages_whose_ids_start_anew_are_images(tmp_path):
    image = stacks(tmp_path, "a", renumbered())
    dataset = find_dataset(tmp_path)
    assert dataset.ndim == 2
    assert [item.name for item in dataset.items] == [f"a[0{k}]" for k in range(6)]
    assert dataset.is_sequence
    examples = load(dataset)
    assert np.array_equal(examples[4].image, image[4][None])
    assert np.array_equal(examples[4].labels, renumbered()[4])


def test_a_stated_z_axis_decides(tmp_path):
    stacks(tmp_path, "a", renumbered(), imagej=True, metadata={"axes": "ZYX"})
    dataset = find_dataset(tmp_path)
    assert dataset.ndim == 3
    assert "3D: the files state a z axis: volumes" in dataset.reasons


def test_ndim_overrides(tmp_path):
    stacks(tmp_path, "a", column())
    dataset = find_dataset(tmp_path, ndim=2)
    assert len(dataset.items) == 6
    assert "2D as asked for" in dataset.reasons


def test_two_and_three_dimensions_together_are_refused_with_two_ways_out(tmp_path):
    root = tmp_path / "my cells"
    root.mkdir()
    stacks(root, "flat", column()[3])
    stacks(root, "deep", column())
    with pytest.raises(DataError, match=r"holds 1 2D images \(flat\) and 1 volumes \(deep\)") as caught:
        find_dataset(root)
    assert f"biounet train '{root}' --out model.safetensors --ndim 2 (" in str(caught.value)
    assert f"biounet train '{root}' --out model.safetensors --ndim 3 --skip-bad (" in str(caught.value)
    assert len(find_dataset(root, ndim=2).items) == 7
    assert [item.name for item in find_dataset(root, ndim=3, skip_bad=True).items] == ["deep"]
    with pytest.raises(DataError, match=r"flat\.tif is a single plane, not a volume"):
        find_dataset(root, ndim=3)


def test_every_pair_that_does_not_fit_is_listed_at_once(write_pair, tmp_path):
    write_pair("good")
    write_pair("wide", mask_shape=(32, 41))
    write_pair("dot", shape=(1, 1))
    write_pair("cut")
    write_pair("nan")
    tifffile.imwrite(tmp_path / "images" / "nan.tif", np.full((32, 40), np.nan, np.float32))
    whole = (tmp_path / "images" / "cut.tif").read_bytes()
    (tmp_path / "images" / "cut.tif").write_bytes(whole[:-200])
    with pytest.raises(DataError, match="4 of 5 images cannot be used") as caught:
        find_dataset(tmp_path)
    text = str(caught.value)
    assert "wide: wide.tif is 32 x 40 pixels, mask wide.tif 32 x 41" in text
    assert "dot: is 1 x 1 pixels; training images need at least 16 a side" in text
    assert "cut.tif: the TIFF is truncated" in text
    assert "nan: " in text
    assert "1280 of 1280 pixels are NaN" in text
    assert "--skip-bad" in text
    assert "\n" not in text
    dataset = find_dataset(tmp_path, skip_bad=True)
    assert [item.name for item in dataset.items] == ["good", "nan"]
    assert len(dataset.problems) == 3
    assert [example.name for example in load(dataset, skip_bad=True)] == ["good"]


@pytest.mark.parametrize(("side", "fits"), [(15, False), (16, True)])
def test_the_smallest_training_image(write_pair, tmp_path, side, fits):
    write_pair("other")
    write_pair("small", shape=(side, 40))
    assert len(find_dataset(tmp_path, skip_bad=True).items) == 1 + fits


def test_pages_that_may_be_channels_are_refused_with_a_remedy(tmp_path):
    stacks(tmp_path, "a", column())
    tifffile.imwrite(tmp_path / "masks" / "a.tif", column()[3].astype(np.uint16))
    with pytest.raises(DataError, match=r"a\.tif has 6 pages, mask a\.tif 1; if pages are channels, save them"):
        find_dataset(tmp_path)


def test_grey_is_repeated_beside_colour_and_said(write_pair, tmp_path):
    write_pair("a")
    write_pair("b")
    colour = RNG.integers(0, 255, (32, 40, 3), np.uint8)
    tifffile.imwrite(tmp_path / "images" / "b.tif", colour, photometric="rgb")
    dataset = find_dataset(tmp_path)
    assert dataset.channels == 3
    assert "1 grey images among 1 RGB: grey is repeated to three channels" in dataset.reasons
    grey, rgb = load(dataset)
    assert np.array_equal(grey.image[0], grey.image[2])
    assert grey.image.shape == rgb.image.shape == (3, 32, 40)
    assert np.array_equal(rgb.image, colour.transpose(2, 0, 1))


def test_a_constant_transparency_is_dropped_and_said(write_pair, tmp_path):
    write_pair("a")
    (tmp_path / "images" / "a.tif").unlink()
    rgba = RNG.integers(0, 255, (32, 40, 4), np.uint8)
    rgba[..., 3] = 255
    Picture.fromarray(rgba).save(tmp_path / "images" / "a.png")
    dataset = find_dataset(tmp_path)
    assert dataset.channels == 3
    assert "transparency is constant in 1 images: dropped" in dataset.reasons
    assert np.array_equal(load(dataset)[0].image, rgba[..., :3].transpose(2, 0, 1))


def test_other_numbers_of_channels_are_problems(write_pair, tmp_path):
    for name in "abc":
        write_pair(name)
    two = RNG.integers(0, 255, (2, 32, 40), np.uint8)
    tifffile.imwrite(tmp_path / "images" / "c.tif", two, imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(DataError, match="c: has 2 channels where the others have 1"):
        find_dataset(tmp_path)


def test_images_of_one_name_in_several_folders_get_names_of_their_own(write_pair, tmp_path):
    def item(path):
        return Item(Path(path).stem, (Source(tmp_path / path),), Source(tmp_path / "mask.tif"))

    paths = ["p/a/x.tif", "q/a/x.tif", "b/x.tif", "b/y.tif", "b/y.tif", "c/b_x.tif"]
    items, said = uniquely_named([item(path) for path in paths])
    assert [i.name for i in items] == ["p_a_x", "q_a_x", f"{tmp_path.name}_b_x", "y_1", "y_2", "b_x"]
    assert said == (
        f"5 images share their names with others: they are called p_a_x, q_a_x, {tmp_path.name}_b_x, y_1, ...",
    )
    assert uniquely_named(items) == (items, ())


def test_masks_that_lie_elsewhere_in_space_are_told(tmp_path):
    nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed")
    volume = np.zeros((20, 18, 6), np.uint8)
    volume[3:9, 4:12, 1:5] = 1
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = 19
    places = {"same": np.diag([1.0, 1, 1, 1]), "unset": np.eye(4), "flipped": flip}
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name, place in places.items():
        image = nibabel.Nifti1Image(
            volume * 100, np.diag([1.0, 1, 1, 1]) if name != "unset" else np.diag([2.0, 2, 3, 1])
        )
        nibabel.save(image, tmp_path / "images" / f"{name}.nii")
        nibabel.save(nibabel.Nifti1Image(volume, place), tmp_path / "masks" / f"{name}.nii")
    (warning,) = [reason for reason in find_dataset(tmp_path).reasons if reason.startswith("warning: by their affines")]
    assert "the masks of flipped lie elsewhere in space than their images" in warning
