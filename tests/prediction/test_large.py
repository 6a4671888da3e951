"""Block by block: the same files as through memory, whatever the tile, the process and the interruption."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import roifile
import tifffile

from biounet.errors import DataError, UsageError
from biounet.inference.engines import make_engine
from biounet.inference.memory import Budget, process_bytes
from biounet.labels import pieces
from biounet.labels.components import components
from biounet.prediction import blocks
from biounet.prediction.large import folder_of
from biounet.prediction.predict import predict_files
from biounet.results.request import Request, parse_pixel_size, parse_shard


def through_memory(model, path, request):
    (done,) = predict_files(model, make_engine(model, engine="torch", device="cpu"), [path], request)
    return done


def files_of(folder):
    """Bytes of all results by name; of TIFFs only pixels and axes, since OME-TIFFs have an identifier of their own."""
    return {
        path.name: content(path) for path in sorted(folder.iterdir()) if path.name not in ("run.json", "report.html")
    }


def content(path):
    if path.suffix != ".tif":
        return path.read_bytes()
    with tifffile.TiffFile(path) as tif:
        return tif.series[0].axes, tif.asarray().dtype, tif.asarray().tobytes()


@pytest.mark.parametrize("task", ["instances", "classes"])
@pytest.mark.parametrize(("shape", "tile"), [((75, 90), 20), ((75, 90), 33), ((2, 40, 50), 24), ((3, 5), 20)])
def test_files_are_those_of_the_way_through_memory(model, tmp_path, task, shape, tile, image_of, by_blocks):
    tifffile.imwrite(tmp_path / "a.tif", image_of(shape), imagej=True, metadata={"axes": "TYX"[-len(shape) :]})
    save = ("labels", "probabilities", "overlay", "table", "geojson")
    made = model(task)
    whole = through_memory(made, tmp_path / "a.tif", Request(tmp_path / "whole", save=save, tile=tile))
    done, lines = by_blocks(made, tmp_path / "a.tif", Request(tmp_path / "parts", save=save, tile=tile))
    parts = files_of(tmp_path / "parts")
    (tmp_path / "whole" / "objects.csv").unlink()  # of all inputs, written by predict_files
    assert parts == files_of(tmp_path / "whole")
    assert len(parts) == 5
    assert (done.objects, done.shape, done.plan, done.files) == (whole.objects, whole.shape, whole.plan, whole.files)
    assert not folder_of(tmp_path / "parts", "a").exists()
    if max(shape) > tile:
        assert "labels changed" in lines[-1]
        assert done.seams["labels_changed"] == 0
        assert done.seams["largest_difference"] < 1e-5
    if task == "instances" and min(shape) > 9:
        assert done.objects > 2


def test_tables_and_rois_of_a_stack_name_its_planes(model, tmp_path, image_of, by_blocks):
    stack = image_of((2, 3, 40, 50))
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "TZYX", "unit": "um"}, resolution=(4, 4))
    made, save = model(), ("table", "rois", "geojson")
    through_memory(made, tmp_path / "a.tif", Request(tmp_path / "whole", save=save))
    by_blocks(made, tmp_path / "a.tif", Request(tmp_path / "parts", save=save))
    for name in ("a_objects.csv", "a.geojson"):
        assert (tmp_path / "parts" / name).read_text() == (tmp_path / "whole" / name).read_text()
    one, two = (roifile.roiread(tmp_path / folder / "a_rois.zip") for folder in ("whole", "parts"))
    assert [roi.tobytes() for roi in one] == [roi.tobytes() for roi in two]
    rows = list(csv.DictReader((tmp_path / "parts" / "a_objects.csv").read_text().splitlines()))
    assert {(row["t"], row["z"]) for row in rows} == {(t, z) for t in "01" for z in "012"}


def test_rois_and_intensities_of_one_channel_of_a_stack_with_several(model, tmp_path, image_of, by_blocks):
    tifffile.imwrite(tmp_path / "a.tif", image_of((3, 2, 40, 50)), imagej=True, metadata={"axes": "ZCYX"})
    made, options = model(), {"save": ("rois", "table"), "channels": ("1",)}
    through_memory(made, tmp_path / "a.tif", Request(tmp_path / "whole", **options))
    by_blocks(made, tmp_path / "a.tif", Request(tmp_path / "parts", **options))
    for folder in ("whole", "parts"):
        rois = roifile.roiread(tmp_path / folder / "a_rois.zip")
        assert {(roi.position, roi.z_position, roi.t_position) for roi in rois} == {(0, z, 1) for z in (1, 2, 3)}
    one, two = ((tmp_path / folder / "a_objects.csv").read_text() for folder in ("whole", "parts"))
    assert one == two


@pytest.mark.parametrize("stated", [None, 0.25])
def test_tables_have_the_pixel_size_that_is_given(model, tmp_path, image_of, by_blocks, stated):
    options = {} if stated is None else {"imagej": True, "resolution": (1 / stated,) * 2, "metadata": {"unit": "um"}}
    tifffile.imwrite(tmp_path / "a.tif", image_of((40, 50)), **options)
    made = replace(model(), pixel_size_um=(0.5, 0.5))
    by_blocks(made, tmp_path / "a.tif", Request(tmp_path / "o", save=("table",), pixel_size_um=(0.5,)))
    rows = list(csv.DictReader((tmp_path / "o" / "a_objects.csv").read_text().splitlines()))
    assert len(rows) > 1
    for row in rows:
        assert float(row["area_um2"]) == pytest.approx(0.25 * float(row["area_px2"]))


def test_several_cell_classes(model, tmp_path, image_of, by_blocks):
    tifffile.imwrite(tmp_path / "a.tif", image_of((60, 70)))
    made = model(classes=3)
    for save in (("labels",), ("labels", "probabilities")):
        through_memory(made, tmp_path / "a.tif", Request(tmp_path / "whole", save=save, tile=20))
        by_blocks(made, tmp_path / "a.tif", Request(tmp_path / "parts", save=save, tile=20))
        assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")
    classes = tifffile.imread(tmp_path / "parts" / "a_classes.tif")
    assert len(np.unique(classes)) > 1


def test_three_dimensions(model, tmp_path, image_of, by_blocks):
    tifffile.imwrite(tmp_path / "a.tif", image_of((9, 21, 30)), imagej=True, metadata={"axes": "ZYX"})
    made = model(ndim=3)
    through_memory(made, tmp_path / "a.tif", Request(tmp_path / "whole", tile=8))
    by_blocks(made, tmp_path / "a.tif", Request(tmp_path / "parts", tile=8))
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


class KilledError(BaseException):
    pass


def test_interrupted_it_goes_on_where_it_was(model, tmp_path, monkeypatch, image_of, by_blocks):
    tifffile.imwrite(tmp_path / "a.tif", image_of((75, 90)))
    request = Request(tmp_path / "parts", tile=20)
    made = model()
    through_memory(made, tmp_path / "a.tif", replace(request, out=tmp_path / "whole"))
    computed = []
    predict_window = blocks.predict_window

    def counted(engine, source, start, stop, **options):
        if len(computed) in (3, 9):
            computed.append("killed")
            raise KilledError
        computed.append(tuple(start))
        return predict_window(engine, source, start, stop, **options)

    monkeypatch.setattr(blocks, "predict_window", counted)
    for _ in range(2):
        with pytest.raises(KilledError):
            by_blocks(made, tmp_path / "a.tif", request)
        assert [path.name for path in request.out.iterdir()] == [".a.blocks"]  # no result before it is complete
    done, lines = by_blocks(made, tmp_path / "a.tif", replace(request, memory=1))
    tiles = [start for start in computed if start != "killed"]
    expected = int(done.plan.split()[0])
    tiles = tiles[: len(tiles) - done.seams["windows"]]
    assert len(set(tiles)) == expected
    assert len(tiles) <= expected + 2 * 3  # what waited to be written when it was killed
    assert any("tiles are there already" in line for line in lines)
    assert files_of(request.out) == files_of(tmp_path / "whole")


@pytest.mark.parametrize(("second", "blocks_done"), [(40, 3), (27, 1), (27, 4), (20, 6)])
def test_interrupted_while_objects_were_joined_it_goes_on_with_blocks_of_another_size(
    model, tmp_path, monkeypatch, image_of, by_blocks, second, blocks_done
):
    """As a rerun with another memory limit has them; the blocks of before serve only where the size is the same."""
    tifffile.imwrite(tmp_path / "a.tif", image_of((95, 110)))
    made, request = model(), Request(tmp_path / "parts", tile=40)
    through_memory(made, tmp_path / "a.tif", replace(request, out=tmp_path / "whole"))
    labelled, calls = pieces._labelled, []

    def counted(*arguments):
        if len(calls) == blocks_done:
            raise KilledError
        calls.append(arguments)
        return labelled(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Budget, "block", lambda *_: 40)
        patch.setattr(pieces, "_labelled", counted)
        with pytest.raises(KilledError):
            by_blocks(made, tmp_path / "a.tif", request)
    assert folder_of(request.out, "a").exists()
    monkeypatch.setattr(Budget, "block", lambda *_: second)
    by_blocks(made, tmp_path / "a.tif", request)
    assert files_of(request.out) == files_of(tmp_path / "whole")


def test_blocks_of_another_model_or_image_are_not_used(model, tmp_path, monkeypatch, image_of, by_blocks):
    tifffile.imwrite(tmp_path / "a.tif", image_of((40, 50)))
    request = Request(tmp_path / "parts", tile=20)
    shard = replace(request, shard=(1, 1))
    made, other = model(), replace(model(), sha256="1" * 64)
    by_blocks(made, tmp_path / "a.tif", shard)
    _, lines = by_blocks(made, tmp_path / "a.tif", shard)
    assert any("6 of 6 tiles are there already" in line for line in lines)
    _, lines = by_blocks(other, tmp_path / "a.tif", request)
    assert not any("already" in line for line in lines)
    by_blocks(made, tmp_path / "a.tif", shard)
    tifffile.imwrite(tmp_path / "a.tif", image_of((40, 50), seed=1)[:, ::-1])
    _, lines = by_blocks(made, tmp_path / "a.tif", request)
    assert not any("already" in line for line in lines)


def test_models_that_come_from_no_file_are_told_apart_by_their_weights(model, tmp_path, image_of, by_blocks):
    tifffile.imwrite(tmp_path / "a.tif", image_of((40, 50)))
    request = Request(tmp_path / "parts", tile=20)
    made = replace(model(), sha256="")
    other = replace(made, weights={name: -value for name, value in made.weights.items()})
    by_blocks(made, tmp_path / "a.tif", replace(request, shard=(1, 1)))
    with pytest.raises(UsageError, match="another model;"):
        by_blocks(other, tmp_path / "a.tif", replace(request, merge=True))
    _, lines = by_blocks(made, tmp_path / "a.tif", replace(request, shard=(1, 1)))
    assert any("6 of 6 tiles are there already" in line for line in lines)
    _, lines = by_blocks(other, tmp_path / "a.tif", request)
    assert not any("already" in line for line in lines)


def test_shards_and_a_merge_leave_the_work_of_others_alone(model, tmp_path, image_of, by_blocks):
    tifffile.imwrite(tmp_path / "a.tif", image_of((40, 50)))
    made, request = model(), Request(tmp_path / "parts", tile=20)
    by_blocks(made, tmp_path / "a.tif", replace(request, shard=(1, 2)))
    by_blocks(made, tmp_path / "a.tif", replace(request, shard=(2, 2)))
    kept = folder_of(request.out, "a")
    before = {path.name: path.read_bytes() for path in kept.rglob("*") if path.is_file()}
    for changed, said in [
        ({"tile": None}, r"another --tile 20 \(now by itself\); all shards and the merge take the same"),
        ({"tta": "flips"}, r"another --tta 'none' \(now 'flips'\);"),
        ({"save": ("labels", "probabilities")}, "another --save;"),
    ]:
        for share in ({"merge": True}, {"shard": (2, 2)}):
            with pytest.raises(UsageError, match=said):
                by_blocks(made, tmp_path / "a.tif", replace(request, **changed, **share))
    with pytest.raises(UsageError, match="another model;"):
        by_blocks(replace(made, sha256="1" * 64), tmp_path / "a.tif", replace(request, merge=True))
    assert {path.name: path.read_bytes() for path in kept.rglob("*") if path.is_file()} == before
    _, lines = by_blocks(made, tmp_path / "a.tif", replace(request, merge=True))
    assert not any("not computed" in line for line in lines)


def test_shards_and_their_merge(model, tmp_path, image_of, by_blocks):
    tifffile.imwrite(tmp_path / "a.tif", image_of((75, 90)))
    made, request = model(), Request(tmp_path / "parts", tile=20)
    through_memory(made, tmp_path / "a.tif", replace(request, out=tmp_path / "whole"))
    for number in (1, 3):
        done, lines = by_blocks(made, tmp_path / "a.tif", replace(request, shard=(number, 3)))
        assert done.files == []
    assert lines[-1].startswith("a.tif: share 3 of 3 is done, 13 of 20 tiles are there; when all are, ")
    with pytest.raises(DataError, match=r"7 of 20 tiles are not computed; run the shards"):
        by_blocks(made, tmp_path / "a.tif", replace(request, merge=True))
    by_blocks(made, tmp_path / "a.tif", replace(request, shard=(2, 3)))
    by_blocks(made, tmp_path / "a.tif", replace(request, merge=True))
    assert files_of(request.out) == files_of(tmp_path / "whole")


def test_a_shard_that_was_killed_is_repeated(model, tmp_path, monkeypatch, image_of, by_blocks):
    tifffile.imwrite(tmp_path / "a.tif", image_of((75, 90)))
    made, request = model(), Request(tmp_path / "parts", tile=20)
    through_memory(made, tmp_path / "a.tif", replace(request, out=tmp_path / "whole"))
    calls = []
    predict_window = blocks.predict_window

    def counted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 4:
            raise KilledError
        return predict_window(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(blocks, "predict_window", counted)
        with pytest.raises(KilledError):
            by_blocks(made, tmp_path / "a.tif", replace(request, shard=(2, 3)))
    for number in (1, 3, 2):
        by_blocks(made, tmp_path / "a.tif", replace(request, shard=(number, 3)))
    by_blocks(made, tmp_path / "a.tif", replace(request, merge=True))
    assert files_of(request.out) == files_of(tmp_path / "whole")


def test_of_a_pyramid_the_level_nearest_to_the_models_pixels_is_read(model, tmp_path, image_of, by_blocks):
    made = replace(model(), pixel_size_um=(0.5, 0.5))
    base = image_of((160, 180))
    half = np.full((80, 90), 7, np.uint16)  # unlike the full resolution, to see which is read
    metadata = {"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm"}
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        writer.write(base, tile=(32, 32), subifds=1, metadata={"axes": "YX", **metadata})
        writer.write(half, tile=(32, 32), subfiletype=1)
    done, lines = by_blocks(made, tmp_path / "a.ome.tif", Request(tmp_path / "o", save=("labels",)))
    assert any("level 1 of its pyramid, resampled by 1 x 1" in line for line in lines)
    assert "1 tile of 8" in done.plan  # 80 x 90 pixels
    assert done.shape == (160, 180)
    labels = tifffile.imread(tmp_path / "o" / "a_labels.tif")
    assert labels.shape == (160, 180)
    assert len(np.unique(labels)) == 1  # a constant image is one thing all over


def test_at_half_the_pixel_size_there_are_nearly_the_same_objects(model, tmp_path, image_of):
    """In the grid of the file: doubled pixels give doubled labels."""
    made = model()
    made = replace(made, pixel_size_um=(0.5, 0.5), postprocessing={**made.postprocessing, "split": None})
    coarse = image_of((80, 90))
    fine = coarse.repeat(2, 0).repeat(2, 1)
    for name, image, size in (("coarse", coarse, 0.5), ("fine", fine, 0.25)):
        tifffile.imwrite(
            tmp_path / f"{name}.tif", image, imagej=True, resolution=(1 / size, 1 / size), metadata={"unit": "um"}
        )
    request = Request(tmp_path / "out", save=("labels", "probabilities"))
    engine = make_engine(made, engine="torch", device="cpu")
    lines, inputs = [], [tmp_path / "coarse.tif", tmp_path / "fine.tif"]
    predict_files(made, engine, inputs, request, listen=lambda text, *_: lines.append(text))
    assert any("fine.tif: pixels of 0.25 um, the model learnt at 0.5 um: resampled by 0.5" in line for line in lines)
    one, two = (tifffile.imread(request.out / f"{name}_labels.tif") for name in ("coarse", "fine"))
    assert two.shape == fine.shape
    assert tifffile.imread(request.out / "fine_probabilities.tif").shape == (2, *fine.shape)
    assert one.max() > 5
    agree = (one.repeat(2, 0).repeat(2, 1) > 0) == (two > 0)
    assert agree.mean() > 0.95
    assert abs(int(one.max()) - int(two.max())) <= 0.15 * one.max()
    assert components(two > 0).max() <= two.max()


@pytest.mark.parametrize("classes", [2, 3])
def test_of_a_coarser_file_those_objects_count_that_have_a_pixel(model, tmp_path, image_of, by_blocks, classes):
    """Count, ids and table agree, and ids follow the first pixels of the file, not those of the model's grid."""
    made = replace(model(classes=classes), pixel_size_um=(0.5, 0.5))
    tifffile.imwrite(tmp_path / "a.tif", image_of((60, 70)))
    save, sizes = ("labels", "table"), {"pixel_size_um": (2.0, 2.0)}
    done, lines = by_blocks(made, tmp_path / "a.tif", Request(tmp_path / "o", save=save, **sizes))
    labels = tifffile.imread(tmp_path / "o" / "a_labels.tif")
    _, first = np.unique(labels[labels > 0], return_index=True)
    rows = list(csv.DictReader((tmp_path / "o" / "a_objects.csv").read_text().splitlines()))
    assert len(first) == len(rows) == labels.max() == done.objects > 9
    assert [row["id"] for row in rows] == list(map(str, range(1, labels.max() + 1)))
    assert sorted(first) == first.tolist()
    (said,) = [line for line in lines if "smaller than a pixel" in line]
    assert said == f"a.tif: {done.notes[-1]}"
    assert int(done.notes[-1].split()[0]) > 0
    if classes == 3:
        seen = tifffile.imread(tmp_path / "o" / "a_classes.tif")
        assert np.array_equal(seen > 0, labels > 0)
        assert all(len(np.unique(seen[labels == number])) == 1 for number in range(1, labels.max() + 1))
        assert [row["class"] for row in rows] == [made.classes[seen[labels == int(row["id"])][0]] for row in rows]


