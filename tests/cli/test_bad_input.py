"""Bad input gives one clear line that names file or option, value and remedy, and the right exit code."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tifffile

IMAGE = np.add.outer(np.arange(48), np.arange(48)).astype(np.uint8)
MASK = np.kron(np.arange(16).reshape(4, 4), np.ones((12, 12), int)).astype(np.uint16) * (np.arange(48) % 12 > 1)


def refused(outcome, code, *words):
    """It ended with this code and one line that holds these words, and wrote no results."""
    assert outcome.code == code, outcome.err
    complaint = outcome.complaint  # the last line, the only one that starts as complaints do, and no traceback
    for word in words:
        assert str(word) in complaint
    assert outcome.out == ""
    return complaint


# -- data folders: train, check and show say the same


@pytest.fixture(params=["train", "check", "show"])
def read(request, biounet, tmp_path):
    """A command that reads a data folder."""
    out = {"train": ["--out", tmp_path / "m.safetensors", "--steps", 1], "show": ["--out", tmp_path / "s.png"]}

    def run(folder):
        done = biounet(request.param, folder, *out.get(request.param, []))
        assert not (tmp_path / "m.safetensors").exists()
        assert not (tmp_path / "s.png").exists()
        return replace(done, out="") if request.param == "check" else done  # findings are its result

    return run


def test_a_missing_folder(read, tmp_path):
    refused(read(tmp_path / "gone"), 3, tmp_path / "gone", "there is no such folder; check the name")


def test_an_empty_folder(read, tmp_path):
    (tmp_path / "leer").mkdir()
    refused(
        read(tmp_path / "leer"), 3, tmp_path / "leer", "the folder is empty; put images and their annotations there"
    )


def test_no_pairs(read, tmp_path):
    (tmp_path / "daten").mkdir()
    tifffile.imwrite(tmp_path / "daten" / "a.tif", IMAGE)
    complaint = refused(read(tmp_path / "daten"), 3, "no pairs of images and annotations", "found a.tif")
    assert "images/ + masks/" in complaint
    assert "--images and --masks" in complaint


def test_names_that_do_not_pair(read, make_data, tmp_path):
    folder = make_data(a=(IMAGE, MASK))
    (folder / "masks" / "a.tif").rename(folder / "masks" / "b.tif")
    refused(read(folder), 3, "a.tif: has no mask of its name", "b.tif: is a mask without an image", "--skip-bad")


def test_shapes_that_differ(read, make_data):
    folder = make_data(a=(IMAGE, MASK), b=(IMAGE[:40], MASK))
    refused(
        read(folder), 3, "1 of 2 images cannot be used", "b.tif is 40 x 48 pixels, mask b.tif 48 x 48", "--skip-bad"
    )


def test_empty_masks(read, make_data):
    folder = make_data(a=(IMAGE, MASK * 0), b=(IMAGE, MASK * 0))
    refused(read(folder), 3, folder, "all 2 masks are empty", "annotate at least one")


@pytest.mark.parametrize("length", [0, 3, 8, 200, 1500])
def test_a_truncated_tiff(read, make_data, length):
    folder = make_data(a=(IMAGE, MASK), b=(IMAGE, MASK))
    path = folder / "images" / "b.tif"
    path.write_bytes(path.read_bytes()[:length])
    refused(read(folder), 3, path, "1 of 2 images cannot be used", "again")


def test_a_file_of_another_kind_than_its_name(read, make_data):
    folder = make_data(a=(IMAGE, MASK))
    (folder / "images" / "a.tif").write_text("<html>404 Not Found</html>")
    refused(read(folder), 3, "a.tif: cannot be read as .tif", "another format than its name says")


def test_an_image_with_values_that_are_no_numbers(read, make_data):
    image = IMAGE.astype(np.float32)
    image[3, :2] = np.nan
    folder = make_data(a=(IMAGE, MASK), b=(image, MASK))
    refused(read(folder), 3, folder / "images" / "b.tif", "2 of 2304 pixels are NaN or infinite", "replace them")


@pytest.mark.parametrize("size", [(1, 1), (48, 15), (1, 48)])
def test_a_training_image_that_is_too_small(read, make_data, size):
    small = tuple(slice(0, n) for n in size)
    folder = make_data(a=(IMAGE, MASK), b=(IMAGE[small], MASK[small]))
    refused(read(folder), 3, f"b: is {size[0]} x {size[1]} pixels", "need at least 16 a side", "--skip-bad")


def test_labels_that_are_an_image(read, make_data):
    folder = make_data(a=(IMAGE, np.random.default_rng(0).random((48, 48))))
    refused(read(folder), 3, "a.tif: ", "label values are not whole numbers", "is this an image?")


def test_images_of_different_channels(read, make_data):
    rgb = np.zeros((48, 48, 4), np.uint8)
    rgb[..., 3] = np.arange(48)
    folder = make_data(a=(IMAGE, MASK), b=(IMAGE, MASK), c=(rgb, MASK))
    refused(read(folder), 3, "c: has 4 channels where the others have 1")


def test_an_image_without_annotation(biounet, make_data, tmp_path):
    image = make_data(a=(IMAGE, MASK)) / "images" / "a.tif"
    (image.parents[1] / "masks" / "a.tif").unlink()
    outcome = biounet("train", image, "--out", tmp_path / "m", "--steps", 1)
    refused(outcome, 3, "no annotation of this name beside or in it; name its folder")


def test_everything_is_told_at_once(read, make_data):
    folder = make_data(a=(IMAGE, MASK), b=(IMAGE[:40], MASK), c=(IMAGE[:9], MASK[:9]))
    refused(read(folder), 3, "2 of 3 images cannot be used", "b: ", "c: ")


# -- model files


@pytest.fixture(params=["predict", "check"])
def use(request, biounet, data, tmp_path):
    """A command that reads a model file."""
    rest = [data / "images", "--out", tmp_path / "results"] if request.param == "predict" else []

    def run(path):
        done = biounet(request.param, path, *rest)
        assert not (tmp_path / "results").exists()
        return done

    return run


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_a_truncated_model(use, model, tmp_path, share):
    content = model.read_bytes()
    path = tmp_path / "kurz.safetensors"
    path.write_bytes(content[: int(share * len(content))])
    refused(use(path), 3, path, "truncated", "take another copy or train again")


@pytest.mark.parametrize("place", [4, 100, 0.3, 0.7, 0.99999])
def test_a_model_with_a_changed_byte(use, model, tmp_path, place):
    content = bytearray(model.read_bytes())
    content[place if isinstance(place, int) else int(place * len(content))] ^= 4
    path = tmp_path / "anders.safetensors"
    path.write_bytes(content)
    refused(use(path), 3, path, "changed", "take another copy or train again")


def test_a_file_that_is_no_model(use, data, tmp_path):
    path = tmp_path / "image.safetensors"
    path.write_bytes((data / "images" / "zelle 5.tif").read_bytes())
    refused(use(path), 3, path, "not a biounet model")


def test_a_missing_model(biounet, data, tmp_path):
    done = biounet("predict", tmp_path / "gone.safetensors", data / "images", "--out", tmp_path / "o")
    refused(done, 3, tmp_path / "gone.safetensors", "there is no such model file; check the name")
    refused(biounet("check", tmp_path / "gone.safetensors"), 3, tmp_path / "gone.safetensors", "check the name")


# -- options of train


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--frobnicate"], ["No such option: --frobnicate"]),
        (["--set", "network.widht=3"], ["--set: setting 'network.widht' is not known; did you mean network.width?"]),
        (["--set", "network.width"], ["--set 'network.width' has no value; write --set key=value"]),
        (["--set", "network.width=many"], ["setting network.width (='many')", "integer"]),
        (["--set", "training.learning_rate=-1"], ["setting training.learning_rate (=-1)", "greater than 0"]),
        (["--config", "gone.toml"], ["--config gone.toml: cannot be read"]),
        (["--preset", "best"], ["--preset 'best' is not known; choose paper or standard"]),
        (["--network", "vit"], ["network 'vit' is not known; choose unet, fcn8s, fcn16s, fcn32s, patch_cnn"]),
        (["--budget", "soon"], ["--budget 'soon': write a time such as 15min, 90s or 2h"]),
        (["--budget", "-5min"], ["--budget '-5min': write a time"]),
        (["--budget", "0"], ["--budget '0': write a time"]),
        (["--budget", "1min", "--steps", "5"], ["--steps and --budget exclude each other"]),
        (["--steps", "0"], ["--steps 0: must be at least 1"]),
        (["--resume", "--overwrite"], ["--resume and --overwrite exclude each other"]),
        (["--validation", "zelle 7"], ["--validation zelle 7: no image of this name; there are zelle 14, zelle 5"]),
        (["--validation", "slices 2-5"], ["--validation '2-5': positions run from 0 to 2"]),
        (["--task", "cells"], ["setting data.task (='cells')", "'instances' or 'classes'"]),
        (["--unlabelled", "grey"], ["setting data.unlabelled (='grey')", "'background' or 'unknown'"]),
        (["--device", "tpu"], ["--device 'tpu' is not present; present: cpu"]),
        (["--images", "."], ["--images and --masks belong together"]),
    ],
)
def test_options_of_train(biounet, data, tmp_path, arguments, words):
    steps = [] if {"--steps", "--budget"} & set(arguments) else ["--steps", "1"]
    done = biounet("train", data, "--out", tmp_path / "m.safetensors", *steps, *arguments)
    refused(done, 2, *words)
    assert not (tmp_path / "m.safetensors").exists()


# -- options of predict


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--memory", "lots"], ["--memory 'lots': write a size such as 2GB or 512MB"]),
        (["--memory", "0"], ["--memory '0': write a size"]),
        (
            ["--memory", "1kB"],
            ["1 kB is too small for the smallest tile: the program takes ", "the least is "],
        ),
        (["--memory", "20kB", "--tile", "40"], ["--memory 20 kB is too small for --tile 40: the program takes "]),
        (["--tile", "0"], ["--tile 0: must be at least 1 pixel"]),
        (["--tile", "-8"], ["--tile -8: must be at least 1 pixel"]),
        (["--save", "labels,masks"], ["--save 'labels,masks': choose from labels, probabilities, overlay"]),
        (["--save", ","], ["--save '': choose from"]),
        (["--channels", "0,"], ["--channels ['0', '']: write names or positions from 0"]),
        (
            ["--engine", "openvivo"],
            ["--engine 'openvivo' is not known; choose auto, openvino, onnx, torch"],
        ),
        (["--precision", "fp8"], ["--precision 'fp8' is not known; choose fp32, bf16, int8"]),
        (["--tta", "turns"], ["--tta 'turns' is not known; choose none, flips, all"]),
        (
            ["--engine", "onnx", "--precision", "int8"],
            ["--precision int8 is not for --engine onnx; it is for openvino"],
        ),
        (["--least-agreement", "2"], ["--least-agreement"]),
        (["--device", "cuda:77"], ["--device 'cuda:77' is not present"]),
    ],
)
def test_options_of_predict(biounet, model, data, tmp_path, arguments, words):
    image = data / "images" / "zelle 5.tif"
    refused(biounet("predict", model, image, "--out", tmp_path / "o", *arguments), 2, *words)
    assert not list(tmp_path.glob("o/*"))


def test_the_least_memory_that_is_named_is_enough(biounet, model, data, tmp_path):
    image = data / "images" / "zelle 5.tif"
    done = biounet("predict", model, image, "--out", tmp_path, "--memory", "1kB")
    least = done.complaint.rpartition("the least is ")[2]
    assert biounet("predict", model, image, "--out", tmp_path, "--memory", least).code == 0


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.tif", b"II*\0\x08\0\0\0", ["a.tif: "]),
        ("a.tif", b"", ["a.tif: is empty (0 bytes)"]),
        ("a.png", b"\x89PNG\r\n\x1a\n", ["a.png: not a PNG file"]),
        ("a.jpg", b"\xff\xd8\xff", ["a.jpg: cannot be read as .jpg"]),
        ("a.txt", b"hello", ["a.txt: not an image format known here; known are .tif"]),
        ("a.npy", b"\x93NUMPY", ["a.npy: cannot be read as .npy"]),
    ],
)
def test_an_image_that_cannot_be_read(biounet, model, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    refused(biounet("predict", model, tmp_path / name, "--out", tmp_path / "o"), 3, *words)


def test_inputs_that_are_not_there(biounet, model, tmp_path):
    (tmp_path / "leer").mkdir()
    for given, words in (
        (tmp_path / "gone.tif", "there is no such file or folder; check the name"),
        (tmp_path / "*.tif", "there is no such file or folder; check the name"),
        (tmp_path / "leer", "holds no image of a known format (.tif"),
    ):
        refused(biounet("predict", model, given, "--out", tmp_path / "o"), 3, given, words)


def test_channels_that_the_image_has_not(biounet, model, data, tmp_path):
    image = data / "images" / "zelle 5.tif"
    done = biounet("predict", model, image, "--out", tmp_path, "--channels", "1")
    refused(done, 3, image, "--channels 1: not in", "which has channels 0 to 0, without names")
    done = biounet("predict", model, image, "--out", tmp_path, "--channels", "red")
    refused(done, 3, image, "--channels red: not in", "choose them with --channels")
    done = biounet("predict", model, image, "--out", tmp_path, "--channels", "0,0")
    refused(done, 3, image, "2 channels, the model takes 1")


# -- places that cannot be written


@pytest.mark.parametrize("name", ["file/m.safetensors", "file/deeper/m.safetensors"])
def test_train_cannot_write(biounet, data, tmp_path, name):
    (tmp_path / "file").touch()
    done = biounet("train", data, "--out", tmp_path / name, "--steps", 1)
    refused(done, 2, f"--out {tmp_path / name}: cannot be written")


def test_train_out_is_a_folder(biounet, data, tmp_path):
    done = biounet("train", data, "--out", tmp_path, "--steps", 1)
    refused(done, 2, f"--out {tmp_path}: is a folder; name a file, as model.safetensors")


@pytest.mark.parametrize("name", ["file", "file/deeper"])
def test_predict_cannot_write(biounet, model, data, tmp_path, name):
    (tmp_path / "file").touch()
    done = biounet("predict", model, data / "images", "--out", tmp_path / name)
    refused(done, 2, f"--out {tmp_path / name}: cannot be made a folder", "name another")


def test_show_cannot_write(biounet, data, tmp_path):
    (tmp_path / "file").touch()
    small = ["--set", "network.depth=1", "--set", "network.width=2", "--set", "training.tile=16"]
    done = biounet("show", data, "--out", tmp_path / "file" / "s.png", *small)
    refused(done, 1, tmp_path / "file" / "s.png", "cannot be written", "choose another folder")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(biounet, model, data, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    done = biounet("predict", model, data / "images" / "zelle 5.tif", "--out", tmp_path / "locked")
    refused(done, 1, "locked", "cannot be written")


# -- evaluate


def test_evaluate_without_anything(biounet, data, tmp_path):
    (tmp_path / "leer").mkdir()
    refused(biounet("evaluate", tmp_path / "gone", data), 3, tmp_path / "gone", "check the name")
    refused(biounet("evaluate", data / "masks", tmp_path / "gone"), 3, tmp_path / "gone", "check the name")
    refused(biounet("evaluate", tmp_path / "leer", data), 3, "holds no label images (NAME_labels.tif); predict first")
    refused(biounet("evaluate", data / "masks", tmp_path / "leer"), 3, "the folder is empty")


def test_evaluate_sizes_that_differ(biounet, data, tmp_path):
    for count in (5, 9, 14):
        tifffile.imwrite(tmp_path / f"zelle {count}_labels.tif", MASK[:, :-1])
    refused(biounet("evaluate", tmp_path, data), 3, "(48, 47) pixels, but the truth of zelle 14 has (48, 48)")


# -- and from outside


def test_a_process_ends_with_one_line_and_no_traceback(data, tmp_path):
    arguments = ["train", str(data / "gone"), "--out", str(tmp_path / "m"), "--json"]
    done = subprocess.run([sys.executable, "-m", "biounet", *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr == f"biounet: {data / 'gone'}: there is no such folder; check the name\n"


# -- formats that need a package of their own


@pytest.mark.parametrize(("name", "module", "extra"), [("x.czi", "pylibCZIrw.czi", "czi"), ("x.nd2", "nd2", "nd2"),
                                                       ("x.mrxs", "openslide", "slides")])  # fmt: skip
def test_a_format_whose_package_is_not_installed(read, biounet, model, tmp_path, monkeypatch, name, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    image = tmp_path / "data" / "images" / name
    image.write_bytes(b"anything")
    tifffile.imwrite(tmp_path / "data" / "masks" / "x.tif", MASK)
    command = f"pip install 'biounet[{extra}]'"
    refused(read(tmp_path / "data"), 3, image, "is not installed", command)
    refused(biounet("predict", model, image, "--out", tmp_path / "out"), 3, image, "is not installed", command)
    evaluated = biounet("evaluate", tmp_path / "data" / "masks", tmp_path / "data")
    refused(evaluated, 3, image, "is not installed", command)


def test_a_format_that_is_not_read(biounet, model, tmp_path):
    (tmp_path / "x.lif").write_bytes(b"anything")
    done = biounet("predict", model, tmp_path / "x.lif", "--out", tmp_path / "out")
    refused(done, 3, "x.lif: Leica LIF is not read", "save it as OME-TIFF")
