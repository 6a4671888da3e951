"""With a region: labels inside are those of the whole image, tiles outside are left out."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from biounet.errors import DataError, UsageError
from biounet.images.regions import open_regions
from biounet.labels.components import relabel_by_first_pixel
from biounet.prediction import blocks
from biounet.prediction.large import folder_of
from biounet.prediction.region import Region, open_region
from biounet.results.request import Request

SHAPE = (96, 110)


@pytest.fixture
def image(tmp_path, image_of):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image_of(SHAPE))
    return path


@pytest.fixture
def computed(monkeypatch):
    """First pixels of all windows that are computed for tiles."""
    found, keep = [], blocks.Job._keep

    def counted(self, key, start, stop, probabilities):
        found.append(start)
        keep(self, key, start, stop, probabilities)

    monkeypatch.setattr(blocks.Job, "_keep", counted)
    return found


def labels_in(folder, kind="labels"):
    return tifffile.imread(folder / f"a_{kind}.tif").astype(np.int32)


def mask_file(tmp_path, mask):
    tifffile.imwrite(tmp_path / "mask.tif", mask.astype(np.uint8) * 255)
    return str(tmp_path / "mask.tif")


def polygon(path, *corners, properties=None):
    ring = [[x, y] for y, x in (*corners, corners[0])]
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties or {}}


def random_mask(seed, shape=SHAPE, size=4):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random(shape), size)
    mask = smooth > np.quantile(smooth, rng.choice([0.7, 0.9, 0.98]))
    corner = np.zeros(shape, bool)
    corner[tuple(slice(0, n * 2 // 3) for n in shape)] = True
    return mask & corner


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_labels_inside_are_those_without_a_region(model, image, tmp_path, by_blocks, computed, seed, split):
    """For random networks, regions and tiles, whatever holes, lines and objects cross the region's edge."""
    made = model()
    settings = made.postprocessing | {"fill_holes_px": 9 * (seed % 2), "give_back_px": seed % 3, "smallest_px": 25}
    made = replace(made, postprocessing=settings if split else settings | {"split": None})
    mask = random_mask(seed)
    tile = (8, 12, 16, 20)[seed]
    save = ("labels", "probabilities")
    by_blocks(made, image, Request(tmp_path / "whole", save=save, tile=tile))
    tiles = len(computed)
    computed.clear()
    request = Request(tmp_path / "part", save=save, tile=tile, region=mask_file(tmp_path, mask))
    done, lines = by_blocks(made, image, request)
    expected = relabel_by_first_pixel(np.where(mask, labels_in(tmp_path / "whole"), 0))
    assert np.array_equal(labels_in(request.out), expected)
    assert done.objects == expected.max() > 1
    assert len(set(computed)) == len(computed) < tiles
    assert any("tiles come near the region" in line for line in lines)
    assert not folder_of(request.out, "a").exists()
    whole, part = (tifffile.imread(tmp_path / name / "a_probabilities.tif") for name in ("whole", "part"))
    assert np.array_equal(part, whole * mask)


def test_an_object_is_followed_out_of_the_region(model, image, tmp_path, by_blocks, computed):
    """Without that its two ends would be two objects: most pixels are cells here, in pieces that wind."""
    made = replace(model(), postprocessing={"threshold": 0.35, "smallest_px": 3})
    by_blocks(made, image, Request(tmp_path / "whole", save=("labels",), tile=12))
    whole, tiles = labels_in(tmp_path / "whole"), len(computed)
    computed.clear()
    mask = np.zeros(SHAPE, bool)
    mask[40:44] = True
    request = Request(tmp_path / "part", save=("labels",), tile=12, region=mask_file(tmp_path, mask))
    _, lines = by_blocks(made, image, request)
    assert np.array_equal(labels_in(request.out), relabel_by_first_pixel(np.where(mask, whole, 0)))
    assert any("go on into" in line for line in lines)
    assert len(computed) <= tiles


def test_class_models_and_cell_classes(model, image, tmp_path, by_blocks, computed):
    mask = random_mask(1)
    for task, classes in (("classes", 3), ("instances", 3)):
        made = model(task, classes)
        plain = Request(tmp_path / f"whole {task}", save=("labels",), tile=12)
        by_blocks(made, image, plain)
        request = replace(plain, out=tmp_path / f"part {task}", region=mask_file(tmp_path, mask))
        by_blocks(made, image, request)
        whole = labels_in(plain.out)
        expected = np.where(mask, whole, 0)
        if task == "instances":
            expected = relabel_by_first_pixel(expected)
            assert np.array_equal(labels_in(request.out, "classes"), labels_in(plain.out, "classes") * mask)
        assert np.array_equal(labels_in(request.out), expected)
        assert expected.any()


