"""An interrupted plate, and the same command again: the labels of one run, and nothing computed twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import yaozarrs

from biounet.errors import DataError
from biounet.images.formats import read_image
from biounet.inference.engines import make_engine
from biounet.model_file import save_model
from biounet.prediction import one_file
from biounet.prediction.inputs import find_inputs
from biounet.prediction.large import folder_of
from biounet.prediction.predict import predict_files
from biounet.results.request import Request

FIELDS = 6


class StopError(Exception):
    """What nothing catches."""


@pytest.fixture
def plates(plate, tmp_path):
    """Two copies: one to be interrupted, and one that is not."""
    other = tmp_path / "whole" / plate.name
    shutil.copytree(plate, other)
    return plate, other


@pytest.fixture
def computed(monkeypatch):
    """NAMEs whose results are made, in order; with ``computed.most`` the next one raises."""

    class Names(list):
        most = 1000

    names = Names()
    made = one_file.File.results

    def counted(self, model):
        if len(names) >= names.most:
            raise StopError
        names.append(self.done.name)
        return made(self, model)

    monkeypatch.setattr(one_file.File, "results", counted)
    return names


def predicted(model, plate, request):
    engine = make_engine(model, engine="torch", device="cpu")
    return predict_files(model, engine, find_inputs([plate]), request)


def contents(plate):
    """Every file and its bytes."""
    return {path.relative_to(plate): path.read_bytes() for path in plate.rglob("*") if path.is_file()}


def asked(out, **more):
    return Request(out, **{"save": ("labels", "overlay", "table"), "in_place": True} | more)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_same_command_does_the_rest(model, plates, tmp_path, computed, classes):
    plate, other = plates
    made = model(classes=classes)
    expected = predicted(made, other, asked(tmp_path / "one"))
    computed.clear()
    computed.most = 4
    with pytest.raises(StopError):
        predicted(made, plate, asked(tmp_path / "two"))
    assert len(computed) == 4
    finished = list(computed)
    computed.clear()
    computed.most = 1000
    done = predicted(made, plate, asked(tmp_path / "two"))
    assert computed == [one.name for one in done if one.name not in finished]
    assert [one.done_before for one in done] == [one.name in finished for one in done]
    assert contents(plate) == contents(other)
    yaozarrs.validate_zarr_store(str(plate))
    for one, two in zip(expected, done, strict=True):
        assert (one.name, one.objects, one.shape, one.plan) == (two.name, two.objects, two.shape, two.plan)
        assert [name.rpartition("/")[2] for name in one.files] == [name.rpartition("/")[2] for name in two.files]
    for name in ("objects.csv", f"{done[0].name}_overlay.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    run = json.loads((tmp_path / "two" / "run.json").read_text())
    assert [one["done_before"] for one in run["inputs"]] == [one.done_before for one in done]


def test_what_makes_other_labels_is_not_the_same(model, plate, tmp_path, computed):
    made, request = model(), asked(tmp_path / "out")
    predicted(made, plate, request)
    tifffile.imwrite(tmp_path / "mask.tif", np.ones((30, 40), np.uint8))
    before = contents(plate)
    others = [
        (replace(made, sha256="1" * 64), request),
        (replace(made, sha256=""), request),
        (replace(made, postprocessing=made.postprocessing | {"smallest_px": 7}), request),
        *((made, replace(request, **{name: value})) for name, value in (
            ("tta", "flips"), ("channels", ("0",)), ("pixel_size_um", (0.5,)), ("region", str(tmp_path / "mask.tif")),
        )),
    ]  # fmt: skip
    for other, asked_for in others:
        (*_, last) = predicted(other, plate, asked_for)
        assert "that this model did not make with these settings" in last.error
    assert contents(plate) == before
    computed.clear()
    same = predicted(made, plate, replace(request, tile=12, memory=4 << 30, overwrite=True))
    assert computed == []  # neither tiles nor limits change labels, and there is nothing to replace
    assert all(one.done_before for one in same)


def test_labels_and_images_that_were_changed_since_are_not_taken_for_done(model, plate, tmp_path, computed):
    zarr = pytest.importorskip("zarr")
    made, request = model(), asked(tmp_path / "out")
    edited, repainted, *_ = find_inputs([plate])
    predicted(made, plate, request)
    version = 2 if (edited / ".zattrs").exists() else 3
    labels = zarr.open_array(edited / "labels" / "biounet" / "0", mode="r+", zarr_format=version)
    labels[0, 0] = 9
    pixels = zarr.open_array(repainted / "s0", mode="r+", zarr_format=version)
    pixels[...] = pixels[...][::-1]
    computed.clear()
    done = predicted(made, plate, request)
    assert ["changed since" in one.error for one in done] == [True, True, *[False] * 4]
    assert computed == []
    done = predicted(made, plate, replace(request, overwrite=True))
    assert computed == [done[0].name, done[1].name]
    assert read_image(edited / "labels" / "biounet").array[0, 0] != 9


def test_a_file_beside_that_is_missing_is_made_again(model, plate, tmp_path, computed):
    made, request = model(), asked(tmp_path / "out")
    done = predicted(made, plate, request)
    before = contents(plate)
    (tmp_path / "out" / f"{done[2].name}_overlay.png").unlink()
    computed.clear()
    predicted(made, plate, request)
    assert computed == [done[2].name]
    computed.clear()
    predicted(made, plate, replace(request, save=(*request.save, "rois")))
    assert len(computed) == FIELDS
    assert contents(plate).keys() == before.keys()


def test_a_kill_just_before_the_list_leaves_nothing_undone(model, plates, tmp_path, computed):
    """One group is not listed; another was just moved away to be replaced; blocks are left."""
    plate, other = plates
    made, request = model(), asked(tmp_path / "out")
    predicted(made, other, replace(request, out=tmp_path / "one"))
    done = predicted(made, plate, request)
    field, second, *_ = find_inputs([plate])
    for file in ("zarr.json", ".zattrs"):
        if (field / "labels" / file).is_file():
            text = (field / "labels" / file).read_text()
            (field / "labels" / file).write_text(text.replace('"biounet"', ""))
    half = second / "labels" / f".{'0' * 12}.part.biounet"
    shutil.copytree(second / "labels" / "biounet", half)
    shutil.move(second / "labels" / "biounet", second / "labels" / f".{'0' * 12}.old.biounet")
    blocks = folder_of(request.out, done[0].name)
    (blocks / "0").mkdir(parents=True)
    computed.clear()
    predicted(made, plate, request)
    assert computed == []
    assert not blocks.exists()
    assert contents(plate) == contents(other)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_in_a_field_that_goes_block_by_block(model, plates, tmp_path):
    plate, other = plates
    save_model(tmp_path / "m.safetensors", replace(model(), sha256=""))
    tifffile.imwrite(tmp_path / "all.tif", np.ones((30, 40), np.uint8))
    same = ["--in-place", "--tile", "8", "--region", str(tmp_path / "all.tif"), "--engine", "torch", "--device", "cpu"]

    def command(path, out):
        call = [sys.executable, "-m", "biounet", "predict", str(tmp_path / "m.safetensors"), str(path), "--out", out]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen([*call, *same], stdout=-1, stderr=-1, text=True, env=environment)

    _, err = command(other, tmp_path / "one").communicate(timeout=200)
    killed = command(plate, tmp_path / "two")
    for _ in range(20_000):
        if (plate / "C" / "03" / "0" / "labels").exists() or list((tmp_path / "two").glob(".*_C03_0.blocks")):
            break
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    again = command(plate, tmp_path / "two")
    _, err = again.communicate(timeout=200)
    assert again.returncode == 0, err
    assert FIELDS > err.count("done before by the same model") >= 3
    assert contents(plate) == contents(other)
    assert not list((tmp_path / "two").glob(".*"))


def test_what_is_no_record_is_nothing_to_go_by(model, plate, tmp_path):
    field, *_ = find_inputs([plate])
    (field / "labels" / "biounet").mkdir(parents=True)
    for name in (".zattrs", "zarr.json"):
        (field / "labels" / "biounet" / name).write_text('{"biounet": 3, "attributes": {"biounet": []}}')
    engine = make_engine(model(), engine="torch", device="cpu")
    with pytest.raises(DataError, match="has labels 'biounet' that this model did not make"):
        predict_files(model(), engine, [field], asked(tmp_path / "out"))
