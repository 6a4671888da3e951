import json

import numpy as np
import pytest
import yaozarrs

from biounet.errors import DataError, UsageError
from biounet.images.formats import read_image, stem_name
from biounet.images.plates import is_plate, plate_fields

WELLS = ("B03", "B10", "C03")


@pytest.fixture(params=["0.4", "0.5"])
def plate(request, tmp_path, write_zarr):
    """Three wells of two fields, each field's pixels its own number."""
    path, version = tmp_path / "Platte 7.zarr", request.param
    listed = [
        {"path": f"{well[0]}/{well[1:]}", "rowIndex": "BC".index(well[0]), "columnIndex": int(well[1:]) == 10}
        for well in WELLS
    ]
    content = {
        "rows": [{"name": "B"}, {"name": "C"}],
        "columns": [{"name": "03"}, {"name": "10"}],
        "wells": [well | {"columnIndex": int(well["columnIndex"])} for well in listed],
    }
    number = 0
    for well in listed:
        for field in ("0", "1"):
            write_zarr(path / well["path"] / field, np.full((9, 8), number, np.uint8), version=version)
            number += 1
        group(path / well["path"], version, "well", {"images": [{"path": "0"}, {"path": "1"}]})
    group(path, version, "plate", content)
    for row in "BC":
        group(path / row, version, None, {})
    return path


def group(path, version, key, content):
    if version == "0.5":
        ome = {"ome": {"version": "0.5", key: content}} if key else {}
        (path / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": ome}))
        return
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    if key:
        (path / ".zattrs").write_text(json.dumps({key: content | {"version": "0.4"}}))


def test_fields_in_the_order_of_the_plate(plate):
    yaozarrs.validate_zarr_store(str(plate))
    fields = plate_fields(plate)
    assert [name for name, _ in fields] == [f"Platte 7_{well}_{field}" for well in WELLS for field in "01"]
    assert [int(read_image(path).array[0, 0]) for _, path in fields] == [0, 1, 2, 3, 4, 5]
    assert [stem_name(path) for _, path in fields] == [name for name, _ in fields]


@pytest.mark.parametrize(
    ("wells", "chosen"),
    [
        ("B03", "B03"),
        ("b10, B03", "B03 B10"),
        ("C*", "C03"),
        ("?03", "B03 C03"),
        ("C*,B03", "B03 C03"),
        ("*", "B03 B10 C03"),
    ],
)
def test_wells_by_name_and_pattern(plate, wells, chosen):
    assert [name for name, _ in plate_fields(plate, wells)] == [
        f"Platte 7_{well}_{field}" for well in chosen.split() for field in "01"
    ]


def test_what_is_not_there_is_said(plate, write_zarr, tmp_path):
    with pytest.raises(UsageError, match=r"--wells 'H12': not in .*Platte 7\.zarr, which has B03, B10, C03"):
        plate_fields(plate, "B03,H12")
    image = write_zarr(tmp_path / "image.zarr", np.zeros((9, 8), np.uint8))
    with pytest.raises(DataError, match=r"image\.zarr: is no OME-Zarr plate; name the folder that has the wells"):
        plate_fields(image)
    with pytest.raises(DataError, match=r"Platte 7\.zarr: is a plate, not an image; name its wells"):
        read_image(plate)
    assert [is_plate(path) for path in (plate, image, tmp_path, tmp_path / "x")] == [True, False, False, False]


def test_a_well_that_is_not_there_or_leads_out_of_the_plate(plate):
    well = plate / "B" / "10"
    for file in ("zarr.json", ".zattrs"):
        (well / file).unlink(missing_ok=True)
    with pytest.raises(DataError, match="10: is no OME-Zarr group"):
        plate_fields(plate)
    file = next(f for f in (plate / "zarr.json", plate / ".zattrs") if f.is_file())
    file.write_text(file.read_text().replace("B/03", "../../B"))
    with pytest.raises(DataError, match=r"the metadata name '../../B', which is not in the folder"):
        plate_fields(plate)
    file.write_text("{")
    with pytest.raises(DataError, match=r"cannot be read as \.zarr \(JSONDecodeError"):
        plate_fields(plate)
