import numpy as np
import pytest
import tifffile

from biounet.images.regions import open_regions
from biounet.results.thumbnail import thumbnail


@pytest.mark.parametrize(
    ("shape", "ndim", "step"), [((300, 200), 2, 1), ((3001, 1700), 2, 3), ((40, 3500), 2, 3), ((5, 1600, 300), 3, 2)]
)
def test_every_nth_pixel_is_seen_and_no_large_window_is_read(tmp_path, shape, ndim, step):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (2, *shape), dtype=np.uint8)
    labels = rng.integers(0, 99, shape, dtype=np.int32)
    axes = "CZYX" if ndim == 3 else "CYX"
    tifffile.imwrite(tmp_path / "x.ome.tif", image, tile=(256, 256), metadata={"axes": axes}, ome=True)
    sides = []

    def ids(start, stop):
        sides.append(max(stop[-2] - start[-2], stop[-1] - start[-1]))
        return labels[tuple(slice(a, e) for a, e in zip(start, stop, strict=True))]

    def chances(start, stop):
        return (1 / (1 + ids(start, stop))).astype(np.float32)

    with open_regions(tmp_path / "x.ome.tif") as regions:
        picture, seen, probable = thumbnail(regions, 0, (1,), [ids, chances], ndim=ndim)
    plane = (shape[0] // 2,) if ndim == 3 else ()
    np.testing.assert_array_equal(picture[0], image[(1, *plane)][::step, ::step])
    np.testing.assert_array_equal(seen, labels[plane][::step, ::step])
    assert probable.dtype == np.float32
    np.testing.assert_array_equal(probable, (1 / (1 + seen)).astype(np.float32))
    assert max(sides) <= 1024


@pytest.mark.parametrize(("levels", "read"), [((1, 2, 4), 2), ((1, 4), 1), ((1, 2, 3), 3)])
def test_of_a_pyramid_the_smallest_level_with_enough_pixels_is_read(tmp_path, monkeypatch, levels, read):
    """Pixels say where they are and in which level; every third pixel is wanted."""
    rows, columns = np.indices((100, 90))
    monkeypatch.setattr("biounet.results.thumbnail._LARGEST", 34)
    with tifffile.TiffWriter(tmp_path / "x.ome.tif", ome=True) as writer:
        for factor in levels:
            pixels = (rows + 100 * columns + 10_000 * factor).astype(np.int32)[::factor, ::factor]
            writer.write(
                pixels, tile=(16, 16), subifds=len(levels) - 1 if factor == 1 else 0, subfiletype=int(factor > 1)
            )
    with open_regions(tmp_path / "x.ome.tif") as regions:
        assert len(regions.levels) == len(levels)
        ((picture,),) = thumbnail(regions, 0, (0,), [], ndim=2)
    assert picture.shape == (34, 30)
    assert (picture // 10_000 == read).all()
    places = np.stack([picture % 100, picture % 10_000 // 100])
    wanted = np.stack([rows, columns])[:, ::3, ::3]
    assert np.abs(places - wanted).max() <= read
