"""A real scheduler with two workers, one of them killed half-way: the files of one process."""

import os
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from biounet.errors import UsageError
from biounet.inference.engines import make_engine
from biounet.model_file import load_model, save_model
from biounet.prediction.cluster import Cluster, Recipe
from biounet.prediction.predict import predict_files
from biounet.prediction.request import Request


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
                pids = cluster._client.run(os.getpid)
                killed.append(next(iter(pids.values())))
                os.kill(killed[0], signal.SIGKILL)

    recipe = Recipe(tmp_path / "m.safetensors", "torch", "fp32", "cpu")
    with Cluster("local:2", recipe) as cluster:
        request = Request(tmp_path / "two", tile=16)
        done, small = predict_files(model, engine, inputs, request, listen=listen, cluster=cluster)
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
    with Cluster("local:2", Recipe(tmp_path / "m.safetensors", "torch", "fp32", "cpu")) as cluster:
        two = predicted("two", cluster=cluster)
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
