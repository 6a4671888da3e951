import numpy as np
import pytest

from biounet.datasets.outlines import Place, paint
from biounet.datasets.shapes import is_shapes_csv, shapes_outlines
from biounet.errors import DataError

HEADER = "index,shape-type,vertex-index,axis-0,axis-1\n"


def rows(index, kind, points):
    return "".join(f"{index},{kind},{k},{','.join(map(str, p))}\n" for k, p in enumerate(points))


def read(tmp_path, text):
    (tmp_path / "shapes.csv").write_text(text)
    return shapes_outlines(tmp_path / "shapes.csv")


def test_napari_counts_from_pixel_centres(tmp_path):
    box = [(0.5, 1.5), (0.5, 4.5), (3.5, 4.5), (3.5, 1.5)]
    outline, line = read(tmp_path, HEADER + rows(0, "rectangle", box) + rows(1, "path", box))
    assert not line.has_area
    mask = paint([outline], (6, 7)).labels
    assert mask[1:4, 2:5].sum() == mask.sum() == 9


def test_an_ellipse_is_stored_by_the_corners_of_its_box(tmp_path):
    box = [(1.5, 2.5), (1.5, 14.5), (9.5, 14.5), (9.5, 2.5)]
    (outline,) = read(tmp_path, HEADER + rows(0, "ellipse", box))
    y, x = np.mgrid[:12, :18]
    assert np.array_equal(paint([outline], (12, 18)).labels > 0, ((y - 5.5) / 4) ** 2 + ((x - 8.5) / 6) ** 2 < 1)


def test_of_three_axes_the_first_is_the_plane(tmp_path):
    points = [(2, 0, 0), (2, 0, 5), (2, 5, 5)]
    (outline,) = read(tmp_path, HEADER.replace("\n", ",axis-2\n") + rows(0, "polygon", points))
    assert outline.place == Place(z=2)
    (outline,) = read(
        tmp_path, HEADER.replace("\n", ",axis-2,axis-3\n") + rows(0, "polygon", [(1, *p) for p in points])
    )
    assert outline.place == Place(z=2, t=1)


def test_other_tables(tmp_path):
    (tmp_path / "other.csv").write_text("image,mask\n")
    assert not is_shapes_csv(tmp_path / "other.csv")
    with pytest.raises(DataError, match="not a CSV of napari shapes"):
        shapes_outlines(tmp_path / "other.csv")
    with pytest.raises(DataError, match="could not convert string to float"):
        read(tmp_path, HEADER + "0,polygon,0,a,b\n")
