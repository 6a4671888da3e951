"""Every fault planted in a clean set is found, and in the clean set none is."""

import io
import re

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from biounet.checks import survey
from biounet.checks.data import check_data
from biounet.checks.finding import SEVERITIES
from biounet.checks.registry import CHECKS
from biounet.errors import DataError, UsageError
from biounet.labels.components import components
from biounet.samples.synthetic import synthetic_cells


def one(found, kind):
    """The only finding of a kind, whole."""
    (finding,) = [f for f in found.findings if f.kind == kind]
    assert finding.severity in SEVERITIES
    assert all((finding.file, finding.evidence, finding.why, finding.remedy))
    assert "\n" not in finding.evidence + finding.why + finding.remedy
    return finding


def test_the_clean_sets_have_no_finding(clean, plant, binary_pairs):
    assert clean.findings == ()
    assert plant(binary_pairs).findings == ()
    assert clean.refusal() is None


def test_each_check_looks_at_the_clean_set_without_a_word(clean):
    assert [check.__name__ for check in CHECKS if list(check(clean.seen))] == []


# -- files


def test_a_mask_without_image_and_an_image_without_mask(clean_pairs, tmp_path, write_set):
    folder = write_set(tmp_path, clean_pairs)
    (folder / "masks" / "f1.tif").rename(folder / "masks" / "g1.tif")
    found = check_data(folder)
    assert {f.file for f in found.errors if f.kind == "unpaired"} == {"f1.tif", "g1.tif"}
    assert len(found.examples) == 5
    assert "2 of 7 images cannot be used" in str(found.refusal())


def test_nothing_but_unpaired_files(tmp_path, clean_pairs, write_set):
    folder = write_set(tmp_path, {"a": clean_pairs["f0"]})
    (folder / "masks" / "a.tif").rename(folder / "masks" / "b.tif")
    found = check_data(folder)
    assert [f.kind for f in found.findings] == ["unpaired"] * 2
    assert found.meaning is None


def test_shapes_channels_and_damage(clean_pairs, tmp_path, write_set):
    image, mask = clean_pairs["f1"]
    folder = write_set(tmp_path, clean_pairs | {"f1": (image[:100], mask)})
    tifffile.imwrite(folder / "images" / "f2.tif", np.stack([image] * 2), imagej=True, metadata={"axes": "CYX"})
    (folder / "images" / "f3.tif").write_bytes(b"II*\0nothing")
    found = check_data(folder)
    assert {(f.kind, f.file) for f in found.errors} == {("shapes", "f1"), ("channels", "f2"), ("unreadable", "f3")}
    assert "f1.tif is 100 x 128 pixels, mask f1.tif 128 x 128" in one(found, "shapes").evidence


def test_one_image_swapped_with_its_mask(plant, clean_pairs):
    image, mask = clean_pairs["f2"]
    found = plant(f2=(mask.astype(np.uint8), image))
    finding = one(found, "swapped_files")
    assert (finding.severity, finding.file) == ("error", "images/f2.tif")
    assert "looks like a mask" in finding.evidence
    assert [f.kind for f in found.errors] == ["swapped_files"]


def test_folders_swapped(plant, clean_pairs):
    found = plant({name: (mask, image) for name, (image, mask) in clean_pairs.items()})
    assert "6 of 6 images look like masks" in one(found, "swapped_files").evidence
    assert "--images" in one(found, "swapped_files").remedy


# -- placement


@pytest.mark.parametrize("shift", [(9, -7), (0, 8)])
def test_a_shifted_mask(plant, clean_pairs, shift):
    image, mask = clean_pairs["f1"]
    finding = one(plant(f1=(image, np.roll(mask, shift, (0, 1)))), "shifted")
    assert (finding.severity, finding.file) == ("error", "f1.tif")
    told = re.search(r"moved by (-?\d+) px, (-?\d+) px \(YX\)", finding.evidence)
    assert np.abs(np.add(shift, [int(told[1]), int(told[2])])).max() <= 1  # the shadow of a cell lies beside it


