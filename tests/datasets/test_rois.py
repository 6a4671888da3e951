import math
import struct
import zipfile

import numpy as np
import pytest
import tifffile
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi, roiwrite

from biounet.datasets.outlines import Place, paint
from biounet.datasets.rois import has_rois, roi_kind, roi_outlines, tiff_outlines
from biounet.errors import DataError

TRIANGLE = [(2, 1), (9, 1), (2, 9)]  # x, y


def box(kind, top=2, left=3, bottom=12, right=17, **fields):
    roi = ImagejRoi()
    roi.roitype, roi.top, roi.left, roi.bottom, roi.right = kind, top, left, bottom, right
    for name, value in fields.items():
        setattr(roi, name, value)
    return roi


def polygon(kind=ROI_TYPE.POLYGON, points=TRIANGLE, **fields):
    roi = ImagejRoi.frompoints(np.array(points), name=fields.pop("name", "0001-0002"))
    roi.roitype = kind
    for name, value in fields.items():
        setattr(roi, name, value)
    return roi


def composite(path):
    roi = box(ROI_TYPE.RECT, shape_roi_size=len(path))
    roi.multi_coordinates = np.array(path, np.float32)
    return roi


def masks(tmp_path, *rois, shape=(20, 24)):
    roiwrite(tmp_path / "r.zip", rois, name=[f"{k}.roi" for k in range(len(rois))], mode="w")
    return [paint([outline], shape).labels > 0 for outline in roi_outlines(tmp_path / "r.zip")]


@pytest.mark.parametrize("kind", [ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED])
def test_polygons_of_every_kind(tmp_path, kind):
    (mask,) = masks(tmp_path, polygon(kind))
    rows, columns = np.mgrid[:20, :24] + 0.5
    assert np.array_equal(mask, (columns > 2) & (rows > 1) & ((columns - 2) / 7 + (rows - 1) / 8 < 1))


def test_fractions_of_pixels_are_kept(tmp_path):
    (mask,) = masks(tmp_path, polygon(points=np.array(TRIANGLE) + 0.75))
    rows, columns = np.mgrid[:20, :24] - 0.25
    assert np.array_equal(mask, (columns > 2) & (rows > 1) & ((columns - 2) / 7 + (rows - 1) / 8 < 1))


def test_ellipses_and_rotated_rectangles_are_stored_as_polygons(tmp_path):
    for subtype in (ROI_SUBTYPE.ELLIPSE, ROI_SUBTYPE.ROTATED_RECT):
        roi = polygon(ROI_TYPE.FREEHAND, subtype=subtype)
        assert masks(tmp_path, roi)[0].sum() == masks(tmp_path, polygon())[0].sum()


def test_rectangles(tmp_path):
    plain, rounded, fraction = masks(
        tmp_path,
        box(ROI_TYPE.RECT),
        box(ROI_TYPE.RECT, rounded_rect_arc_size=6),
        box(ROI_TYPE.RECT, version=228, options=ROI_OPTIONS.SUB_PIXEL_RESOLUTION, xd=3.6, yd=2, widthd=13, heightd=10),
    )
    assert plain.sum() == 140
    assert plain[2:12, 3:17].all()
    corners = plain & ~rounded
    assert 0 < corners.sum() < 16
    assert not (rounded & ~plain).any()
    assert corners[2, 3]
    assert corners[11, 16]
    assert fraction[2:12, 4:17].all()
    assert fraction.sum() == 130


def test_an_oval_is_the_ellipse_in_its_box(tmp_path):
    (mask,) = masks(tmp_path, box(ROI_TYPE.OVAL))
    rows, columns = np.mgrid[:20, :24] + 0.5
    assert np.array_equal(mask, ((rows - 7) / 5) ** 2 + ((columns - 10) / 7) ** 2 < 1)


def test_a_large_oval_is_within_a_hundredth_of_a_pixel(tmp_path):
    roiwrite(tmp_path / "r.zip", [box(ROI_TYPE.OVAL, 0, 0, 2000, 2000)], name=["a"], mode="w")
    (outline,) = roi_outlines(tmp_path / "r.zip")
    ring = outline.rings[0] - 1000
    middles = (ring + np.roll(ring, -1, 0)) / 2
    assert 1000 - np.hypot(*middles.T).min() < 0.01


