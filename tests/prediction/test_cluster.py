"""A real scheduler with two workers, one of them killed half-way: the files of one process."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from biounet.errors import DataError, UsageError
from biounet.inference import engines
from biounet.inference.engines import make_engine
from biounet.inference.export import export_onnx
from biounet.inference.onnx_engine import OnnxEngine
from biounet.inference.openvino_engine import OpenVinoEngine
from biounet.model_file import load_model, save_model
from biounet.prediction import cluster
from biounet.prediction.cluster import Cluster, Recipe
from biounet.prediction.predict import predict_files
from biounet.prediction.run_request import run_request
from biounet.results.request import Request


def test_two_workers_one_killed_half_way(random_model, tmp_path):
    save_model(tmp_path / "m.safetensors", random_model(3, "instances", depth=1))
    model = load_model(tmp_path / "m.safetensors")
    image = np.random.default_rng(0).integers(0, 4000, (120, 130)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image)
    engine = make_engine(model, engine="torch", device="cpu")
    tifffile.imwrite(tmp_path / "b.tif", image[:40, :40])
    inputs = [tmp_path / "a.tif", tmp_path / "b.tif"]
    predict_files(model, engine, inputs, Request(tmp_path / "one", tile=16))
    seen, killed = [], []

    def listen(text, done, total):
        if total and done not in seen:
            seen.append(done)
            if len(seen) == 5:
                pids = workers._client.run(os.getpid)
                killed.append(next(iter(pids.values())))
                os.kill(killed[0], signal.SIGKILL)

    recipe = Recipe(tmp_path / "m.safetensors", "torch", "fp32", "cpu")
    with Cluster("local:2", recipe) as workers:
        request = Request(tmp_path / "two", tile=16)
        done, small = predict_files(model, engine, inputs, request, listen=listen, cluster=workers)
    assert killed
    assert not done.error + small.error
    assert int(done.plan.split()[0]) == max(seen) > 50
    for name in ("a_labels.tif", "b_labels.tif"):
        one, two = (tifffile.imread(tmp_path / folder / name) for folder in ("one", "two"))
        np.testing.assert_array_equal(one, two)
        assert one.max() > 2


def test_a_region_on_a_cluster_is_that_of_one_process(random_model, tmp_path):
    """Objects that cross the edge of the region are followed into more tiles by the workers, too."""
    save_model(tmp_path / "m.safetensors", random_model(3, "instances", depth=1))
    model = load_model(tmp_path / "m.safetensors")
    image = np.random.default_rng(1).integers(0, 4000, (90, 100)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image)
    inside = np.zeros(image.shape, np.uint8)
    inside[20:41, 30:52] = 1
    tifffile.imwrite(tmp_path / "mask.tif", inside)
    engine = make_engine(model, engine="torch", device="cpu")
    request = Request(
        tmp_path / "one", save=("labels", "probabilities"), tile=12, region=str(tmp_path / "mask.tif"), report=False
    )
    said = {}

    def predicted(out, **more):
        said[out] = []
        asked = replace(request, out=tmp_path / out)
        listen = {"listen": lambda text, done, total: said[out].append(text)}
        (done,) = predict_files(model, engine, [tmp_path / "a.tif"], asked, **listen, **more)
        return done

    one = predicted("one")
    with Cluster("local:2", Recipe(tmp_path / "m.safetensors", "torch", "fp32", "cpu")) as workers:
        two = predicted("two", cluster=workers)
    for out in said:
        assert any("objects of the region go on into" in line for line in said[out]), said[out]
    assert (one.objects, one.plan, one.notes) == (two.objects, two.plan, two.notes)
    assert one.objects > 1
    for name in ("a_labels.tif", "a_probabilities.tif"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    labels = tifffile.imread(tmp_path / "two" / "a_labels.tif")
    assert labels[inside == 1].any()
    assert not labels[inside == 0].any()


def test_addresses_that_cannot_be_meant(tmp_path, monkeypatch):
    recipe = Recipe(tmp_path / "m.safetensors", "torch", "fp32", "cpu")
    with pytest.raises(UsageError, match="--cluster local:0: at least one process"), Cluster("local:0", recipe):
        pass
    monkeypatch.setattr("biounet.prediction.cluster._WAIT_S", 1)
    with (
        pytest.raises(UsageError, match="no scheduler answers.*give its address"),
        Cluster("tcp://127.0.0.1:9", recipe),
    ):
        pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"--cluster local:2 needs the package distributed.*biounet\[cluster\]"):
        Cluster("local:2", recipe)


class Future:
    """What a worker of `Here` returned."""

    def __init__(self, found):
        self.found = found

    def result(self):
        return self.found


class Here:
    """In place of dask.distributed: what is submitted is done at once, by a worker that stands in another folder."""

    as_completed = staticmethod(list)

    def __init__(self, folder):
        self.folder = folder

    def Client(self, address, timeout):  # noqa: N802
        return self

    def scheduler_info(self):
        return {"workers": {}}

    def submit(self, function, *arguments, **options):
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            return Future(function(*arguments))
        finally:
            os.chdir(before)

    def close(self):
        pass


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A cluster of one worker, in another folder than the one that one works in."""
    for name in ("elsewhere", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setitem(sys.modules, "distributed", Here(tmp_path / "elsewhere"))
    cluster._tools.cache_clear()


@pytest.fixture
def files(here, random_model):
    """``m.safetensors`` and ``a.tif`` in the folder that one works in."""
    model = random_model(3, "instances", depth=1, width=4)
    size = model.geometry.input_size((16, 16))
    given = np.random.default_rng(0).standard_normal((1, len(model.channels), *size)).astype(np.float32)
    model = model.with_golden(given, make_engine(model, engine="torch", device="cpu")(given))
    save_model("m.safetensors", model)
    tifffile.imwrite("a.tif", np.random.default_rng(0).integers(0, 4000, (60, 70)).astype(np.uint16))
    return Path("m.safetensors"), ["a.tif"]


def labels_of(files, out, **options):
    run_request(*files, Request(Path(out), save=("labels",), tile=24, report=False, **options))
    return tifffile.imread(Path(out) / "a_labels.tif")


def test_a_region_is_found_by_workers_in_another_folder(files):
    inside = np.zeros((60, 70), np.uint8)
    inside[10:31, 20:42] = 1
    tifffile.imwrite("mask.tif", inside)
    options = {"region": "mask.tif", "engine": "torch", "device": "cpu"}
    one = labels_of(files, "one", **options)
    assert one.max() > 0
    np.testing.assert_array_equal(labels_of(files, "two", cluster="tcp://x", **options), one)


def test_workers_calibrate_int8_as_the_process_that_calls_them(files, monkeypatch):
    pytest.importorskip("nncf")
    Path("cal").mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 4000, (40, 40)).astype(np.uint16)
        tifffile.imwrite(f"cal/{number}.tif", pixels)
    options = {"precision": "int8", "calibrate": "cal", "least_agreement": 0.0, "device": "cpu"}
    networks = []
    init = OpenVinoEngine.__init__

    def noted(self, source, geometry, *, precision="fp32", **more):
        networks.append(source if precision == "int8" else None)
        init(self, source, geometry, precision=precision, **more)

    monkeypatch.setattr(OpenVinoEngine, "__init__", noted)
    labels_of(files, "two", cluster="tcp://x", **options)
    first, second = (one for one in networks if one is not None)
    assert first == second  # the cache holds one network for each set of crops