TURNS = {
    "turned by a quarter": np.rot90, "mirrored along Y": np.flipud, "mirrored along X": np.fliplr,
    "turned by a half": lambda mask: mask[::-1, ::-1], "transposed": np.transpose,
}  # fmt: skip


@pytest.mark.parametrize("name", TURNS)
def test_a_turned_mask(plant, clean_pairs, name):
    image, mask = clean_pairs["f1"]
    finding = one(plant(f1=(image, np.ascontiguousarray(TURNS[name](mask)))), "turned")
    assert (finding.severity, finding.file) == ("error", "f1.tif")
    assert f"with the mask {name}" in finding.evidence


def test_all_masks_mirrored(plant, clean_pairs):
    found = plant({name: (image, mask[::-1]) for name, (image, mask) in clean_pairs.items()})
    turned = [f for f in found.errors if f.kind == "turned"]
    assert len(turned) == 6
    assert "6 of 6 masks are off in the same way" in turned[0].evidence


def test_two_masks_exchanged(plant, clean_pairs, kinds):
    (a, mask_a), (b, mask_b) = clean_pairs["f1"], clean_pairs["f4"]
    found = plant(f1=(a, mask_b), f4=(b, mask_a))
    swapped = {f.file: f.evidence for f in found.errors if f.kind == "swapped_pairs"}
    assert set(swapped) == {"f1.tif", "f4.tif"}
    assert "the mask of f4" in swapped["f1.tif"]
    assert kinds(found, "error") == {"swapped_pairs"}


