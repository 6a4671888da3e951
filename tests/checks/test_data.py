import numpy as np
import pytest
import tifffile

from biounet.checks.data import check_data
from biounet.errors import DataError, UsageError


def write(folder, name, mask, image=None):
    for kind, array in (("images", np.zeros(mask.shape, np.uint8) if image is None else image), ("masks", mask)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / kind / f"{name}.tif", array)


def mask_of(*corners):
    """Squares of 5 x 5 with ids 1, 2, ... at these corners."""
    mask = np.zeros((32, 40), np.uint16)
    for index, (y, x) in enumerate(corners, start=1):
        mask[y : y + 5, x : x + 5] = index
    return mask


def test_ids_are_counted(tmp_path):
    write(tmp_path, "a", mask_of((1, 1), (1, 10), (20, 20)))
    write(tmp_path, "b", mask_of((1, 1), (6, 1), (20, 20), (8, 30)))  # 1 and 2 touch
    found = check_data(tmp_path)
    assert found.meaning.task == "instances"
    assert [e.name for e in found.examples] == ["a", "b"]
    assert found.objects == (3, 4)
    assert found.dataset.layout == "folders"
    assert any("2 pairs" in line for line in found.reasons)
    assert found.reasons[-1] == found.meaning.reason


def test_pieces_are_counted_where_values_are_classes(tmp_path):
    write(tmp_path, "a", (mask_of((1, 1), (1, 10), (20, 20)) > 0).astype(np.uint8) * 255)
    write(tmp_path, "b", (mask_of((1, 1), (6, 1)) > 0).astype(np.uint8) * 255)
    found = check_data(tmp_path)
    assert (found.meaning.task, found.meaning.values) == ("classes", (0, 255))
    assert found.objects == (3, 1)
    asked = check_data(tmp_path, task="instances")
    assert (asked.meaning.task, asked.objects) == ("instances", (3, 1))


def test_unknown_pixels_are_told(tmp_path):
    mask = mask_of((1, 1), (1, 10), (20, 20)).astype(np.int32)
    mask[:, 30:] = -1
    write(tmp_path, "a", mask)
    found = check_data(tmp_path)
    assert found.examples[0].annotated_share == 0.75
    assert found.objects == (3,)


def test_images_and_masks_by_name(tmp_path):
    write(tmp_path, "a", mask_of((1, 1), (1, 10), (20, 20)))
    found = check_data(None, images=tmp_path / "images", masks=tmp_path / "masks")
    assert found.objects == (3,)
    volume = np.stack([mask_of((1, 1), (1, 10), (20, 20))] * 6)
    write(tmp_path / "stack", "s", volume)
    assert check_data(tmp_path / "stack").dataset.ndim == 3  # the ids go on from page to page
    assert len(check_data(tmp_path / "stack", ndim=2).examples) == 6


def test_what_training_would_refuse(tmp_path):
    with pytest.raises(DataError, match="there is no such folder"):
        check_data(tmp_path / "gone")
    write(tmp_path, "a", mask_of())
    assert "masks are empty" in str(check_data(tmp_path).refusal())
    write(tmp_path, "a", mask_of((1, 1)), image=np.zeros((31, 40), np.uint8))
    assert "a.tif is 31 x 40 pixels, mask a.tif 32 x 40" in str(check_data(tmp_path).refusal())
    write(tmp_path, "a", mask_of((1, 1)))
    with pytest.raises(UsageError, match="choose instances or classes"):
        check_data(tmp_path, task="objects")
