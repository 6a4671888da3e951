from dataclasses import replace

import numpy as np
import pytest
import tifffile

from biounet.errors import DataError, UsageError
from biounet.planning.data import _pixel_sizes, read_training_data
from biounet.settings import DataSettings

DEFAULT = DataSettings()
UNKNOWN = DataSettings(unlabelled="unknown")


def pair(shape=(20, 24), *, channels=None, dtype=np.uint8):
    labels = np.zeros(shape, np.int32)
    labels[..., 2:9, 3:9] = 1
    labels[..., 12:18, 12:20] = 2
    image = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    return (image if channels is None else np.stack([image] * channels)), labels


def many(count=5, **options):
    """Pairs whose ids differ from image to image, so that they are ids of objects."""
    pairs = [pair(**options) for _ in range(count)]
    return [(image, np.where(labels > 0, labels + 7 * i, 0)) for i, (image, labels) in enumerate(pairs)]


def test_pairs_of_arrays_become_examples():
    data = read_training_data(many(), DEFAULT)
    assert (data.channels, data.ndim, data.classes) == (1, 2, 2)
    assert data.examples[1].image.shape == (1, 20, 24)
    assert data.examples[1].labels.dtype == np.int32
    assert set(np.unique(data.examples[1].labels)) == {0, 8, 9}
    assert not data.sequence


def test_channels_and_volumes_are_told_apart_by_the_labels():
    assert read_training_data(many(channels=3), DEFAULT).channels == 3
    volumes = read_training_data(many(shape=(6, 20, 24)), DEFAULT)
    assert (volumes.ndim, volumes.channels) == (3, 1)


def test_every_inference_is_stated():
    data = read_training_data(many(), DEFAULT)
    count, meaning, rule = data.statements
    assert count == "5 pairs of arrays"
    assert "instances" in meaning
    assert rule == "what is not drawn is background; every image is annotated in full"


def test_a_folder_is_read_as_the_arrays_are_and_states_its_layout(write_folder):
    folder = write_folder(many())
    data = read_training_data(folder, DEFAULT)
    arrays = read_training_data(many(), DEFAULT)
    assert [e.name for e in data.examples] == [f"cell_{i}" for i in range(5)]
    assert data.statements[0] == "layout: folders"
    assert data.statements[-2:] == arrays.statements[-2:]
    assert data.digest == arrays.digest
    assert str(folder) not in " ".join(data.statements)


def test_what_was_left_out_is_stated(write_folder):
    folder = write_folder(many())
    (folder / "images" / "cell_2.tif").write_bytes(b"II*\0broken")
    with pytest.raises(DataError, match="cell_2"):
        read_training_data(folder, DEFAULT)
    data = read_training_data(folder, DEFAULT, skip_bad=True)
    assert "left out, as they cannot be used: cell_2" in data.statements
    assert len(data.examples) == 4


def test_unlabelled_unknown_makes_what_is_not_drawn_unknown():
    pairs = many()
    region = pairs[0][1].copy()
    pairs[0] = (pairs[0][0], np.where(np.arange(24) < 4, np.maximum(region, 0), np.where(region > 0, region, -1)))
    with pytest.raises(DataError, match="no background is known in any image"):
        read_training_data(pairs, UNKNOWN)
    data = read_training_data(pairs, DEFAULT)
    assert data.statements[-1].startswith("what is not drawn is background, except where the annotation is marked")
    share = float((pairs[0][1] >= 0).mean())
    assert data.statements[-1].endswith(f"annotated shares: array 0 {share:.0%}; the other 4 in full")


def test_in_classes_unlabelled_unknown_makes_value_zero_unknown():
    image, labels = pair()
    scribbles = np.zeros_like(labels)
    scribbles[0] = 1  # a stroke over background
    scribbles[3:6, 4:8] = scribbles[13:15, 13:18] = 2  # two over objects
    scribbles[8] = 1
    data = read_training_data([(image, scribbles)] * 3, UNKNOWN.model_copy(update={"task": "classes"}))
    assert data.meaning.values == (1, 2)
    encoded = data.examples[0].labels
    assert np.array_equal(encoded, scribbles - 1)
    assert data.statements[-1].startswith("what is not drawn is unknown (--unlabelled unknown); annotated shares")