def test_placement_in_three_dimensions(tmp_path, write_set):
    made = [synthetic_cells((24, 48, 48), seed=seed, diameter_px=16, noise=0.3) for seed in range(3)]
    pairs = {
        f"v{k}": (np.where(labels > 0, 160, image // 4).astype(np.uint8), labels)
        for k, (image, labels) in enumerate(made)
    }
    clean = write_set(
        tmp_path / "clean",
        {k: (i, m.astype(np.uint16)) for k, (i, m) in pairs.items()},
        metadata={"axes": "ZYX"},
        imagej=True,
    )
    assert [f for f in check_data(clean).findings if f.severity != "hint"] == []
    pairs["v1"] = (pairs["v1"][0], pairs["v1"][1][:, ::-1])
    turned = write_set(
        tmp_path / "turned",
        {k: (i, m.astype(np.uint16)) for k, (i, m) in pairs.items()},
        metadata={"axes": "ZYX"},
        imagej=True,
    )
    assert "mirrored along Y" in one(check_data(turned), "turned").evidence


# -- whole masks


def test_an_empty_mask(plant, clean_pairs):
    image, mask = clean_pairs["f1"]
    finding = one(plant(f1=(image, 0 * mask)), "empty_masks")
    assert (finding.severity, finding.file) == ("warning", "f1.tif")


def test_all_masks_empty(plant, clean_pairs):
    found = plant({name: (image, 0 * mask) for name, (image, mask) in clean_pairs.items()})
    assert one(found, "empty_masks").severity == "error"
    assert "all 6 masks are empty" in str(found.refusal())


def test_one_inverted_mask(plant, kinds, binary_pairs):
    pairs = binary_pairs
    image, mask = pairs["f1"]
    found = plant(pairs, f1=(image, 255 - mask))
    assert (one(found, "inverted_masks").severity, one(found, "inverted_masks").file) == ("error", "f1.tif")
    assert kinds(found, "error") == {"inverted_masks"}


def test_all_masks_inverted(plant, binary_pairs):
    pairs = {name: (image, 255 - mask) for name, (image, mask) in binary_pairs.items()}
    finding = one(plant(pairs), "inverted_masks")
    assert (finding.severity, finding.file) == ("warning", "5 masks")  # in the sixth the holes run together


def test_a_tissue_of_touching_cells_is_not_inverted(kinds, write_set, tmp_path):
    """Cells without gaps but a few, each with an id of its own."""
    pairs = {}
    for seed in range(4):
        rng = np.random.default_rng(seed)
        seeds = np.zeros((128, 128), int)
        seeds[tuple(rng.integers(0, 128, (2, 60)))] = np.arange(60)
        at = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
        cells = seeds[tuple(at)]
        cells[cells < 8] = 0  # some are missing
        edge = ndimage.morphological_gradient(cells, 3) > 0
        image = (90 + 60 * (cells > 0) - 40 * edge + rng.normal(0, 8, cells.shape)).clip(0, 255).astype(np.uint8)
        pairs[f"t{seed}"] = (image, cells.astype(np.uint16))
    assert "inverted_masks" not in kinds(check_data(write_set(tmp_path, pairs), task="instances"))


def test_a_mask_that_was_a_jpeg(plant, kinds, binary_pairs):
    pairs = binary_pairs
    image, mask = pairs["f1"]
    stored = io.BytesIO()
    Image.fromarray(mask).save(stored, "JPEG", quality=75)
    found = plant(pairs, f1=(image, np.asarray(Image.open(stored))))
    finding = one(found, "jpeg_labels")
    assert (finding.severity, finding.file) == ("error", "f1.tif")
    assert "all save" in finding.evidence
    assert found.meaning.values == (0, 255)  # the others are understood without it
    assert kinds(found) == {"jpeg_labels"}


def test_a_mask_scaled_smoothly(plant, binary_pairs):
    pairs = binary_pairs
    image, mask = pairs["f1"]
    smooth = ndimage.zoom(ndimage.zoom(mask, 0.5, order=0), 2, order=1)
    assert one(plant(pairs, f1=(image, smooth)), "jpeg_labels").file == "f1.tif"


def test_values_that_are_no_declared_class(tmp_path, binary_pairs):
    for name, (image, mask) in binary_pairs.items():
        for folder, array in (("imagesTr", image), ("labelsTr", (mask > 0) + (name == "f1") * (mask[::-1] > 0) * 3)):
            (tmp_path / folder).mkdir(exist_ok=True)
            stem = f"{name}_0000" if folder == "imagesTr" else name
            tifffile.imwrite(tmp_path / folder / f"{stem}.tif", array.astype(np.uint8))
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "cell": 1}}')
    found = check_data(tmp_path)
    finding = one(found, "foreign_values")
    assert (finding.severity, finding.file) == ("error", "f1.tif")
    assert "values 3, 4 are no class; declared are 0, 1" in finding.evidence
    assert len(found.examples) == 5


def test_too_little_annotation(plant, clean_pairs, tmp_path, write_set):
    few = {name: (image, np.where(np.isin(mask, (1, 2)), mask, 0)) for name, (image, mask) in clean_pairs.items()}
    two = {name: few[name] for name in ("f0", "f1")}
    assert "4 objects in 2 images" in one(plant(two), "too_little").evidence
    rare = {name: (image, (mask > 0).astype(np.uint8)) for name, (image, mask) in clean_pairs.items()}
    rare["f1"][1][2:6, 2:6] = 2
    found = check_data(write_set(tmp_path / "rare", rare), task="classes")
    assert "class 2 has 16 pixels" in one(found, "too_little").evidence


def test_no_known_background(plant, clean_pairs):
    known = {
        name: (image, np.where(mask > 0, mask, -1).astype(np.int16)) for name, (image, mask) in clean_pairs.items()
    }
    assert "no pixel of any image is known as background" in one(plant(known), "too_little").evidence


# -- objects


def corner_cells(mask):
    """Ids of two cells that lie far from each other."""
    boxes = ndimage.find_objects(mask.astype(int))
    centres = np.array([[(s.start + s.stop) / 2 for s in box] for box in boxes])
    order = np.argsort(centres.sum(axis=1))
    return int(order[0]) + 1, int(order[-1]) + 1


