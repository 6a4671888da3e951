import json
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.main import get_command

from biounet.cli.app import make_app
from biounet.errors import BiounetError
from biounet.images.formats import read_image
from biounet.model_file import load_model, save_model
from biounet.report.methods import methods_text


def labels_of(folder, name):
    return read_image(folder / f"{name}_labels.tif").array


def probabilities_of(folder, name):
    """Classes first."""
    image = read_image(folder / f"{name}_probabilities.tif")
    return np.moveaxis(image.array, image.axes.index("C"), 0)


def written(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def image(data):
    return data / "images" / "zelle 9.tif"


def test_a_folder_of_images(biounet, model, data, tmp_path):
    out = tmp_path / "Ergebnisse für mich"
    done = biounet("predict", model, data / "images", "--out", out)
    assert done.code == 0
    names = [f"zelle {count}" for count in (14, 5, 9)]
    assert written(out) == [
        "report.html",
        "run.json",
        *(f"{n}_{kind}" for n in names for kind in ("labels.tif", "overlay.png")),
    ]
    for name in names:
        labels = labels_of(out, name)
        assert (labels.shape, labels.dtype) == ((48, 48), np.uint16)
        with Image.open(out / f"{name}_overlay.png") as picture:
            assert picture.mode == "RGB"
        assert name in done.out
        assert f"{name}.tif: 48x48 in 1 tile of 48x48 pixels" in done.err


def test_what_is_saved_is_chosen(biounet, model, image, tmp_path):
    for save, expected in (
        ("labels", ["zelle 9_labels.tif"]),
        ("overlay", ["zelle 9_overlay.png"]),
        ("probabilities, labels", ["zelle 9_labels.tif", "zelle 9_probabilities.tif"]),
    ):
        assert biounet("predict", model, image, "--out", tmp_path / save, "--save", save).code == 0
        assert written(tmp_path / save) == ["report.html", "run.json", *expected]
    found = probabilities_of(tmp_path / "probabilities, labels", "zelle 9")
    assert (found.shape, found.dtype) == ((2, 48, 48), np.float32)
    assert np.abs(found.sum(0) - 1).max() < 1e-6


def test_json_is_one_object(biounet, model, image, tmp_path):
    found = biounet("predict", model, image, "--out", tmp_path / "o", "--json").json
    assert found["model_sha256"] == load_model(model).sha256
    (one,) = found["images"]
    assert (one["name"], one["input"], one["error"]) == ("zelle 9", str(image), None)
    assert one["files"] == ["zelle 9_labels.tif", "zelle 9_overlay.png"]
    assert one["objects"] == labels_of(tmp_path / "o", "zelle 9").max()
    assert set(found["seconds"]) == {"start_up", "compute"}


def test_run_json_says_how_it_came_about(biounet, model, image, tmp_path):
    arguments = ("--tile", "20", "--memory", "9GB", "--precision", "bf16", "--device", "cpu", "--engine", "torch")
    assert biounet("predict", model, image, "--out", tmp_path, *arguments).code == 0
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["model_sha256"] == load_model(model).sha256
    assert (run["task"], run["classes"]) == ("instances", ["background", "cell"])
    assert (run["values"], run["unlabelled"]) == ([], "background")
    assert (run["engine"], run["precision"]) == ("torch", "bf16")
    assert (run["settings"]["tile"], run["settings"]["memory"]) == (20, 9 * 10**9)
    assert run["settings"]["postprocessing"] == load_model(model).postprocessing
    assert run["versions"]["biounet"] == version("biounet")
    assert set(run["versions"]) == {"biounet", "numpy", "tifffile", "torch", "python"}
    assert all(seconds > 0 for seconds in run["seconds"].values())
    assert run["methods"] == methods_text(load_model(model))
    (one,) = run["inputs"]
    assert (one["input"], one["name"], one["shape"], one["error"]) == (str(image), "zelle 9", [48, 48], "")
    assert "9 tiles of 20x20 pixels" in one["plan"]


def test_quiet_says_results_only(biounet, model, image, tmp_path):
    done = biounet("predict", model, image, "--out", tmp_path, "-q")
    assert done.code == 0
    assert done.err in ("", next(iter(done.err.splitlines(keepends=True)), ""))
    assert all(line.startswith("warning: ") for line in done.err.splitlines())
    assert "zelle 9" in done.out


def test_names_lose_their_known_suffixes(biounet, model, tmp_path):
    inputs = tmp_path / "in"
    inputs.mkdir()
    picture = np.arange(20 * 20, dtype=np.uint8).reshape(20, 20)
    tifffile.imwrite(inputs / "a.ome.tif", picture)
    tifffile.imwrite(inputs / "b_0000.tif", picture)
    tifffile.imwrite(inputs / "c.v2.TIFF", picture)
    Image.fromarray(picture).save(inputs / "d ä.PNG")
    np.save(inputs / "e.npy", picture)
    Image.fromarray(picture).save(inputs / "f.jpeg")
    (inputs / "notes.txt").write_text("no image")
    done = biounet("predict", model, inputs, "--out", tmp_path / "out", "--save", "labels")
    assert done.code == 0
    assert written(tmp_path / "out") == [
        "a_labels.tif", "b_labels.tif", "c.v2_labels.tif", "d ä_labels.tif", "e_labels.tif", "f_labels.tif",
        "report.html", "run.json",
    ]  # fmt: skip


def test_two_inputs_of_one_name_are_refused_before_anything_is_written(biounet, model, image, tmp_path):
    other = tmp_path / "zelle 9.png"
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(other)
    done = biounet("predict", model, image, other, "--out", tmp_path / "out")
    assert done.code == 2
    assert f"{image} and {other} would both be written as zelle 9; predict them apart" in done.complaint
    assert not (tmp_path / "out").exists()


def test_patterns_files_and_folders_each_once(biounet, model, data, image, tmp_path):
    pattern = str(data / "images" / "*[59].tif")
    done = biounet("predict", model, pattern, image, data / "images", "--out", tmp_path, "--json")
    assert [one["name"] for one in done.json["images"]] == ["zelle 5", "zelle 9", "zelle 14"]


@pytest.mark.parametrize("tile", ["1", "7", "30"])
def test_any_tile_gives_the_same(biounet, model, image, tmp_path, tile):
    for name, arguments in (("whole", ()), ("tiled", ("--tile", tile))):
        done = biounet("predict", model, image, "--out", tmp_path / name, "--save", "labels,probabilities", *arguments)
        assert done.code == 0
    assert "1 tile of" not in done.err
    whole, tiled = (probabilities_of(tmp_path / name, "zelle 9") for name in ("whole", "tiled"))
    assert np.abs(whole - tiled).max() < 1e-5
    assert np.array_equal(labels_of(tmp_path / "whole", "zelle 9"), labels_of(tmp_path / "tiled", "zelle 9"))


def test_images_of_one_pixel(biounet, model, tmp_path):
    shapes = {"one": (1, 1), "row": (1, 9), "column": (9, 1)}
    for name, shape in shapes.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", np.full(shape, 7, np.uint16))
    save = ("--save", "labels,probabilities,overlay")
    done = biounet("predict", model, *tmp_path.glob("*.tif"), "--out", tmp_path / "o", *save, "--json")
    assert done.code == 0
    assert {one["name"]: len(one["files"]) for one in done.json["images"]} == dict.fromkeys(shapes, 3)
    for name, shape in shapes.items():
        assert labels_of(tmp_path / "o", name).shape == shape
    assert np.isfinite(probabilities_of(tmp_path / "o", "row")).all()


def test_pages_are_images_of_their_own(biounet, model, tmp_path):
    pages = np.random.default_rng(0).integers(0, 255, (5, 40, 52)).astype(np.uint8)
    pages[1, 10:20, 10:20] = 255
    tifffile.imwrite(tmp_path / "stack.tif", pages, photometric="minisblack")
    for index, page in enumerate(pages):
        tifffile.imwrite(tmp_path / f"page{index}.tif", page)
    done = biounet("predict", model, *tmp_path.glob("*.tif"), "--out", tmp_path / "o", "--save", "labels,probabilities")
    assert done.code == 0
    labels = labels_of(tmp_path / "o", "stack")
    assert labels.shape == (5, 40, 52)
    single = [labels_of(tmp_path / "o", f"page{index}") for index in range(5)]
    assert np.array_equal(labels, np.stack(single))
    found = probabilities_of(tmp_path / "o", "stack")
    assert found.shape == (2, 5, 40, 52)
    assert np.array_equal(found[:, 3], probabilities_of(tmp_path / "o", "page3"))
    assert "stack.tif: 5 images of 40x52" in done.err


def test_the_pixel_size_is_handed_on(biounet, model, tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", np.eye(30, dtype=np.uint8), imagej=True, resolution=(4, 4), metadata={"unit": "um"}
    )
    assert biounet("predict", model, tmp_path / "a.tif", "--out", tmp_path / "o").code == 0
    assert read_image(tmp_path / "o" / "a_labels.tif").pixel_size_um == pytest.approx((0.25, 0.25))


def test_one_broken_input_among_others(biounet, model, data, tmp_path):
    broken = tmp_path / "broken.tif"
    broken.write_bytes((data / "images" / "zelle 5.tif").read_bytes()[:300])
    nan = tmp_path / "nan.tif"
    tifffile.imwrite(nan, np.full((20, 20), np.nan, np.float32))
    rgb = tmp_path / "rgb.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 20, 3)).astype(np.uint8)).save(rgb)
    inputs = (broken, data / "images", nan, rgb)
    done = biounet("predict", model, *inputs, "--out", tmp_path / "o", "--save", "labels", "--json")
    assert done.code == 4
    assert "3 of 6 inputs failed, the rest is done; first: " in done.complaint
    assert str(broken) in done.complaint
    assert {one["name"]: one["error"] is None for one in done.json["images"]} == {
        "broken": False, "zelle 14": True, "zelle 5": True, "zelle 9": True, "nan": False, "rgb": False,
    }  # fmt: skip
    assert written(tmp_path / "o") == ["report.html", "run.json", *(f"zelle {n}_labels.tif" for n in (14, 5, 9))]
    inputs = json.loads((tmp_path / "o" / "run.json").read_text())["inputs"]
    errors = {one["name"]: one["error"] for one in inputs if one["error"]}
    assert set(errors) == {"broken", "nan", "rgb"}
    assert f"{nan}: 400 of 400 pixels are NaN" in errors["nan"]
    assert f"{rgb}: 3 channels, the model takes 1; choose them with --channels" in errors["rgb"]


def test_nothing_done_is_said(biounet, model, tmp_path):
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).write_bytes(b"II*\0")
    done = biounet("predict", model, tmp_path, "--out", tmp_path / "o")
    assert done.code == 4
    assert "2 of 2 inputs failed, nothing is done" in done.complaint