def test_a_pixel_size_that_is_given_or_missing(model, tmp_path, image_of, by_blocks):
    made = replace(model(), pixel_size_um=(0.5, 0.5))
    tifffile.imwrite(tmp_path / "a.tif", image_of((40, 50)))
    _, lines = by_blocks(made, tmp_path / "a.tif", Request(tmp_path / "o"))
    assert any("states no pixel size, the model learnt at 0.5 um: taken as equal" in line for line in lines)
    done, lines = by_blocks(made, tmp_path / "a.tif", Request(tmp_path / "o", pixel_size_um=(1.0,)))
    assert any("resampled by 2 x 2" in line for line in lines)
    assert done.shape == (40, 50)
    assert tifffile.imread(tmp_path / "o" / "a_labels.tif").shape == (40, 50)
    with pytest.raises(UsageError, match="does not know at which pixel size it learnt"):
        by_blocks(model(), tmp_path / "a.tif", Request(tmp_path / "o", pixel_size_um=(1.0,)))
    with pytest.raises(UsageError, match="--pixel-size with 3 numbers: give one, or one for each of 2 axes"):
        by_blocks(made, tmp_path / "a.tif", Request(tmp_path / "o", pixel_size_um=(1.0, 1.0, 1.0)))


def test_too_little_memory_names_what_would_do(model, tmp_path, image_of, by_blocks):
    tifffile.imwrite(tmp_path / "a.tif", image_of((40, 50)))
    base = process_bytes()
    with pytest.raises(UsageError, match="is too small for the smallest tile.*the least is"):
        by_blocks(model(), tmp_path / "a.tif", Request(tmp_path / "o"), budget=Budget(base, base))