def test_volumes_and_stacks(model, tmp_path, by_blocks, image_of):
    made = model(ndim=3, depth=1)
    tifffile.imwrite(tmp_path / "a.tif", image_of((9, 25, 30)), imagej=True, metadata={"axes": "ZYX"})
    mask = np.zeros((9, 25, 30), bool)
    mask[2:5, 3:12, 4:14] = True
    request = Request(tmp_path / "part", save=("labels",), tile=8, region=None)
    by_blocks(made, tmp_path / "a.tif", replace(request, out=tmp_path / "whole"))
    tifffile.imwrite(tmp_path / "mask.tif", mask.astype(np.uint8), imagej=True, metadata={"axes": "ZYX"})
    by_blocks(made, tmp_path / "a.tif", replace(request, region=str(tmp_path / "mask.tif")))
    expected = relabel_by_first_pixel(np.where(mask, labels_in(tmp_path / "whole"), 0))
    assert np.array_equal(labels_in(request.out), expected)
    flat = model()
    by_blocks(flat, tmp_path / "a.tif", replace(request, out=tmp_path / "planes"))
    by_blocks(flat, tmp_path / "a.tif", replace(request, region=str(tmp_path / "mask.tif")))
    for plane, own, found in zip(mask, labels_in(tmp_path / "planes"), labels_in(request.out), strict=True):
        assert np.array_equal(found, relabel_by_first_pixel(np.where(plane, own, 0)))


def test_outlines_of_qupath(model, image, tmp_path, by_blocks):
    """Pixels whose centre lies inside; what is to be ignored is cut out."""
    features = [
        polygon("a", (10, 20), (10, 50), (60, 50), (60, 20)),
        polygon("b", (30, 30), (30, 40), (45, 40), (45, 30), properties={"classification": {"name": "Ignore*"}}),
        polygon("c", (80.6, 90), (80.6, 200), (86, 200), (86, 90)),
    ]
    path = tmp_path / "region.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    mask = np.zeros(SHAPE, bool)
    mask[10:60, 20:50] = True
    mask[30:45, 30:40] = False
    mask[81:86, 90:] = True
    with open_regions(image) as regions:
        region = open_region(str(path), regions, 2)
        for start, stop in (((0, 0), SHAPE), ((25, 33), (84, 99))):
            part = mask[tuple(map(slice, start, stop))]
            assert np.array_equal(region.inside(0, start, stop), part)
            for by in (0, 1, 5):
                wide = ndimage.binary_dilation(mask, np.ones((2 * by + 1,) * 2))[tuple(map(slice, start, stop))]
                assert np.array_equal(region.near(0, SHAPE, start, stop, by=by, covered=SHAPE), wide)
    request = Request(tmp_path / "part", save=("labels",), tile=20, region=str(path))
    by_blocks(model(), image, request)
    by_blocks(model(), image, replace(request, out=tmp_path / "whole", region=None))
    assert np.array_equal(
        labels_in(request.out), relabel_by_first_pixel(np.where(mask, labels_in(tmp_path / "whole"), 0))
    )


