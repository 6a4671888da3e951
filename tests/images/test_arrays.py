import gzip

import numpy as np
import pytest

from biounet.errors import DataError
from biounet.images.arrays import MissingPackageError
from biounet.images.formats import read_header, read_image
from biounet.images.regions import open_regions


@pytest.mark.parametrize(
    ("shape", "axes"), [((20, 22), "YX"), ((20, 22, 3), "CYX"), ((5, 20, 22), "IYX"), ((3, 22, 3), "IYX")]
)
def test_axes_of_npy(tmp_path, shape, axes):
    array = np.arange(np.prod(shape)).reshape(shape)
    np.save(tmp_path / "x.npy", array)
    image = read_image(tmp_path / "x.npy")
    assert image.axes == axes
    assert np.array_equal(image.array, array.transpose(2, 0, 1) if axes == "CYX" else array)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4, 5)])
def test_npy_of_other_shapes_is_refused(tmp_path, shape):
    np.save(tmp_path / "x.npy", np.zeros(shape))
    with pytest.raises(DataError, match="names no axes, so only 2 or 3 can be told"):
        read_header(tmp_path / "x.npy")


def test_npy_cut_short_or_claiming_too_much(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((50, 60)))
    data = (tmp_path / "x.npy").read_bytes()
    for damaged in (
        data[:5],
        data[:60],
        data[:-1],
        data.replace(b"(50, 60)", b"(10**6, )"),
        data.replace(b"50", b"99"),
    ):
        (tmp_path / "x.npy").write_bytes(damaged)
        with pytest.raises(DataError, match=r"x\.npy: cannot be read"):
            read_image(tmp_path / "x.npy")


def test_nifti_without_its_package_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    (tmp_path / "x.nii.gz").write_bytes(b"1234")
    with pytest.raises(MissingPackageError, match=r"x\.nii\.gz: NIfTI needs a package: pip install nibabel"):
        read_header(tmp_path / "x.nii.gz")


@pytest.fixture
def nibabel():
    return pytest.importorskip("nibabel", reason="nibabel is not installed")


def test_nifti_is_turned_to_zyx_with_spacing(tmp_path, nibabel):
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)  # x, y, z
    stored = nibabel.Nifti1Image(array, np.diag([0.5, 0.25, 2.0, 1.0]))
    for name in ("x.nii", "x.nii.gz"):
        nibabel.save(stored, tmp_path / name)
        image = read_image(tmp_path / name)
        assert image.axes == "ZYX"
        assert image.array.dtype == np.int16
        assert np.array_equal(image.array, array.T)
        assert image.pixel_size_um == pytest.approx((2000, 250, 500))  # without a unit: mm


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize(("slope", "offset"), [(0.25, 0), (1, -3), (1, 0)])
def test_nifti_says_the_type_that_its_pixels_have(tmp_path, nibabel, rng, name, slope, offset):
    stored = rng.integers(0, 99, (60, 50, 40)).astype(np.int16)  # four times as large, once it is scaled
    volume = nibabel.Nifti1Image(stored, np.eye(4))
    volume.header.set_slope_inter(slope, offset)
    nibabel.save(volume, tmp_path / name)
    pixels = read_image(tmp_path / name).array
    assert read_header(tmp_path / name).dtype == pixels.dtype == (np.int16 if (slope, offset) == (1, 0) else np.float64)
    with open_regions(tmp_path / name) as regions:
        part = regions.read_item(0, ndim=3)
        assert regions.dtype == part.dtype == pixels.dtype
    np.testing.assert_array_equal(part[0], pixels)
    np.testing.assert_allclose(pixels, stored.T * slope + offset)


def test_nifti_of_other_shapes(tmp_path, nibabel):
    for shape, axes in (((4, 5), "YX"), ((4, 5, 6, 1), "ZYX"), ((4, 5, 6, 2), "TZYX")):
        nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4)), tmp_path / "x.nii")
        assert read_image(tmp_path / "x.nii").axes == axes
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6, 2, 3), np.uint8), np.eye(4)), tmp_path / "x.nii")
    with pytest.raises(DataError, match="2 to 4 axes"):
        read_image(tmp_path / "x.nii")


def test_nifti_cut_short_or_foreign(tmp_path, nibabel, rng):
    data = nibabel.Nifti1Image(rng.integers(0, 999, (9, 9, 9)).astype(np.int16), np.eye(4)).to_bytes()
    packed = gzip.compress(data)
    for name, content in (("x.nii", data), ("x.nii.gz", packed)):
        for length in (10, 200, len(content) // 2, len(content) - 400):
            (tmp_path / name).write_bytes(content[:length])
            with pytest.raises(DataError, match=rf"{name}: "):
                read_image(tmp_path / name)
    (tmp_path / "x.nii.gz").write_text("not a volume" * 100)
    with pytest.raises(DataError, match="cannot be read as"):
        read_image(tmp_path / "x.nii.gz")
