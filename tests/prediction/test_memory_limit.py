"""The memory that is allowed is what the process takes at most, measured by the system, in a process of its own."""

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


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_limit_holds_where_the_whole_image_would_take_more(random_model, tmp_path):
    save_model(tmp_path / "m.safetensors", random_model(3, "instances", depth=1))
    cells = np.random.default_rng(0).integers(0, 4000, (64, 64)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", cells.repeat(8, 0).repeat(8, 1).repeat(6, 0).repeat(6, 1), tile=(256, 256))

    def peak(memory):
        command = ["predict", str(tmp_path / "m.safetensors"), str(tmp_path / "a.tif"), "--out", str(tmp_path / memory)]
        options = ["--memory", memory, "--save", "labels", "--engine", "torch", "--device", "cpu", "-q"]
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *command, *options], capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout.splitlines()[-1])

    held = {memory: peak(memory) for memory in ("800MB", "6GB")}
    assert held["800MB"] <= LIMIT < held["6GB"], held
    labels = [tifffile.imread(tmp_path / memory / "a_labels.tif") for memory in held]
    np.testing.assert_array_equal(*labels)
    assert labels[0].max() > 1
