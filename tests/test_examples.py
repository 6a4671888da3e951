import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))


def test_there_are_examples():
    assert {"deformation.py", "weight_map.py"} <= {example.name for example in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_draws_its_picture(example, tmp_path):
    picture = tmp_path / "figure mit Umläuten.png"
    done = subprocess.run(
        [sys.executable, str(example), str(picture)], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    with Image.open(picture) as opened:
        pixels = np.asarray(opened.convert("L"))
    assert min(pixels.shape) > 100
    assert np.ptp(pixels) > 100


def test_without_a_name_the_picture_has_that_of_the_example(tmp_path):
    example = EXAMPLES[0]
    subprocess.run([sys.executable, str(example)], check=True, timeout=300, cwd=tmp_path)
    assert (tmp_path / f"{example.stem}.png").is_file()
