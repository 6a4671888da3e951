"""biounet export, and what it wrote used in place of the model file, also where torch cannot be imported."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from biounet import cli
from biounet.model_file import load_model

FILES = {"onnx": ["model.onnx"], "openvino": ["model.bin", "model.xml"]}


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """The model for ONNX Runtime and OpenVINO, in a folder with an umlaut."""
    out = tmp_path_factory.mktemp("für andere")
    for target in FILES:
        assert cli.run(["export", str(model), "--to", target, "--out", str(out), "-q"]) == 0
    return out


def test_what_it_says(biounet, model, tmp_path):
    done = biounet("export", model, "--to", "onnx", "--out", tmp_path / "neu")
    assert done.code == 0
    assert "model.onnx: " in done.out
    assert "ONNX Runtime against torch: differs by" in done.out
    assert "on two images of" in done.out
    found = biounet("export", model, "--to", "onnx", "--out", tmp_path / "neu", "--overwrite", "--json").json
    assert found["files"] == [str(tmp_path / "neu" / "model.onnx")]
    assert (found["to"], found["model_sha256"], found["tolerance"]) == ("onnx", load_model(model).sha256, 1e-4)
    (proof,) = found["proofs"]
    assert proof["program"] == "ONNX Runtime"
    assert max(proof["golden_difference"], proof["other_difference"]) <= 1e-4


def test_files_that_are_there_stay(biounet, model, exported):
    before = (exported / "model.onnx").read_bytes()
    done = biounet("export", model, "--to", "onnx", "--out", exported)
    assert done.code == 2
    assert "model.onnx is there already; give --overwrite to replace it, or another --out" in done.complaint
    assert (exported / "model.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "tensorrt"], "--to 'tensorrt' is not known; choose onnx, openvino, torch, bioimageio"),
        (["--to", "onnx", "--license", "MIT"], "--author and --license belong to --to bioimageio, not to --to onnx"),
        ([], "Missing option '--to'"),
    ],
)
def test_options_that_cannot_be_meant(biounet, model, tmp_path, arguments, words):
    done = biounet("export", model, "--out", tmp_path / "out", *arguments)
    assert done.code == 2
    assert words in done.complaint
    assert not (tmp_path / "out").exists()


def test_what_is_no_model_file(biounet, exported, data, tmp_path):
    done = biounet("export", exported / "model.onnx", "--to", "openvino", "--out", tmp_path)
    assert done.code == 2
    assert "model.onnx is an exported form already; export the model file it was made from" in done.complaint
    done = biounet("export", data / "images" / "zelle 5.tif", "--to", "onnx", "--out", tmp_path)
    assert (done.code, "not a biounet model" in done.complaint) == (3, True)
    done = biounet("export", tmp_path / "no.safetensors", "--to", "onnx", "--out", tmp_path)
    assert (done.code, "there is no such model file" in done.complaint) == (3, True)
    done = biounet("train", data, "--out", tmp_path / "m.safetensors", "--from", exported / "model.onnx", "--steps", 1)
    assert (done.code, "is an exported form; give the model file it was made from" in done.complaint) == (2, True)


@pytest.mark.parametrize(("name", "engine"), [("model.onnx", "onnx"), ("model.xml", "openvino")])
def test_an_exported_form_proves_itself(biounet, model, exported, name, engine):
    done = biounet("check", exported / name)
    assert done.code == 0
    assert f"exported from the biounet model, checksum {load_model(model).sha256[:16]} as stated" in done.out
    assert f"golden sample, computed by {engine}: differs by" in done.out
    found = biounet("check", exported / name, "--json").json
    assert (found["passed"], found["engine"], found["exported"]) == (True, engine, "." + name.partition(".")[2])


def test_an_exported_form_that_computes_something_else(biounet, model, tmp_path):
    """A network of other weights with the passport of this model, its checksum set to fit: the golden sample tells."""
    import hashlib
    from dataclasses import replace

    from biounet.inference.convert import write_onnx
    from biounet.inference.passport import with_onnx_passport
    from biounet.model_file import make_passport

    known = load_model(model)
    other = replace(known, weights={name: value + np.float32(0.5) for name, value in known.weights.items()})
    path = tmp_path / "model.onnx"
    write_onnx(other, path)
    passport = make_passport(known, hashlib.sha256(path.read_bytes()).hexdigest())
    path.write_bytes(with_onnx_passport(path.read_bytes(), passport))
    done = biounet("check", path)
    assert done.code == 3
    assert "does not compute what it computed when it was made; take another copy or another onnx" in done.complaint
    done = biounet("predict", path, path, "--out", tmp_path / "out", "--engine", "onnx")
    assert done.code == 2
    assert "--engine onnx does not compute what the model learnt" in done.complaint


def test_exports_predict_where_torch_cannot_be_imported(biounet, model, exported, data, tmp_path):
    """The real command line in a process of its own, with nothing but the exported files: the labels of torch."""
    alone = tmp_path / "anderswo"
    shutil.copytree(exported, alone)
    image = data / "images" / "zelle 9.tif"
    code = (
        "import sys, json; sys.modules['torch'] = None\n"
        "from biounet import cli\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    code = cli.run(arguments)\n"
        "    if code: sys.exit(code)\n"
        "assert sys.modules['torch'] is None"
    )
    jobs = []
    for name in ("model.onnx", "model.xml"):
        jobs.append(["check", str(alone / name), "-q"])
        jobs.append(["predict", str(alone / name), str(image), "--out", str(tmp_path / name), "--save", "labels", "-q"])
    jobs.append(["predict", str(alone / "model.onnx"), str(image), "--out", str(tmp_path / "ort"), "--engine", "onnx"])
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(jobs)], capture_output=True, text=True, timeout=300, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    torch = biounet("predict", model, image, "--out", tmp_path / "torch", "--engine", "torch", "--device", "cpu")
    assert torch.code == 0
    labels = tifffile.imread(tmp_path / "torch" / "zelle 9_labels.tif")
    for name, engine in (("model.onnx", "openvino"), ("model.xml", "openvino"), ("ort", "onnx")):
        assert np.array_equal(tifffile.imread(tmp_path / name / "zelle 9_labels.tif"), labels)
        run = json.loads((tmp_path / name / "run.json").read_text())
        assert (run["engine"], run["model_sha256"]) == (engine, load_model(model).sha256)


def test_torch_export_needs_torch(exported, model, tmp_path):
    code = "import sys; sys.modules['torch'] = None\nfrom biounet import cli\nsys.exit(cli.run(sys.argv[1:]))"
    for command in (["export", str(model), "--to", "torch", "--out", str(tmp_path)], ["check", str(model)]):
        done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=300)
        assert done.returncode == 2
        assert "needs the package torch, which cannot be imported" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_in_python(model, tmp_path):
    import biounet

    made = biounet.export(model, "openvino", tmp_path)
    assert [file.name for file in made.files] == FILES["openvino"]
    opened = biounet.load(tmp_path / "model.xml")
    assert opened.sha256 == made.model_sha256
    assert biounet.check(tmp_path / "model.xml").passed
    image = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)
    ours = biounet.predict(tmp_path / "model.xml", image)
    assert np.array_equal(ours.labels, biounet.predict(model, image, engine="torch", device="cpu").labels)