def test_what_is_wrong_with_the_only_input_is_said_once(biounet, model, tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    done = biounet("predict", model, tmp_path / "a.tif", "--out", tmp_path / "o", "--engine", "torch", "-q")
    assert done.code == 3
    assert done.err.count("a.tif") == 1
    assert "failed" not in done.err


def test_a_disk_that_is_full_hides_no_failed_input(biounet, model, image, tmp_path, monkeypatch):
    def full(*_):
        raise BiounetError("run.json: cannot be written (No space left on device)")

    monkeypatch.setattr("biounet.prediction.predict.write_run", full)
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    done = biounet("predict", model, image, tmp_path / "a.tif", "--out", tmp_path / "o")
    assert done.code == 4
    assert "failed: run.json: cannot be written" in done.err
    assert "1 of 2 inputs failed, the rest is done; first: " in done.complaint
    assert biounet("predict", model, image, "--out", tmp_path / "o").code == 1


def test_a_channel_is_chosen(biounet, model, tmp_path):
    grey = np.random.default_rng(0).integers(0, 255, (30, 30)).astype(np.uint8)
    Image.fromarray(np.stack([grey * 0, grey, 255 - grey], -1)).save(tmp_path / "rgb.png")
    Image.fromarray(grey).save(tmp_path / "grey.png")
    save = ("--save", "probabilities")
    assert biounet("predict", model, tmp_path / "rgb.png", "--out", tmp_path, *save, "--channels", "1").code == 0
    assert biounet("predict", model, tmp_path / "grey.png", "--out", tmp_path, *save).code == 0
    assert np.array_equal(probabilities_of(tmp_path, "rgb"), probabilities_of(tmp_path, "grey"))


def test_an_empty_prediction_is_pointed_out(biounet, model, tmp_path, monkeypatch):
    monkeypatch.setattr("biounet.inference.predict.segment", lambda model, p: np.zeros(p.shape[1:], np.int32))
    tifffile.imwrite(tmp_path / "a.tif", np.eye(20, dtype=np.uint8))
    done = biounet("predict", model, tmp_path / "a.tif", "--out", tmp_path / "o", "-q")
    assert done.code == 0
    assert done.err.startswith("warning: a: nothing was found; is it an image of the kind the model learnt from?")


def test_results_of_before_are_replaced_whole(biounet, model, image, tmp_path):
    for _ in range(2):
        assert biounet("predict", model, image, "--out", tmp_path).code == 0
    assert written(tmp_path) == ["report.html", "run.json", "zelle 9_labels.tif", "zelle 9_overlay.png"]


def write_channels(path, order):
    """Channels told apart by their brightness, under their names."""
    levels = {"DAPI": 30, "GFP": 120, "actin": 210}
    stack = np.stack([np.full((40, 44), levels[name], np.uint8) for name in order])
    stack[:, 8:20, 8:20] += 20
    stack[0, 25:30, 25:30] += 5
    tifffile.imwrite(path, stack, metadata={"axes": "CYX", "Channel": {"Name": list(order)}})


@pytest.mark.parametrize("options", [(), ("--tile", "20", "--region", "auto")])
def test_labels_that_were_edited_or_drawn_are_not_replaced(biounet, model, image, tmp_path, options):
    """An editor that saves the labels again leaves its own name in the file."""
    same = ("predict", model, image, "--out", tmp_path, "--save", "labels", *options)
    file = tmp_path / "zelle 9_labels.tif"
    assert biounet(*same).code == 0
    assert biounet(*same).code == 0  # its own are replaced
    corrected = tifffile.imread(file)
    corrected[:5, :5] = 77
    tifffile.imwrite(file, corrected, imagej=True, metadata={"axes": "YX"})
    before = file.read_bytes()
    done = biounet(*same)
    assert done.code == 3
    assert "zelle 9_labels.tif: is there, and biounet did not write it, or it was edited since" in done.complaint
    assert file.read_bytes() == before
    assert biounet(*same, "--overwrite").code == 0
    assert not np.array_equal(tifffile.imread(file), corrected)
    file.write_bytes(b"something")
    assert biounet(*same).code == 3
    assert file.read_bytes() == b"something"


def test_channels_are_taken_by_name(biounet, train_tiny, tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    mask = np.zeros((40, 44), np.uint16)
    mask[8:20, 8:20], mask[25:30, 25:30] = 1, 2
    for index in range(3):
        write_channels(tmp_path / "data" / "images" / f"a{index}.ome.tif", ["DAPI", "GFP"])
        tifffile.imwrite(tmp_path / "data" / "masks" / f"a{index}.tif", mask + 2 * index * (mask > 0))
    out = tmp_path / "m.safetensors"
    assert train_tiny(tmp_path / "data", out).code == 0
    assert load_model(out).channels == ("DAPI", "GFP")
    save = ("--save", "probabilities", "--device", "cpu")
    orders = {"same": ["DAPI", "GFP"], "more": ["actin", "GFP", "DAPI"], "none": ["DAPI", "actin"]}
    for name, order in orders.items():
        write_channels(tmp_path / f"{name}.ome.tif", order)
    assert biounet("predict", out, tmp_path / "same.ome.tif", "--out", tmp_path / "o", *save).code == 0
    assert biounet("predict", out, tmp_path / "more.ome.tif", "--out", tmp_path / "o", *save).code == 0
    done = biounet("predict", out, tmp_path / "none.ome.tif", "--out", tmp_path / "o", *save)
    assert done.code == 3
    assert "--channels GFP: not in" in done.complaint
    assert "which has channels 0 'DAPI', 1 'actin'; the model takes DAPI, GFP" in done.complaint
    chosen = ("--channels", "DAPI,1")
    assert biounet("predict", out, tmp_path / "none.ome.tif", "--out", tmp_path / "o", *save, *chosen).code == 0


def test_int8_says_what_it_changes(biounet, model, image, tmp_path):
    arguments = ("--precision", "int8", "--device", "cpu", "--least-agreement", "0")
    done = biounet("predict", model, image, "--out", tmp_path / "o", *arguments, "--json")
    assert done.code == 0
    assert (done.json["engine"], done.json["precision"]) == ("openvino", "int8")
    assert "engine openvino, int8; against fp32 torch: logits within" in done.err
    run = json.loads((tmp_path / "o" / "run.json").read_text())
    assert run["agreement"] == done.json["agreement"]
    assert 0 < run["agreement"]["labels"] <= 1
    assert (run["agreement"]["sample"], run["agreement"]["reference"]) == ("1 crop of training images", "fp32 torch")
    assert {"openvino", "onnx"} <= set(run["versions"])


def test_int8_of_an_older_model_is_refused_and_calibrated_on_request(biounet, model, data, image, tmp_path):
    older = tmp_path / "older.safetensors"
    save_model(older, replace(load_model(model), calibration=()))
    arguments = ("predict", older, image, "--out", tmp_path / "o", "--precision", "int8", "--device", "cpu")
    done = biounet(*arguments)
    assert done.code == 2
    assert "this model file carries none; name a folder of images" in done.complaint
    done = biounet(*arguments, "--calibrate", data / "images", "--least-agreement", "0", "--json")
    assert done.code == 0
    assert done.json["agreement"]["sample"] == "1 crop of the images to calibrate on"
    done = biounet(*arguments, "--calibrate", tmp_path / "nowhere")
    assert done.code == 3


def test_views_are_averaged_and_named(biounet, model, image, tmp_path):
    found = {}
    for tta in ("none", "flips", "all"):
        done = biounet("predict", model, image, "--out", tmp_path / tta, "--save", "probabilities", "--tta", tta)
        assert done.code == 0
        found[tta] = probabilities_of(tmp_path / tta, "zelle 9")
        assert json.loads((tmp_path / tta / "run.json").read_text())["settings"]["tta"] == tta
    assert "GFLOP in 8 views" in done.err
    assert not np.array_equal(found["none"], found["flips"])
    tiled = tmp_path / "tiled"
    assert (
        biounet("predict", model, image, "--out", tiled, "--save", "probabilities", "--tta", "all", "--tile", "7").code
        == 0
    )
    assert np.abs(probabilities_of(tiled, "zelle 9") - found["all"]).max() < 1e-5


def test_small_images_together_give_the_bits_of_each_alone(biounet, model, tmp_path):
    """Sizes change in between, and one image cannot be read: batches never mix what does not belong together."""
    rng = np.random.default_rng(0)
    inputs = tmp_path / "in"
    inputs.mkdir()
    for index, side in enumerate((30, 30, 30, 41, 30, 30)):
        tifffile.imwrite(inputs / f"{index}.tif", rng.integers(0, 255, (side, 30)).astype(np.uint8))
    (inputs / "1b.tif").write_bytes(b"II*\0")
    save = ("--save", "labels,probabilities")
    assert biounet("predict", model, inputs, "--out", tmp_path / "all", *save).code == 4
    for index in range(6):
        assert biounet("predict", model, inputs / f"{index}.tif", "--out", tmp_path / "one", *save).code == 0
        for read in (labels_of, probabilities_of):
            assert np.array_equal(read(tmp_path / "all", str(index)), read(tmp_path / "one", str(index)))


def test_an_ome_zarr_folder_is_predicted_like_a_file(biounet, model, image, tmp_path):
    zarr = pytest.importorskip("zarr")
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    levels = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.5, 0.25]}]}]
    attributes = {"ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}}
    folder = tmp_path / "in" / "zelle 9.ome.zarr"
    group = zarr.open_group(folder, mode="w", attributes=attributes)
    group.create_array("0", data=tifffile.imread(image), chunks=(20, 30))
    assert biounet("predict", model, folder.parent, "--out", tmp_path / "a").code == 0
    assert biounet("predict", model, image, "--out", tmp_path / "b").code == 0
    assert np.array_equal(labels_of(tmp_path / "a", "zelle 9"), labels_of(tmp_path / "b", "zelle 9"))
    assert read_image(tmp_path / "a" / "zelle 9_labels.tif").pixel_size_um == (0.5, 0.25)


def test_a_region_and_labels_in_place(biounet, model, image, tmp_path, write_zarr):
    """The labels of one command, in the image, are those that another writes beside it."""
    path = write_zarr(tmp_path / "feld.ome.zarr", read_image(image).array)
    mask = np.zeros((48, 48), np.uint8)
    mask[10:40, :30] = 1
    tifffile.imwrite(tmp_path / "maske.tif", mask)
    same = ["predict", model, path, "--out", tmp_path / "o", "--region", tmp_path / "maske.tif"]
    assert biounet(*same).code == 0
    done = biounet(*same, "--in-place", "--label-name", "kerne", "--json")
    assert done.json["images"][0]["files"] == ["feld_overlay.png", str(path / "labels" / "kerne")]
    found = read_image(path / "labels" / "kerne").array
    assert np.array_equal(found, labels_of(tmp_path / "o", "feld"))
    assert not found[mask == 0].any()
    again = biounet(*same, "--in-place", "--label-name", "kerne")
    assert (again.code, "feld: done before by the same model with the same settings" in again.err) == (0, True)
    other = biounet(*same, "--in-place", "--label-name", "kerne", "--tta", "flips")
    assert other.code == 3
    assert "has labels 'kerne' that this model did not make with these settings" in other.complaint
    assert "choose another --label-name, or replace them with --overwrite" in other.complaint
    assert biounet(*same, "--in-place", "--label-name", "kerne", "--tta", "flips", "--overwrite").code == 0
    wrong = biounet("predict", model, image, "--out", tmp_path / "o", "--wells", "B03")
    assert (wrong.code, wrong.complaint.split(":")[0]) == (2, "--wells 'B03'")
    wrong = biounet("predict", model, image, "--out", tmp_path / "o", "--region", "nothing.tif")
    assert wrong.code == 2
    assert "--region nothing.tif: there is no such file" in wrong.complaint


def test_run_json_tells_every_option(biounet, model, image, tmp_path):
    """Under the name of the option, a pixel size with its unit; but where results go and how it speaks."""
    asked = {"--tta": "flips", "--save": "labels", "--label-name": "kerne", "--tile": "20"}
    assert biounet("predict", model, image, "--out", tmp_path, *sum(asked.items(), ()), "--device", "cpu").code == 0
    told = json.loads((tmp_path / "run.json").read_text())["settings"]
    options = {parameter.name for parameter in get_command(make_app()).commands["predict"].params}
    options = options - {"model", "inputs", "out", "json", "quiet", "verbose", "pixel_size"} | {"pixel_size_um"}
    assert set(told) == options | {"postprocessing"}
    expected = {
        "tta": "flips", "save": ["labels"], "label_name": "kerne", "in_place": False, "overwrite": False, "tile": 20,
        "pixel_size_um": None, "shard": None, "merge": False, "wells": None, "cluster": None, "region": None,
        "engine": "auto", "precision": "fp32", "device": "cpu", "least_agreement": 0.998, "calibrate": None,
    }  # fmt: skip
    assert {name: told[name] for name in expected} == expected