def test_one_id_on_distant_pieces(plant, clean_pairs):
    image, mask = clean_pairs["f1"]
    first, last = corner_cells(mask)
    finding = one(plant(f1=(image, np.where(mask == last, first, mask).astype(np.uint16))), "distant_pieces")
    assert (finding.severity, finding.file) == ("warning", "f1.tif")
    assert f"id {first} on 2 pieces" in finding.evidence


def test_a_mask_of_one_value_among_masks_of_ids(plant, clean_pairs):
    image, mask = clean_pairs["f1"]
    separate = ndimage.binary_erosion(mask > 0, iterations=2) & (
        ndimage.grey_erosion(mask, 5) == ndimage.grey_dilation(mask, 5)
    )
    finding = one(plant(f1=(image, (255 * separate).astype(np.uint16))), "merged_objects")
    assert (finding.severity, finding.file) == ("error", "f1.tif")
    assert "value 255 lies on" in finding.evidence


def test_two_touching_cells_under_one_id(plant):
    """Two discs that touch at a narrow neck, in an image of single discs."""
    y, x = np.mgrid[:128, :128]
    places = [(20 + 34 * k, 20 + 34 * j) for k in range(3) for j in range(3)]
    mask = np.zeros((128, 128), np.uint16)
    for index, (cy, cx) in enumerate([*places[:9], (54, 117), (88, 117)], start=1):
        mask[(y - cy) ** 2 + (x - cx) ** 2 <= 81] = index
    noise = np.random.default_rng(0).normal(0, 10, mask.shape)
    pairs = {name: ((60 + 100 * (mask > 0) + noise).astype(np.uint8), mask) for name in ("a", "b", "c")}
    merged = mask.copy()
    merged[(y - 20) ** 2 + (x - 38) ** 2 <= 81] = 1  # beside the first, 18 px from its centre
    found = plant(pairs, b=(pairs["b"][0], merged))
    finding = one(found, "merged_objects")
    assert finding.file == "b.tif"
    assert "1 of 11 objects look like several that touch, as id 1" in finding.evidence


