"""The memory that is allowed is what the process takes at most, measured by the system, in a process of its own."""

import re
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from biounet.model_file import save_model

# not resource.getrusage, which also counts what the process held that started this one
PEAK = """
import re, sys
from biounet import cli
code = cli.run(sys.argv[1:])
with open("/proc/self/status") as file:
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", file.read())[1]) << 10)
sys.exit(code)
"""
LIMIT = 800 * 10**6  # bytes; the program alone takes about half


@pytest.fixture
def peak(random_model, tmp_path):
    """Bytes that predicting an image of this many pixels a side takes at most, into the folder named as the limit."""
    save_model(tmp_path / "m.safetensors", random_model(3, "instances", depth=1))

    def run(side, memory, save):
        cells = np.random.default_rng(0).integers(0, 4000, (64, 64)).astype(np.uint16)
        pixels = cells.repeat(side // 64, 0).repeat(side // 64, 1)
        tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(256, 256))
        done = predict(tmp_path, memory, save)
        assert done.returncode == 0, done.stderr
        return int(done.stdout.splitlines()[-1])

    return run


def predict(folder, memory, save):
    """The model and the image of a folder, in a process of its own that prints its peak last."""
    command = ["predict", str(folder / "m.safetensors"), str(folder / "a.tif"), "--out", str(folder / memory)]
    options = ["--memory", memory, "--save", save, "--engine", "torch", "--device", "cpu", "-q"]
    return subprocess.run([sys.executable, "-c", PEAK, *command, *options], capture_output=True, text=True, timeout=480)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_limit_holds_where_results_alone_would_take_more(peak):
    """Two classes of 4480 x 4480 probabilities are 160 MB, and were held three times."""
    assert peak(4480, "800MB", "labels,probabilities") <= LIMIT


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_limit_holds_where_the_whole_image_would_take_more(peak, tmp_path):
    held = {memory: peak(3072, memory, "labels") for memory in ("800MB", "6GB")}
    assert held["800MB"] <= LIMIT < held["6GB"], held
    labels = [tifffile.imread(tmp_path / memory / "a_labels.tif") for memory in held]
    np.testing.assert_array_equal(*labels)
    assert labels[0].max() > 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_limit_holds_where_objects_are_traced(model, image_of, tmp_path):
    """The least limit that a refusal names is kept, with an object to every eighty pixels."""
    save_model(tmp_path / "m.safetensors", model())
    tifffile.imwrite(tmp_path / "a.tif", np.tile(image_of((500, 500)), (5, 5)), tile=(256, 256))
    refused = predict(tmp_path, "500MB", "table,rois,geojson")
    assert refused.returncode == 2
    least = re.search(r"are traced in memory, about (\d+) MB of 500 MB; raise --memory", refused.stderr)
    limit = int(least[1]) + 10  # what the program takes differs a little
    done = predict(tmp_path, f"{limit}MB", "table,rois,geojson")
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / f"{limit}MB" / "objects.csv").read_text().splitlines()) > 2500**2 / 100
    assert int(done.stdout.splitlines()[-1]) <= limit * 10**6