def test_workers_take_the_file_of_an_engine_and_refuse_another_model(files, random_model, monkeypatch):
    pytest.importorskip("onnxruntime")
    Path("net.onnx").write_bytes(export_onnx(load_model(files[0])).files["model.onnx"])
    loaded = []
    init = OnnxEngine.__init__

    def noted(self, source, *arguments, **options):
        loaded.append((source, options["threads"]))
        init(self, source, *arguments, **options)

    monkeypatch.setattr(OnnxEngine, "__init__", noted)
    monkeypatch.setattr(engines, "is_present", lambda name: name != "openvino")
    labels_of(files, "two", cluster="tcp://x", engine="net.onnx", device="cpu")
    assert loaded == [(Path("net.onnx"), 0), (Path("net.onnx").resolve(), 0)]
    recipe = Recipe(files[0].resolve(), "torch", "fp32", "cpu", sha256=("0" * 64, None))
    with pytest.raises(DataError, match=r"m\.safetensors: it or its engine is another one for this worker"):
        cluster._tools(recipe)


def test_what_is_wrong_at_a_worker_is_one_line(files, monkeypatch, tmp_path):
    def refused(*_, **__):
        raise DataError("a.tif: is damaged")

    wrong = cluster.compute_part(
        Recipe(files[0].resolve(), "torch", "fp32", "cpu"), Path("a.tif"), 0, Request(tmp_path), tmp_path / "none", []
    )
    assert isinstance(wrong, DataError)
    assert "no work was begun here" in str(wrong)
    monkeypatch.setattr(cluster, "open_claimed", refused)
    with pytest.raises(DataError, match=r"^a\.tif: is damaged$"):
        labels_of(files, "two", cluster="tcp://x", engine="torch", device="cpu")


@pytest.mark.parametrize(("name", "package"), [("openvino", "openvino"), ("onnx", "onnxruntime"), ("torch", "torch")])
def test_threads_reach_every_engine(files, name, package, monkeypatch):
    pytest.importorskip(package)
    import torch

    said = []
    monkeypatch.setattr(torch, "set_num_threads", said.append)
    monkeypatch.setattr(engines, "is_present", lambda name: name != "torch" or package == "torch")
    _, engine = cluster._tools(Recipe(files[0].resolve(), name, "fp32", "cpu", threads=1))
    if name == "openvino":
        said.append(engine._options["INFERENCE_NUM_THREADS"])
    elif name == "onnx":
        said.append(engine._session.get_session_options().intra_op_num_threads)
    assert said == [1]