def test_specks(plant, clean_pairs):
    image, mask = clean_pairs["f1"]
    spots = np.argwhere(ndimage.distance_transform_edt(mask == 0) > 3)
    spots = [p for p in spots if (p > 2).all() and (p < 125).all()][:: max(1, len(spots) // 6)][:4]
    speckled = mask.copy()
    for index, (y, x) in enumerate(spots, start=1):
        speckled[y, x] = mask.max() + index
    finding = one(plant(f1=(image, speckled)), "specks")
    assert (finding.severity, finding.file) == ("warning", "f1.tif")
    assert "4 of 30 objects" in finding.evidence


def test_objects_larger_than_the_receptive_field(tmp_path, write_set):
    """Small cells decide the network; one giant among them is 500 px across."""
    mask = np.zeros((640, 640), np.uint16)
    y, x = np.mgrid[:640, :640]
    mask[(y - 320) ** 2 + (x - 320) ** 2 < 250**2] = 1
    corner = np.zeros((40, 640), np.uint16)
    for index in range(25):
        corner[5:20, 5 + 25 * index : 20 + 25 * index] = index + 2
    mask[:40] = np.where(corner > 0, corner, mask[:40])
    noise = np.random.default_rng(0).normal(0, 10, mask.shape)
    image = (60 + 100 * (mask > 0) + noise).astype(np.uint8)
    found = check_data(write_set(tmp_path, {"a": (image, mask)}))
    finding = one(found, "large_objects")
    assert "id 1: 499 px across, 214 px are seen" in finding.evidence
    assert "--set network.stem=4" in finding.remedy


def test_unlabelled_objects(plant, clean_pairs):
    image, mask = clean_pairs["f1"]
    alone = [i for i in range(1, int(mask.max()) + 1) if (mask == i).sum() > 350][:4]
    found = plant(f1=(image, np.where(np.isin(mask, alone), 0, mask).astype(np.uint16)))
    finding = one(found, "unlabelled_objects")
    assert finding.file == "f1.tif"
    for spot in finding.spots:
        assert np.isin(mask[spot.box], alone).mean() > 0.3


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_many_forgotten_objects_do_not_hide_themselves(plant, binary_pairs, share):
    image, mask = binary_pairs["f1"]
    pieces = components(mask > 0)
    kept = np.isin(pieces, np.arange(1, 1 + round((1 - share) * pieces.max())))
    ids = {n: (i, components(m > 0).astype(np.uint16)) for n, (i, m) in binary_pairs.items()}
    finding = one(plant(ids, f1=(image, np.where(kept, pieces, 0).astype(np.uint16))), "unlabelled_objects")
    assert (finding.file, finding.severity) == ("f1.tif", "warning")
    assert finding.remedy.endswith("mark them as unknown in f1_ignore.tif")


def test_the_remedy_is_one_that_the_layout_has(clean_pairs, tmp_path):
    image, mask = clean_pairs["f1"]
    alone = [i for i in range(1, int(mask.max()) + 1) if (mask == i).sum() > 350][:4]
    pairs = clean_pairs | {"f1": (image, np.where(np.isin(mask, alone), 0, mask).astype(np.uint16))}
    stacks = [np.stack([pair[at] for _, pair in sorted(pairs.items())]) for at in (0, 1)]
    for name, stack in zip(("train-volume", "train-labels"), stacks, strict=True):
        tifffile.imwrite(tmp_path / f"{name}.tif", stack)
    finding = one(check_data(tmp_path, task="instances"), "unlabelled_objects")
    assert finding.remedy.endswith("mark them as unknown in train-volume_ignore.tif, page 2")
    ignored = np.stack([np.isin(clean_pairs[name][1], alone) & (name == "f1") for name in sorted(pairs)])
    tifffile.imwrite(tmp_path / "train-volume_ignore.tif", ignored.astype(np.uint8))
    assert not [f for f in check_data(tmp_path, task="instances").findings if f.kind == "unlabelled_objects"]


# -- images


def test_saturation(plant, clean_pairs):
    image, mask = clean_pairs["f1"]
    bright = np.minimum(image.astype(int) * 2, 255).astype(np.uint8)
    bright[(mask > 0) & (image > np.quantile(image[mask > 0], 0.8))] = 255
    finding = one(plant(f1=(bright, mask)), "saturation")
    assert (finding.severity, finding.file) == ("warning", "f1")
    assert "the largest value, 255" in finding.evidence


def test_a_blank_image(plant, clean_pairs):
    image, mask = clean_pairs["f1"]
    finding = one(plant(f1=(np.full_like(image, 7), mask)), "blank_images")
    assert (finding.severity, finding.file) == ("warning", "f1")
    assert "the value 7, and objects are drawn" in finding.evidence
    finding = one(plant(f1=(np.zeros_like(image), np.zeros_like(mask))), "blank_images")
    assert finding.evidence == "every pixel has the value 0"
    found = plant({name: (np.zeros_like(image), mask) for name, (_, mask) in clean_pairs.items()})
    assert {f.severity for f in found.findings if f.kind == "blank_images"} == {"error"}


def test_a_blank_channel(plant, clean_pairs):
    two = {n: (np.stack([i, i // 2, i // 3], -1), m) for n, (i, m) in clean_pairs.items()}
    image = two["f1"][0].copy()
    image[..., 1] = 3
    finding = one(plant(two | {"f1": (image, two["f1"][1])}), "blank_images")
    assert (finding.severity, finding.file) == ("warning", "f1")
    assert "channel 1 has one value, but not in the other" in finding.evidence
    for pair in two.values():
        pair[0][..., 2] = 0
    finding = one(plant(two), "blank_images")
    assert finding.severity == "hint"
    assert finding.remedy.endswith("--channels 0,1")


def test_channels_are_chosen_and_named_as_in_the_files(clean_pairs, write_set, tmp_path):
    pairs = {n: (np.stack([0 * i, i, 0 * i], -1), m) for n, (i, m) in clean_pairs.items()}
    folder = write_set(tmp_path / "set", pairs)
    chosen = check_data(folder, channels=[1])
    assert not [finding for finding in chosen.findings if finding.kind == "blank_images"]
    assert [len(example.image) for example in chosen.examples] == [1] * 6
    assert "channels 1, as asked for" in chosen.reasons
    finding = one(check_data(folder, channels=["2", "1"]), "blank_images")
    assert finding.evidence.startswith("channel 2 has one value in each of")
    assert finding.remedy.endswith("--channels 1")
    with pytest.raises(UsageError, match="--channels 4: not in f0, which has channels 0 to 2"):
        check_data(folder, channels=["4"])


def test_bit_depths(plant, clean_pairs):
    image, mask = clean_pairs["f1"]
    finding = one(plant(f1=(image.astype(np.uint16) * 200, mask)), "bit_depth")
    assert (finding.severity, finding.file) == ("hint", "f1")
    assert "5 of uint8, 1 of uint16" in finding.evidence


def test_pixel_sizes(clean_pairs, tmp_path, write_set):
    size = {"resolution": (2, 2), "resolutionunit": "CENTIMETER"}
    folder = write_set(tmp_path, clean_pairs, **size)
    assert check_data(folder).findings == ()
    tifffile.imwrite(folder / "images" / "f1.tif", clean_pairs["f1"][0], resolution=(4, 4), resolutionunit="CENTIMETER")
    finding = one(check_data(folder), "pixel_size")
    assert (finding.severity, finding.file) == ("warning", "f1")
    assert "2 times as large or small" in finding.evidence


def test_grey_among_colour(plant, clean_pairs):
    rgb = {n: (np.stack([i, i // 2, 255 - i], -1), m) for n, (i, m) in clean_pairs.items() if n != "f1"}
    finding = one(plant(rgb | {"f1": clean_pairs["f1"]}), "channels_mixed")
    assert "1 of 6 images are grey (as f1)" in finding.evidence


# -- train and validation


def held_back(found):
    from biounet.checks.duplicates import planned_split

    split = planned_split(found.seen)
    return split.validation[0].name, split.training[0].name


VIEWS = {
    "the same": lambda image: image,
    "brighter and noisier": lambda image: 0.8 * image + 30 + np.random.default_rng(1).normal(0, 2, image.shape),
    "mirrored": lambda image: image[:, ::-1],
    "turned": np.rot90,
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_near_duplicate_in_the_other_half(plant, clean, clean_pairs, name):
    held, learnt = held_back(clean)
    view = np.ascontiguousarray(VIEWS[name](clean_pairs[learnt][0].astype(float))).clip(0, 255).astype(np.uint8)
    found = plant(**{held: (view, clean_pairs[held][1])})
    finding = one(found, "near_duplicates")
    assert (finding.severity, finding.file) == ("warning", held)
    assert f"the same as {learnt}" in finding.evidence
    assert f"--validation {held},{learnt}" in finding.remedy


def test_a_duplicate_within_one_half_is_none(plant, clean, clean_pairs, kinds):
    held, learnt = held_back(clean)
    other = next(name for name in clean_pairs if name not in (held, learnt))
    assert "near_duplicates" not in kinds(plant(**{other: clean_pairs[learnt]}))


# -- much data


def test_large_sets_are_sampled_and_it_is_said(clean_pairs, tmp_path, monkeypatch, write_set):
    folder = write_set(tmp_path, clean_pairs)
    monkeypatch.setattr(survey, "MOST_IMAGES", 4)
    found = check_data(folder)
    assert len(found.examples) == 4
    assert "4 of 6 images were read" in found.sampled
    assert found.sampled in found.reasons
    monkeypatch.setattr(survey, "MOST_PIXELS", 2 * 128 * 128)
    assert len(check_data(folder).examples) == 2
    monkeypatch.setattr(survey, "MOST_PIXELS", 1)
    assert len(check_data(folder).examples) == 1


def test_what_is_no_data_set_is_refused_in_one_line(tmp_path):
    with pytest.raises(DataError, match="there is no such folder"):
        check_data(tmp_path / "gone")