def test_a_mask_of_zero_and_255_has_no_background_left_when_zero_is_unknown():
    image, labels = pair()
    with pytest.raises(DataError, match="no background is known"):
        read_training_data([(image, 255 * (labels > 0))] * 3, UNKNOWN)


def test_two_valued_masks_become_classes():
    image, labels = pair()
    data = read_training_data([(image, 255 * (labels > 0))] * 3, DEFAULT)
    assert data.meaning.task == "classes"
    assert np.array_equal(data.examples[0].labels, labels > 0)


@pytest.mark.parametrize("unlabelled", ["background", "unknown"])
def test_empty_masks_are_refused(unlabelled):
    image, labels = pair()
    with pytest.raises(DataError, match="masks are empty"):
        read_training_data([(image, labels * 0)] * 2, DataSettings(unlabelled=unlabelled))


def test_masks_without_background_are_refused():
    image, labels = pair()
    with pytest.raises(DataError, match="no background is known in any image.*annotate some background"):
        read_training_data([(image, np.where(labels == 0, -1, labels + 9 * i)) for i in range(4)], DEFAULT)


def test_small_images_are_refused_by_name():
    pairs = [*many(), pair((15, 40))]
    with pytest.raises(DataError, match=r"array 5: 15x40 pixels; training images need at least 16 a side"):
        read_training_data(pairs, DEFAULT)


def test_a_volume_may_be_thin():
    assert read_training_data(many(shape=(1, 20, 24)), DEFAULT).examples[0].labels.shape == (1, 20, 24)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_images_that_are_not_finite_are_refused(bad):
    image, labels = pair(dtype=np.float32)
    image[3, 4] = bad
    with pytest.raises(DataError, match=r"array 0: the image holds NaN or infinite values"):
        read_training_data([(image, labels)], DEFAULT)


def test_channels_that_differ_are_refused():
    with pytest.raises(DataError, match=r"different numbers of channels \[1, 3\]"):
        read_training_data([pair(), pair(channels=3)], DEFAULT)


def test_sizes_that_differ_are_refused():
    image, labels = pair()
    with pytest.raises(DataError, match=r"array 0: image \(20, 23\) and labels \(20, 24\) differ in size"):
        read_training_data([(image[:, 1:], labels)], DEFAULT)


def test_labels_that_are_no_whole_numbers_are_refused():
    image, labels = pair()
    with pytest.raises(DataError, match="labels 0: .* not whole numbers"):
        read_training_data([(image, labels + 0.5)], DEFAULT)


def test_pairs_may_come_from_an_iterator():
    pairs = many(3)
    given = zip([image for image, _ in pairs], [labels for _, labels in pairs], strict=True)
    assert read_training_data(given, DEFAULT).digest == read_training_data(pairs, DEFAULT).digest
    with pytest.raises(UsageError, match="data is NoneType: give a folder or a list of pairs"):
        read_training_data(None, DEFAULT)


def test_no_data_a_bare_pair_and_lines_are_refused():
    with pytest.raises(DataError, match="no annotated image was given"):
        read_training_data([], DEFAULT)
    with pytest.raises(UsageError, match=r"a single pair is \[\(image, labels\)\]"):
        read_training_data(pair(), DEFAULT)
    with pytest.raises(UsageError, match="labels of 1 axes"):
        read_training_data([(np.zeros(40), np.zeros(40, int))], DEFAULT)


def test_the_digest_changes_with_every_pixel_label_type_and_order():
    def digest(pairs, settings=DEFAULT):
        return read_training_data(pairs, settings).digest

    pairs = many()
    first = digest(pairs)
    assert digest(many()) == first
    changed = [(image.copy(), labels.copy()) for image, labels in many()]
    changed[3][0][0, 0] += 1
    relabelled = [(image.copy(), labels.copy()) for image, labels in many()]
    relabelled[3][1][3, 4] = 0
    others = [digest(changed), digest(relabelled), digest(many(dtype=np.uint16)), digest(pairs[::-1])]
    assert len({first, *others}) == 5


def test_channels_are_chosen_by_index_and_said():
    pairs = [(np.stack([image, image + 1, image + 2]), labels) for image, labels in many()]
    data = read_training_data(pairs, DataSettings(channels=(2, "0")))
    assert data.channels == 2
    assert data.channel_names == ("2", "0")
    assert np.array_equal(data.examples[0].image, pairs[0][0][[2, 0]])
    assert "channels 2, 0, as asked for" in data.statements