def test_a_composite_has_holes_parts_and_curves(tmp_path):
    square = [0, 1, 1, 1, 9, 1, 1, 9, 9, 1, 1, 9, 4]
    hole = [0, 3, 3, 1, 3, 6, 1, 6, 6, 1, 6, 3, 4]
    k = 4 / 3 * math.tan(math.pi / 8) * 4  # four cubic curves that make a circle of radius 4 round (15, 5)
    circle = [0, 19, 5]
    circle += [3, 19, 5 + k, 15 + k, 9, 15, 9, 3, 15 - k, 9, 11, 5 + k, 11, 5]
    circle += [3, 11, 5 - k, 15 - k, 1, 15, 1, 3, 15 + k, 1, 19, 5 - k, 19, 5, 4]
    (mask,) = masks(tmp_path, composite(square + hole + circle))
    rows, columns = np.mgrid[:20, :24] + 0.5
    assert mask[:, :10].sum() == 64 - 9
    assert not mask[3:6, 3:6].any()
    assert np.array_equal(mask[:, 10:], ((rows - 5) ** 2 + (columns - 15) ** 2 < 16)[:, 10:])


def test_a_quadratic_curve_bends_towards_its_control_point(tmp_path):
    (straight,) = masks(tmp_path, composite([0, 1, 1, 1, 1, 15, 1, 15, 15, 4]))
    (bent,) = masks(tmp_path, composite([0, 1, 1, 1, 1, 15, 1, 15, 15, 2, 15, 1, 1, 1, 4]))
    assert bent.sum() > straight.sum()


def test_a_composite_of_unknown_segments_is_refused(tmp_path):
    with pytest.raises(DataError, match="path segment of type 9 at 0"):
        masks(tmp_path, composite([9, 1, 1]))


@pytest.mark.parametrize("kind", [ROI_TYPE.LINE, ROI_TYPE.POLYLINE, ROI_TYPE.FREELINE, ROI_TYPE.POINT, ROI_TYPE.ANGLE])
def test_what_encloses_nothing_is_left_out(tmp_path, kind):
    line, area = masks(tmp_path, polygon(kind), polygon())
    assert (line.any(), area.any()) == (False, True)
    assert paint(roi_outlines(tmp_path / "r.zip"), (20, 24)).notes == (
        "1 lines, points, texts or boxes have no outline: left out",
    )


def test_texts_are_left_out(tmp_path):
    assert masks(tmp_path, box(ROI_TYPE.RECT, subtype=ROI_SUBTYPE.TEXT))[0].sum() == 0


def test_positions_in_a_stack(tmp_path):
    rois = [polygon(), polygon(position=7), polygon(z_position=3), polygon(z_position=3, t_position=2, c_position=1)]
    roiwrite(tmp_path / "r.zip", rois, name=list("abcd"), mode="w")
    places = [outline.place for outline in roi_outlines(tmp_path / "r.zip")]
    assert places == [Place(), Place(stack=6), Place(z=2), Place(z=2, t=1)]


@pytest.mark.parametrize(
    ("name", "group", "kind"),
    [
        ("0123-0045-0067", 0, ""),
        ("0123-0045", 3, "group 3"),
        ("region-2", 0, "region"),
        ("Region2", 0, "region"),
        ("ignore", 0, "ignore"),
        ("neuron_014", 3, "neuron"),
        ("glia 3", 0, "glia"),
        ("CD4-12", 0, "CD4"),
        ("f47ac10b-58cc-4372-a567-0e02b2c3d479", 0, ""),
        ("", 0, ""),
    ],
)
def test_the_class_of_a_roi_is_its_name_without_its_number(name, group, kind):
    assert roi_kind(name, group) == kind


def test_one_roi_in_a_file_and_files_that_hold_none(tmp_path):
    polygon().tofile(tmp_path / "a.roi")
    assert len(roi_outlines(tmp_path / "a.roi")) == 1
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr("readme.txt", "nothing")
    with pytest.raises(DataError, match="holds no ImageJ ROI"):
        roi_outlines(tmp_path / "b.zip")


def test_rois_stored_inside_a_tiff(tmp_path):
    overlay = [polygon(name="a").tobytes(), box(ROI_TYPE.OVAL).tobytes()]
    selection = polygon(points=[(1, 1), (5, 1), (5, 5)]).tobytes()
    image = np.zeros((20, 24), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, imagej=True, metadata={"Overlays": overlay, "ROI": selection})
    tifffile.imwrite(tmp_path / "b.tif", image, imagej=True)
    (tmp_path / "c.tif").write_bytes(struct.pack("<2sHI", b"II", 42, 10**6))
    assert len(tiff_outlines(tmp_path / "a.tif")) == 3
    assert [has_rois(tmp_path / f"{name}.tif") for name in "abc"] == [True, False, False]


def test_what_a_mac_adds_to_a_zip_is_no_roi(tmp_path):
    roiwrite(tmp_path / "r.zip", [polygon()], name=["a"], mode="w")
    with zipfile.ZipFile(tmp_path / "r.zip", "a") as file:
        file.writestr("__MACOSX/._a.roi", b"\0\5\26\7")
    assert len(roi_outlines(tmp_path / "r.zip")) == 1
