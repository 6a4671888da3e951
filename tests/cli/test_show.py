import numpy as np
import pytest
from PIL import Image

SMALL = ["--set", "network.depth=1", "--set", "network.width=2", "--set", "training.tile=16"]


def test_a_picture_of_what_the_network_will_see(biounet, data, tmp_path):
    out = tmp_path / "Bilder für mich" / "samples.PNG"
    done = biounet("show", data, "--out", out, "--samples", "3", *SMALL)
    assert done.code == 0
    assert done.out == f"3 samples in {out}\n"
    assert "each sample 16x16 pixels of output" in done.err
    with Image.open(out) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape[2] == 3
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def test_the_samples_follow_from_the_seed(biounet, data, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert biounet("show", data, "--out", tmp_path / f"{name}.png", "--seed", seed, *SMALL, "-q").err == ""
    same, again, other = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in "abc")
    assert np.array_equal(same, again)
    assert same.shape != other.shape or not np.array_equal(same, other)


def test_json_is_one_object(biounet, data, tmp_path):
    found = biounet("show", data, "--out", tmp_path / "a.png", *SMALL, "--json").json
    assert (found["picture"], found["samples"]) == (str(tmp_path / "a.png"), 4)
    assert any("instances" in line for line in found["statements"])


def test_channels_are_those_asked_for(biounet, data, tmp_path):
    out = ["--out", tmp_path / "a.png", *SMALL]
    assert "channels 0, as asked for" in biounet("show", data, *out, "--channels", "0").err
    done = biounet("show", data, *out, "--channels", "7")
    assert done.code == 2
    assert "--channels 7: not in" in done.complaint


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--samples", "0"], 2, "--samples 0: must be at least 1"),
        (["--out", "a.jpg"], 2, "--out a.jpg: the picture is a PNG; name it as samples.png"),
        (["--preset", "papper"], 2, "--preset 'papper' is not known"),
        (["--set", "loss.w_0=3"], 2, "did you mean loss.w0"),
        (["--ndim", "3"], 3, "cannot be used"),
        (["--set", "data.ndim=3"], 3, "cannot be used"),
    ],
)
def test_what_cannot_be_shown(biounet, data, arguments, code, words):
    done = biounet("show", data, *arguments)
    assert done.code == code
    assert words in done.complaint