@pytest.mark.parametrize("by", [0, 2])
def test_near_a_region_are_all_pixels_that_stand_for_one_of_it(tmp_path, by):
    """Of a level that was rounded down: 103 pixels by 25, the last of which stands for 7 of them."""
    for place in range(103):
        region = Region("", (103,), (103,), (1,), lambda item, a, e, at=place: np.arange(a[0], e[0]) == at)
        near = region.near(0, (25,), (0,), (25,), by=by, covered=(100,))
        own = min(place // 4, 24)
        assert np.flatnonzero(near).tolist() == list(range(max(0, own - by), min(25, own + by + 1)))


@pytest.mark.parametrize("factor", [2, 5])
def test_a_smaller_mask_and_another_pixel_size(model, tmp_path, by_blocks, factor, image_of):
    made = replace(model(), pixel_size_um=(0.5, 0.5))
    tifffile.imwrite(tmp_path / "a.tif", image_of(SHAPE))
    small = random_mask(7, tuple(-(-n // factor) for n in SHAPE), size=2)
    mask = small.repeat(factor, 0).repeat(factor, 1)[: SHAPE[0], : SHAPE[1]]
    request = Request(
        tmp_path / "part", save=("labels",), tile=12, region=mask_file(tmp_path, small), pixel_size_um=(0.4,)
    )
    by_blocks(made, tmp_path / "a.tif", request)
    by_blocks(made, tmp_path / "a.tif", replace(request, out=tmp_path / "whole", region=None))
    whole = labels_in(tmp_path / "whole")
    assert np.array_equal(labels_in(request.out), relabel_by_first_pixel(np.where(mask, whole, 0)))


@pytest.mark.parametrize("kind", ["brightfield", "fluorescence"])
def test_tissue_is_found_in_the_image_alone(model, tmp_path, by_blocks, computed, kind):
    """One island of texture: it is kept whole, most of the empty image is not computed."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 3, (200, 240, 3))
    island = np.zeros((200, 240), bool)
    island[60:120, 40:110] = True
    if kind == "brightfield":
        pixels = np.where(island[..., None], [170, 90, 150], [238, 238, 238]) + noise
    else:
        pixels = (np.where(island, 90, 12) + 20 * island * rng.random(island.shape))[..., None] + noise[..., :1]
    tifffile.imwrite(tmp_path / "a.tif", np.clip(pixels, 0, 255).astype(np.uint8).squeeze())
    with open_regions(tmp_path / "a.tif") as regions:
        region = open_region("auto", regions, 2)
        inside = region.inside(0, (0, 0), island.shape)
    assert inside[island].all()
    assert inside.mean() < 1.3 * island.mean()
    assert f"{100 * inside.mean():.0f} % of the image" in region.notes[0]
    made = model("classes", in_channels=1 + 2 * (kind == "brightfield"))
    request = Request(tmp_path / "part", save=("labels",), tile=20, region="auto")
    done, _ = by_blocks(made, tmp_path / "a.tif", request)
    assert len(computed) < int(done.plan.split()[0])
    assert "a_region.tif" in done.files
    assert np.array_equal(tifffile.imread(request.out / "a_region.tif") > 0, inside)
    again = replace(request, out=tmp_path / "again", region=str(request.out / "a_region.tif"))
    by_blocks(made, tmp_path / "a.tif", again)
    assert np.array_equal(labels_in(again.out), labels_in(request.out))


def test_tissue_of_a_pyramid_and_of_an_image_without_contrast(tmp_path):
    pixels = np.zeros((2100, 1300), np.uint8)
    pixels[300:1500, 200:700] = 200
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(pixels, subifds=1, tile=(256, 256))
        tif.write(pixels[::2, ::2], subfiletype=1, tile=(256, 256))
    with open_regions(tmp_path / "a.ome.tif") as regions:
        region = open_region("auto", regions, 2)
    assert region.factors == (4, 4)
    inside = region.inside(0, (0, 0), pixels.shape)
    assert inside[pixels > 0].all()
    assert inside.sum() < 1.1 * (pixels > 0).sum()
    tifffile.imwrite(tmp_path / "b.tif", np.full((30, 40), 7, np.uint8))
    with open_regions(tmp_path / "b.tif") as regions:
        assert open_region("auto", regions, 2).inside(0, (0, 0), (30, 40)).all()


def test_shards_of_a_region_and_another_region(model, image, tmp_path, by_blocks, computed):
    mask = random_mask(2)
    request = Request(tmp_path / "part", save=("labels",), tile=12, region=mask_file(tmp_path, mask))
    made = model()
    by_blocks(made, image, replace(request, out=tmp_path / "one"))
    tiles = len(computed)
    computed.clear()
    for number in (1, 2):
        by_blocks(made, image, replace(request, shard=(number, 2)))
    by_blocks(made, image, replace(request, merge=True))
    assert len(computed) == tiles
    assert np.array_equal(labels_in(request.out), labels_in(tmp_path / "one"))
    by_blocks(made, image, replace(request, shard=(1, 1)))
    mask_file(tmp_path, ~mask)
    with pytest.raises(UsageError, match="its tiles were made with another --region;"):
        by_blocks(made, image, replace(request, shard=(1, 1)))
    _, lines = by_blocks(made, image, request)
    assert not any("already" in line for line in lines)


def test_regions_that_cannot_be_used(model, image, tmp_path, by_blocks):
    made, request = model(), Request(tmp_path / "o", save=("labels",), tile=20)

    def refused(region, error, match):
        with pytest.raises(error, match=match):
            by_blocks(made, image, replace(request, region=region))
        assert not folder_of(request.out, "a").exists()

    refused(mask_file(tmp_path, np.zeros(SHAPE)), DataError, r"mask\.tif: has no pixel in .*a\.tif; is it drawn on")
    refused(mask_file(tmp_path, np.ones((50, 50))), DataError, "a mask of 1x50x50 for an image of 1x96x110")
    refused(str(tmp_path / "no.tif"), UsageError, "there is no such file; name a mask image or a .geojson, or write")
    (tmp_path / "x.txt").write_text("x")
    refused(str(tmp_path / "x.txt"), UsageError, "of no kind known here")
    path = tmp_path / "r.geojson"
    path.write_text(json.dumps(polygon("a", (500, 500), (500, 600), (600, 600))))
    refused(str(path), DataError, "has no pixel in")
    path.write_text("{")
    refused(str(path), DataError, "not GeoJSON as QuPath writes it")