@pytest.mark.parametrize("channels", [(3,), (-1,), ("DAPI",), ()])
def test_channels_that_are_not_there_are_refused(channels):
    with pytest.raises(UsageError, match="which has channels 0 to 2, without names|names none"):
        read_training_data(many(channels=3), DataSettings(channels=channels))


def test_inside_a_marked_region_what_is_not_drawn_is_background(tmp_path):
    """The remedy that the refusal of --unlabelled unknown names."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for index, (image, labels) in enumerate(many(2)):
        tifffile.imwrite(tmp_path / "images" / f"a{index}.tif", image)
        tifffile.imwrite(tmp_path / "masks" / f"a{index}.tif", labels.astype(np.uint16))
    with pytest.raises(DataError, match="a region marked as complete"):
        read_training_data(tmp_path, UNKNOWN)
    region = np.zeros((20, 24), np.uint8)
    region[:, :12] = 1
    tifffile.imwrite(tmp_path / "masks" / "a0_region.tif", region)
    marked, other = read_training_data(tmp_path, UNKNOWN).examples
    assert (marked.labels[:, 12:] == -1).all()
    assert set(np.unique(marked.labels[:, :12])) == {0, 1}
    assert not (other.labels == 0).any()


def write_named(folder, orders):
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for index, ((image, labels), order) in enumerate(zip(many(len(orders)), orders, strict=True)):
        values = {"DAPI": image, "GFP": image + 1, "actin": image + 2}
        stack, metadata = np.stack([values[name] for name in order]), {"axes": "CYX", "Channel": {"Name": list(order)}}
        tifffile.imwrite(folder / "images" / f"a{index}.ome.tif", stack, metadata=metadata)
        tifffile.imwrite(folder / "masks" / f"a{index}.tif", labels.astype(np.uint16))
    return folder


def test_channels_are_matched_by_name_whatever_their_order_in_the_file(tmp_path):
    folder = write_named(tmp_path, [("DAPI", "GFP", "actin"), ("actin", "DAPI", "GFP"), ("GFP", "DAPI", "actin")])
    data = read_training_data(folder, DEFAULT)
    assert data.channel_names == ("DAPI", "GFP", "actin")
    assert "channels DAPI, GFP, actin, as the files name them" in data.statements
    assert all(np.array_equal(e.image, data.examples[0].image) for e in data.examples)
    chosen = read_training_data(folder, DataSettings(channels=("gfp", 0)))
    assert chosen.channel_names == ("GFP", "DAPI")
    assert np.array_equal(chosen.examples[2].image, data.examples[0].image[[1, 0]])
    with pytest.raises(UsageError, match=r"--channels RFP: not in a0, which has channels 0 'DAPI', 1 'GFP', 2 'actin'"):
        read_training_data(folder, DataSettings(channels=("RFP",)))


def test_files_that_name_other_channels_are_taken_by_position(tmp_path):
    folder = write_named(tmp_path, [("DAPI", "GFP"), ("DAPI", "actin")])
    data = read_training_data(folder, DEFAULT)
    assert data.channel_names == ("0", "1")


def test_the_pixel_size_that_most_images_state_is_taken_for_all_and_said():
    def with_sizes(*sizes):
        data = read_training_data(many(len(sizes)), DEFAULT)
        examples = [replace(e, pixel_size_um=size) for e, size in zip(data.examples, sizes, strict=True)]
        return replace(data, examples=tuple(examples)), _pixel_sizes(examples)

    none, said = with_sizes(None, None)
    assert none.pixel_size_um is None
    assert none.fingerprint.spacing == (1.0, 1.0)
    assert not said
    alike, said = with_sizes((0.5, 0.5), (0.5001, 0.5))
    assert alike.pixel_size_um == (0.5, 0.5)
    assert not said
    mixed, said = with_sizes(None, (0.25, 0.25), (1.0, 0.5), (1.0, 0.5))
    assert mixed.pixel_size_um == (1.0, 0.5)
    assert mixed.fingerprint.spacing == (2.0, 1.0)
    assert [line.rpartition(";")[2] for line in said] == [
        " another size is stated by array 1: rescale these, or leave them out",
        " none is stated by array 0",
    ]
