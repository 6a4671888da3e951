import logging
import struct

import numpy as np
import pytest
import tifffile

from biounet.errors import DataError
from biounet.images.formats import read_header, read_image
from biounet.images.regions import open_regions

STACK = np.random.default_rng(1).integers(0, 256, (6, 30, 33), np.uint8)
RGB = np.random.default_rng(2).integers(0, 256, (30, 33, 3), np.uint8)

KINDS = {
    "plain": (STACK[0], {}),
    "pages": (STACK, {"metadata": None}),
    "compressed pages": (STACK, {"metadata": None, "compression": "zlib"}),
    "shaped": (STACK, {"compression": "lzw"}),
    "imagej": (STACK, {"imagej": True}),
    "compressed imagej": (STACK, {"imagej": True, "compression": "zlib"}),
    "ome": (STACK, {"ome": True}),
    "big and tiled": (STACK, {"bigtiff": True, "tile": (16, 16), "compression": "zstd"}),
    "jpeg": (RGB, {"compression": "jpeg", "photometric": "rgb"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_short_is_refused_or_complete(tmp_path, kind):
    """At whatever byte it ends: one line, or, where only a tail without pixels is lost, the same pixels."""
    array, options = KINDS[kind]
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, array, **options)
    whole, data = read_image(path).array, path.read_bytes()
    refusals = []
    for length in {1, 7, 9, 60, *range(100, len(data), len(data) // 12), len(data) - 1}:
        path.write_bytes(data[:length])
        try:
            assert np.array_equal(read_image(path).array, whole)
        except DataError as error:
            refusals.append(str(error))
    assert len(refusals) >= 10
    assert all(text.startswith(str(path)) and "\n" not in text for text in refusals)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_not_reported_twice(tmp_path, kind, caplog):
    """What the reading library logs becomes the error; no handler of it stays behind."""
    array, options = KINDS[kind]
    tifffile.imwrite(tmp_path / "x.tif", array, **options)
    before = list(logging.getLogger("tifffile").handlers)
    read_image(tmp_path / "x.tif")
    assert logging.getLogger("tifffile").handlers == before
    assert not caplog.records


def test_a_tiny_file_that_claims_a_trillion_pixels_is_refused(tmp_path):
    entries = [(256, 4, 10**6), (257, 4, 10**6), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8)]
    entries += [(277, 3, 1), (278, 4, 10**6), (279, 4, 90)]
    data = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    data += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries) + bytes(4)
    (tmp_path / "x.tif").write_bytes(data)
    assert len(data) < 130
    for reader in (read_header, read_image):
        with pytest.raises(DataError, match=r"x\.tif: (the TIFF is truncated|declares 10{12} bytes)"):
            reader(tmp_path / "x.tif")


@pytest.mark.parametrize("compression", [8, 5, 50000])
def test_compressed_claims_are_weighed_too(tmp_path, compression):
    tifffile.imwrite(tmp_path / "x.tif", STACK[0], compression=compression)
    with tifffile.TiffFile(tmp_path / "x.tif", mode="r+") as tif:
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tif.pages[0].tags[name].overwrite(10**6)
        tif.pages[0].tags["ImageDescription"].overwrite("")
    with pytest.raises(DataError, match="declares 10{12} bytes of pixels"):
        read_image(tmp_path / "x.tif")


def test_large_flat_masks_are_not_mistaken_for_bombs(tmp_path):
    mask = np.zeros((9000, 9000), np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", mask, compression="zstd")
    assert (tmp_path / "x.tif").stat().st_size < 20_000
    assert read_header(tmp_path / "x.tif").shape == (9000, 9000)


@pytest.mark.parametrize(
    ("shape", "options", "axes"),
    [
        ((5, 20, 22), {"metadata": None}, "IYX"),
        ((5, 20, 22), {}, "IYX"),
        ((5, 20, 22), {"imagej": True, "metadata": {"axes": "TYX"}}, "TYX"),
        ((5, 20, 22), {"imagej": True, "metadata": {"axes": "ZYX"}}, "ZYX"),
        ((2, 5, 3, 20, 22), {"imagej": True, "metadata": {"axes": "TZCYX"}}, "TCZYX"),
        ((3, 5, 20, 22), {"ome": True, "metadata": {"axes": "CZYX"}}, "CZYX"),
        ((20, 22, 3), {"photometric": "rgb"}, "CYX"),
        ((5, 20, 22, 3), {"photometric": "rgb"}, "ICYX"),
        ((5, 20, 22), {"metadata": {"axes": "RYX"}}, "IYX"),
    ],
)
def test_axes(tmp_path, shape, options, axes):
    array = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    if "rgb" in str(options):
        array = array.astype(np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", array, **options)
    image = read_image(tmp_path / "x.tif")
    assert image.axes == axes
    assert image.array.shape[-2:] == (20, 22)
    assert sorted(image.array.ravel()) == sorted(array.ravel())


def test_axes_that_cannot_be_told_apart_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((2, 5, 20, 22), np.uint8))
    with pytest.raises(DataError, match="axes QQYX of shape .* save the image with its axes"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m", "nm"])
def test_pixel_size_of_imagej(tmp_path, unit):
    factor = 1e-3 if unit == "nm" else 1
    tifffile.imwrite(
        tmp_path / "x.tif",
        np.zeros((5, 20, 22), np.uint8),
        imagej=True,
        resolution=(4, 2),
        metadata={"axes": "ZYX", "spacing": 3.0, "unit": unit},
    )
    assert read_image(tmp_path / "x.tif").pixel_size_um == pytest.approx((3 * factor, 0.5 * factor, 0.25 * factor))


def test_pixel_size_of_ome_and_of_plain_tags(tmp_path):
    sizes = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 200, "PhysicalSizeYUnit": "nm"}
    tifffile.imwrite(tmp_path / "o.ome.tif", STACK[0], ome=True, metadata={"axes": "YX"} | sizes)
    assert read_image(tmp_path / "o.ome.tif").pixel_size_um == pytest.approx((0.2, 0.1))
    tifffile.imwrite(tmp_path / "c.tif", STACK[0], resolution=(20000, 10000), resolutionunit="CENTIMETER")
    assert read_image(tmp_path / "c.tif").pixel_size_um == pytest.approx((1.0, 0.5))
    tifffile.imwrite(tmp_path / "i.tif", STACK[0], resolution=(72, 72), resolutionunit="INCH")
    assert read_image(tmp_path / "i.tif").pixel_size_um is None


def test_what_imagej_leaves_out_of_a_voxel_size(tmp_path):
    def size(**metadata):
        metadata = {"axes": "ZYX", "unit": "um"} | metadata
        tifffile.imwrite(tmp_path / "x.tif", STACK, imagej=True, resolution=(5, 4), metadata=metadata)
        return read_image(tmp_path / "x.tif").pixel_size_um

    assert size() == (1, 0.25, 0.2)  # a distance of 1 is not written
    assert size(spacing=3) == (3, 0.25, 0.2)
    assert size(spacing=0.002, zunit="mm") == (2, 0.25, 0.2)


def test_ome_attributes_are_read_as_xml(tmp_path):
    def quoted(text):
        for at in "XY":
            text = text.replace("<Pixels ", f"<Pixels PhysicalSize{at}='0.5' PhysicalSize{at}Unit=\"&#181;m\" ", 1)
        return text.replace('SizeZ="2"', 'SizeZ="1"')

    ome_with(tmp_path / "x.ome.tif", quoted)
    assert read_image(tmp_path / "x.ome.tif").pixel_size_um == (0.5, 0.5)


def test_transparency_is_marked(tmp_path):
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    tifffile.imwrite(tmp_path / "x.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    assert read_image(tmp_path / "x.tif").alpha
    tifffile.imwrite(tmp_path / "y.tif", RGB, photometric="rgb")
    assert not read_image(tmp_path / "y.tif").alpha


def test_other_images_in_the_file_are_said(tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
        writer.write(STACK[0])
        writer.write(RGB[:9, :8, 0])
    image = read_image(tmp_path / "x.tif")
    assert np.array_equal(image.array, STACK[0])
    assert image.notes == ("only the first of 2 images in the file is used (others: 9x8)",)


def ome_with(path, changed):
    tifffile.imwrite(path, STACK[0], ome=True, metadata={"axes": "YX"})
    with tifffile.TiffFile(path, mode="r+") as tif:
        description = tif.pages[0].tags["ImageDescription"]
        description.overwrite(changed(description.value.replace('SizeZ="1"', 'SizeZ="2"')))


def test_an_ome_image_in_several_files_stays_in_its_own_file(tmp_path):
    """No file is opened because another one names it."""
    part = '<TiffData FirstZ="1" PlaneCount="1"><UUID FileName="y.ome.tif">urn:uuid:1</UUID></TiffData></Pixels>'
    ome_with(tmp_path / "x.ome.tif", lambda text: text.replace("</Pixels>", part))
    tifffile.imwrite(tmp_path / "y.ome.tif", STACK[1], ome=True, metadata={"axes": "YX"})
    image = read_image(tmp_path / "x.ome.tif")
    assert np.array_equal(image.array, STACK[0])
    assert image.notes == ("part of an OME image in several files: the pages in this file, without their axes",)


def test_a_file_that_holds_one_of_several_ome_images_whole_has_its_axes(tmp_path, rng):
    pixels = rng.integers(0, 999, (2, 3, 2, 20, 24), np.uint16)  # two positions of ZCYX
    images = "".join(
        f'<Image ID="Image:{at}" Name="Pos{at}"><Pixels ID="Pixels:{at}" Type="uint16" DimensionOrder="XYCZT" '
        f'SizeX="24" SizeY="20" SizeZ="3" SizeC="2" SizeT="1" PhysicalSizeX="0.{at + 1}" PhysicalSizeY="0.{at + 1}">'
        f'<Channel ID="Channel:{at}:0" Name="DAPI"/><Channel ID="Channel:{at}:1" Name="GFP"/>'
        + "".join(
            f'<TiffData IFD="{2 * z + c}" FirstC="{c}" FirstZ="{z}" FirstT="0" PlaneCount="1">'
            f'<UUID FileName="pos{at}.ome.tif">urn:uuid:{at}</UUID></TiffData>'
            for z in range(3)
            for c in range(2)
        )
        + "</Pixels></Image>"
        for at in range(2)
    )
    schema = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    for at in (0, 1):
        xml = f'<?xml version="1.0"?><OME {schema} UUID="urn:uuid:0">{images}</OME>'
        pages = pixels[at].reshape(-1, 20, 24)
        tifffile.imwrite(tmp_path / f"pos{at}.ome.tif", pages, description=xml, metadata=None, photometric="minisblack")
    (tmp_path / "pos0.ome.tif").unlink()  # the other file is not needed
    image = read_image(tmp_path / "pos1.ome.tif")
    assert image.axes == "CZYX"
    assert np.array_equal(image.array, pixels[1].transpose(1, 0, 2, 3))
    assert image.channel_names == ("DAPI", "GFP")
    assert image.pixel_size_um == (0.2, 0.2)  # of YX: Z is not stated
    with open_regions(tmp_path / "pos1.ome.tif") as regions:
        assert np.array_equal(regions.read(0, (0, 0, 0), (3, 20, 24), ndim=3), image.array)


def test_ome_pages_that_are_not_there_are_refused(tmp_path):
    ome_with(tmp_path / "x.ome.tif", lambda text: text)
    with pytest.raises(DataError, match="pages that the OME metadata lists are not there"):
        read_image(tmp_path / "x.ome.tif")


def write_lsm(path, pixels):
    """As Zeiss' LSM software: CZYX, a page of separate channels for each plane, each with a thumbnail."""
    channels, planes, height, width = pixels.shape
    sizes = struct.pack("<I9i", 0x0400494C, 500, width, height, planes, channels, 1, 2, 8, 8)
    info = sizes + struct.pack("<3d3d2H", 0.1e-6, 0.2e-6, 0.5e-6, 0, 0, 0, 0, 0)  # metres
    options = {"photometric": "minisblack", "planarconfig": "separate", "metadata": None}
    with tifffile.TiffWriter(path, byteorder="<") as file:
        for z in range(planes):
            tags = [(34412, 1, 500, info.ljust(500, b"\0"), True)] if z == 0 else []
            file.write(pixels[:, z], extratags=tags, **options)
            file.write(pixels[:, z, ::8, ::8], subfiletype=1, **options)


def test_lsm(tmp_path, rng):
    pixels = rng.integers(0, 4000, (3, 4, 40, 56), np.uint16)
    path = tmp_path / "a.lsm"
    write_lsm(path, pixels)
    image = read_image(path)
    assert image.axes == "CZYX"
    assert image.pixel_size_um == pytest.approx((0.5, 0.2, 0.1))
    assert (image.array == pixels).all()
    with open_regions(path) as regions:
        assert not regions.whole
        assert (regions.read(2, (5, 7), (30, 50), ndim=2) == pixels[:, 2, 5:30, 7:50]).all()


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_channels_behind_the_pixels_are_not_taken_for_pages(tmp_path, suffix):
    """They would be images of two columns, one for each row."""
    stack = np.zeros((40, 30, 2), np.uint16)
    path = tmp_path / f"a{suffix}"
    save = np.save if suffix == ".npy" else tifffile.imwrite
    save(path, stack)
    with pytest.raises(DataError, match="40 x 30 x 2 values without names of axes, and the last seems to be channels"):
        read_header(path)
    save(path, stack.transpose(2, 0, 1))
    assert read_header(path).axes == "IYX"
