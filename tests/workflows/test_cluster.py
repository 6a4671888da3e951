"""A real scheduler with two workers, one of them killed half-way: the files of one process."""

import os
import signal
import sys

import numpy as np
import pytest
import tifffile

from biounet.errors import UsageError
from biounet.inference.engines import make_engine
from biounet.model_file import load_model, save_model
from biounet.workflows.cluster import Cluster, Recipe
from biounet.workflows.predict import predict_files
from biounet.workflows.request import Request


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


def test_addresses_that_cannot_be_meant(tmp_path, monkeypatch):
    recipe = Recipe(tmp_path / "m.safetensors", "torch", "fp32", "cpu")
    with pytest.raises(UsageError, match="--cluster local:0: at least one process"), Cluster("local:0", recipe):
        pass
    monkeypatch.setattr("biounet.workflows.cluster._WAIT_S", 1)
    with (
        pytest.raises(UsageError, match="no scheduler answers.*give its address"),
        Cluster("tcp://127.0.0.1:9", recipe),
    ):
        pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"--cluster local:2 needs the package distributed.*biounet\[cluster\]"):
        Cluster("local:2", recipe)