def test_tables_that_do_not_fit_are_refused_before_anything_is_computed(model, tmp_path, image_of, by_blocks):
    tifffile.imwrite(tmp_path / "a.tif", image_of((2, 300, 400)), imagej=True, metadata={"axes": "TYX"})
    base, caches = process_bytes(), -Budget(0, 0).left
    budget = Budget(base + caches + 120_000 * (2 * 6 + 72) - 1, base)  # ids, pixels, and what they are traced by
    with pytest.raises(UsageError, match=r"a\.tif: objects as .* are traced in memory, about .*; raise --memory, or t"):
        by_blocks(model(), tmp_path / "a.tif", Request(tmp_path / "o", save=("labels", "table")), budget=budget)
    assert not folder_of(tmp_path / "o", "a").exists()
    for allowed, more in ((1, {}), (0, {"save": ("labels",)}), (0, {"shard": (1, 2)})):
        request = replace(Request(tmp_path / "o", save=("labels", "table")), **more)
        by_blocks(model(), tmp_path / "a.tif", request, budget=Budget(budget.limit + allowed, base))


def test_pixels_that_are_no_numbers_are_refused_where_they_are_read(model, tmp_path, image_of, by_blocks):
    image = image_of((40, 50)).astype(np.float32)
    image[30, 20] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", image)
    with pytest.raises(DataError, match=r"a\.tif: .*NaN"):
        by_blocks(model(), tmp_path / "a.tif", Request(tmp_path / "o"))


def test_sizes_and_shares_as_text():
    assert parse_pixel_size("0.25um") == (0.25,)
    assert parse_pixel_size("1x0.25x0.25 µm") == (1, 0.25, 0.25)
    assert parse_pixel_size("250nm") == (0.25,)
    assert parse_shard("2/8") == (2, 8)
    for text in ("big", "0um", "-1um", "1 inch", ""):
        with pytest.raises(UsageError, match="--pixel-size"):
            parse_pixel_size(text)
    with pytest.raises(UsageError, match="--shard 'two': write I/N"):
        parse_shard("two")
    with pytest.raises(UsageError, match="--shard 9/8: write I/N"):
        Request(Path("x"), shard=(9, 8))
    with pytest.raises(UsageError, match="give one of them"):
        Request(Path("x"), shard=(1, 2), merge=True)
