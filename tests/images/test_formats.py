import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from biounet.errors import DataError
from biounet.images.formats import READERS, known_suffix, read_header, read_image, stem_name

UMLAUTS = "Zellen für Ümit 3"


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.tif", "a"),
        ("a.b.TIFF", "a.b"),
        ("well B03.ome.tif", "well B03"),
        ("brain_0000.nii.gz", "brain"),
        ("brain_0001.nii.gz", "brain_0001"),
        ("a_0000.png", "a"),
        ("_0000.png", "_0000"),
        ("notes.txt", "notes"),
        ("plain", "plain"),
    ],
)
def test_name_is_the_file_name_less_its_known_suffixes(name, stem):
    assert stem_name(f"folder.x/{name}") == stem


def test_the_longest_suffix_counts():
    assert known_suffix("x.NII.GZ") == ".nii.gz"
    assert known_suffix("x.docx") == ""


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8", ">u2", ">f4"])
def test_tiff_of_any_depth(tmp_path, rng, dtype):
    array = (rng.random((7, 9)) * 100).astype(dtype)
    tifffile.imwrite(tmp_path / "x.tif", array, byteorder=">" if ">" in dtype else None)
    image = read_image(tmp_path / "x.tif")
    assert image.axes == "YX"
    assert image.array.dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(image.array, array)


@pytest.mark.parametrize("suffix", [".tif", ".png", ".npy"])
def test_paths_with_spaces_and_umlauts(tmp_path, rng, suffix):
    folder = tmp_path / UMLAUTS
    folder.mkdir()
    array = rng.integers(0, 256, (8, 9), np.uint8)
    path = folder / f"Präparat 1{suffix}"
    write = {".tif": tifffile.imwrite, ".npy": np.save, ".png": lambda p, a: Picture.fromarray(a).save(p)}
    write[suffix](path, array)
    image = read_image(path)
    assert np.array_equal(image.array, array)
    assert image.source == path


def test_truth_values_become_numbers(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(5, dtype=bool))
    image = read_image(tmp_path / "x.npy")
    assert image.array.dtype == np.uint8
    assert image.array.sum() == 5


def test_complex_numbers_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((4, 4), np.complex64))
    tifffile.imwrite(tmp_path / "x.tif", np.ones((4, 4), np.complex64))
    for name in ("x.npy", "x.tif"):
        with pytest.raises(DataError, match=r"x\.(npy|tif): holds values of type complex64; only real"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("suffix", READERS)
def test_an_empty_file_is_one_line(tmp_path, suffix):
    (tmp_path / f"x{suffix}").write_bytes(b"")
    with pytest.raises(DataError, match=r"is empty \(0 bytes\); copy or export it again"):
        read_image(tmp_path / f"x{suffix}")


@pytest.mark.parametrize("suffix", [s for s in READERS if "nii" not in s])
def test_text_under_an_image_name_is_one_line(tmp_path, suffix):
    (tmp_path / f"x{suffix}").write_text("name,area\ncell 1,34\n" * 20)
    with pytest.raises(DataError, match=rf"x\{suffix}: ") as caught:
        read_image(tmp_path / f"x{suffix}")
    assert "\n" not in str(caught.value)


def test_missing_file_folder_and_foreign_format(tmp_path):
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "x.docx").write_text("hello")
    with pytest.raises(DataError, match="there is no such file"):
        read_image(tmp_path / "none.tif")
    with pytest.raises(DataError, match="is a folder"):
        read_image(tmp_path / "folder.tif")
    with pytest.raises(DataError, match=r"not an image format known here; known are \.tif"):
        read_image(tmp_path / "x.docx")


def test_an_image_larger_than_the_machine_is_refused(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((100, 100), np.uint8))
    monkeypatch.setattr("biounet.images.formats.allowed_memory", lambda: 9_999)
    with pytest.raises(DataError, match="this machine or container has"):
        read_header(tmp_path / "x.tif")


def test_header_and_image_agree(tmp_path, rng):
    array = rng.integers(0, 9, (3, 2, 8, 9), np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", array, imagej=True, metadata={"axes": "ZCYX"})
    header, image = read_header(tmp_path / "x.tif"), read_image(tmp_path / "x.tif")
    assert (header.axes, image.axes) == ("ZCYX", "CZYX")
    assert np.array_equal(image.array, array.transpose(1, 0, 2, 3))
    assert [header.size(axis) for axis in "ITCZYX"] == [1, 1, 2, 3, 8, 9]


def test_reading_takes_no_pickle(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[{"a": 1}]], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"x\.npy"):
        read_image(tmp_path / "x.npy")


def test_sixteen_bit_png_keeps_its_values(tmp_path, rng):
    array = rng.integers(0, 65536, (8, 9, 3), np.uint16)
    (tmp_path / "x.png").write_bytes(imagecodecs.png_encode(array))
    assert np.array_equal(read_image(tmp_path / "x.png").array, array.transpose(2, 0, 1))
