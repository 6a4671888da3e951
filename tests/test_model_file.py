"""The model file: what goes in comes out, the same bytes every time, and no changed bit passes."""

import json
import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

import biounet
from biounet import model_file
from biounet.errors import DataError, ModelFileError
from biounet.geometry import unet_geometry
from biounet.images.normalize import Normalisation
from biounet.model_file import FORMAT_VERSION, Model, load_model, save_model


def some_model(**changes):
    rng = np.random.default_rng(0)
    weights = {
        "head.weight": rng.standard_normal((2, 3, 1, 1)).astype(np.float32),
        "head.bias": np.array([0.5, -1], np.float32),
        "norm.num_batches_tracked": np.array(7, np.int64),
    }
    model = Model(
        network={"name": "unet", "width": 3, "depth": 1, "pooling": [[2, 2]]},
        geometry=unet_geometry(1),
        weights=weights,
        normalisation=Normalisation("dataset", (1.5,), (0.1 + 0.2,)),
        task="classes",
        classes=("background", "Zellkörper"),
        values=(0, 255),
        channels=("0",),
        pixel_size_um=(0.65, 0.65),
        postprocessing={"threshold": 0.45, "split": None},
        training={"seed": 3, "settings": {"network": {"width": 3}}, "score": 0.875, "rate": 1e-05},
        golden=(
            rng.standard_normal((1, 1, 20, 20)).astype(np.float32),
            rng.standard_normal((1, 2, 4, 4)).astype(np.float32),
        ),
    )
    return replace(model, **changes)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, some_model())
    return path


def header_end(data):
    return 8 + int.from_bytes(data[:8], "little")


def metadata_of(data):
    return json.loads(json.loads(data[8 : header_end(data)])["__metadata__"]["biounet"])


def rewritten(data, change):
    """The same file with metadata changed and the checksum left as it is."""
    metadata = metadata_of(data)
    change(metadata)
    text = json.dumps(metadata, sort_keys=True, separators=(",", ":"))
    return save(load(data), {"biounet": text})


def test_what_goes_in_comes_out(tmp_path):
    model = some_model()
    sha256 = save_model(tmp_path / "model.safetensors", model)
    found = load_model(tmp_path / "model.safetensors")
    assert found.sha256 == sha256
    assert re.fullmatch("[0-9a-f]{64}", sha256)
    for name in {f.name for f in fields(Model)} - {"weights", "golden", "sha256"}:
        assert getattr(found, name) == getattr(model, name), name
    assert found.weights.keys() == model.weights.keys()
    for name, value in model.weights.items():
        assert found.weights[name].dtype == value.dtype
        assert found.weights[name].shape == value.shape  # also of the counter, which has no axis
        assert np.array_equal(found.weights[name], value)
    assert all(np.array_equal(a, b) for a, b in zip(found.golden, model.golden, strict=True))
    assert found.ndim == 2


def test_what_may_be_absent_stays_absent(tmp_path):
    save_model(tmp_path / "m.safetensors", some_model(golden=None, pixel_size_um=None))
    found = load_model(tmp_path / "m.safetensors")
    assert found.golden is None
    assert found.pixel_size_um is None


def test_one_part_of_a_golden_sample_is_none(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    monkeypatch.setattr(model_file, "_NETWORK", "")  # lets a weight be called golden.input
    save_model(path, some_model(golden=None, weights={"golden.input": np.zeros((1, 1, 20, 20), np.float32)}))
    monkeypatch.undo()
    assert load_model(path).golden is None


def test_same_model_same_bytes_and_another_model_others(tmp_path):
    turned = some_model()
    shuffled = replace(
        turned,
        weights=dict(reversed(turned.weights.items())),
        training=dict(reversed(turned.training.items())),
    )
    other = replace(turned, training={**turned.training, "seed": 4})
    data = []
    for name, model in (("a", some_model()), ("b", shuffled), ("c", other)):
        save_model(tmp_path / name, model)
        data.append((tmp_path / name).read_bytes())
    assert data[0] == data[1]
    assert data[0] != data[2]


def test_saving_what_was_loaded_gives_the_same_bytes(file, tmp_path):
    save_model(tmp_path / "again.safetensors", load_model(file))
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def test_the_same_bytes_from_another_process(file):
    """Neither hash seeds nor what was imported before decide the order of anything."""
    code = (
        "import sys, importlib.util as u\n"
        "spec = u.spec_from_file_location('t', sys.argv[1]); t = u.module_from_spec(spec); spec.loader.exec_module(t)\n"
        "t.save_model(sys.argv[2], t.some_model())"
    )
    other = file.with_name("other.safetensors")
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    subprocess.run([sys.executable, "-c", code, __file__, str(other)], check=True, env=environment)
    assert other.read_bytes() == file.read_bytes()


def test_no_pickle_and_readable_by_the_format_alone(file):
    data = file.read_bytes()
    assert set(load(data)) == {
        "network.head.weight", "network.head.bias", "network.norm.num_batches_tracked", "golden.input", "golden.output",
    }  # fmt: skip
    assert data[8:9] == b"{"
    source = Path(biounet.__file__).parent.rglob("*.py")
    for module in source:
        text = module.read_text(encoding="utf-8")
        assert not re.search(r"\bimport pickle|from pickle|torch\.(load|save)\(|allow_pickle=True", text), module


def test_metadata_holds_no_date_path_or_host(file):
    """Keys are known one by one, and saving at another time and place changes nothing (the bytes are equal)."""
    metadata = metadata_of(file.read_bytes())
    assert set(metadata) == {
        "format_version", "network", "geometry", "normalisation", "task", "classes", "values", "channels",
        "pixel_size_um", "postprocessing", "training", "sha256",
    }  # fmt: skip
    text = json.dumps(metadata)
    assert not re.search(r"20\d\d-\d\d|\d\d:\d\d:\d\d", text)
    assert "/" not in text
    assert str(file.parent) not in text


def test_every_bit_of_the_header_counts(file):
    """Length, metadata and tensor descriptions with one bit flipped; bit 5 makes 1e-05 of 1E-05."""
    data = file.read_bytes()
    for position in range(header_end(data)):
        for bit in {position % 8, 5}:
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            file.write_bytes(changed)
            with pytest.raises(ModelFileError):
                load_model(file)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_bit_anywhere_counts(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bits") / "model.safetensors"
    save_model(path, some_model())
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(ModelFileError):
        load_model(path)


def test_a_changed_weight_is_named_as_damage(file):
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"model\.safetensors: the content does not match its checksum.*copy"):
        load_model(file)


@pytest.mark.parametrize(
    ("key", "value"), [("task", "instances"), ("values", [0, 254]), ("training", {"seed": 4}), ("classes", ["a", "b"])]
)
def test_changed_metadata_is_damage(file, key, value):
    file.write_bytes(rewritten(file.read_bytes(), lambda metadata: metadata.update({key: value})))
    with pytest.raises(ModelFileError, match="does not match its checksum"):
        load_model(file)


def test_a_checksum_taken_away_is_damage(file):
    file.write_bytes(rewritten(file.read_bytes(), lambda metadata: metadata.pop("sha256")))
    with pytest.raises(ModelFileError, match="does not match its checksum"):
        load_model(file)


def test_a_tensor_taken_away_or_added_is_damage(file):
    data = file.read_bytes()
    text = json.loads(data[8 : header_end(data)])["__metadata__"]
    tensors = load(data)
    for changed in (
        {k: v for k, v in tensors.items() if k != "network.head.bias"},
        {**tensors, "network.more": np.zeros(1, np.float32)},
        {**tensors, "network.head.weight": tensors["network.head.weight"].reshape(3, 2, 1, 1)},
    ):
        file.write_bytes(save(changed, text))
        with pytest.raises(ModelFileError, match="does not match its checksum"):
            load_model(file)


def test_truncated_at_any_length(file):
    data = file.read_bytes()
    lengths = {*range(40), *range(40, len(data), 37), header_end(data), len(data) - 1}
    for length in sorted(lengths):
        file.write_bytes(data[:length])
        with pytest.raises(ModelFileError, match="truncated"):
            load_model(file)


def test_something_appended_is_damage(file):
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ModelFileError, match="not a biounet model, truncated or changed"):
        load_model(file)


@pytest.mark.parametrize(
    "content",
    [
        save({"weight": np.zeros(3, np.float32)}),
        save({"weight": np.zeros(3, np.float32)}, {"format": "pt"}),
        save({"weight": np.zeros(3, np.float32)}, {"biounet": "no json"}),
        save({"weight": np.zeros(3, np.float32)}, {"biounet": "[1, 2]"}),
        save({"weight": np.zeros(3, np.float32)}, {"biounet": "{}"}),
        save({"weight": np.zeros(3, np.float32)}, {"biounet": '{"format_version":1,"x":NaN}'}),
        save({"weight": np.zeros(3, np.float32)}, {"biounet": "[" * 100_000}),
        b"PK\x03\x04 a zip file, as torch.save writes",
        b"\x80\x04\x95 a pickle",
        b"",
        b"\xff" * 100,
    ],
)
def test_files_of_other_programs(tmp_path, content):
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"foreign\.safetensors: not a biounet model.*take another copy or train"):
        load_model(path)


def test_a_newer_format_says_so(file):
    data = rewritten(file.read_bytes(), lambda metadata: metadata.update(format_version=FORMAT_VERSION + 1))
    file.write_bytes(data)
    with pytest.raises(ModelFileError, match=f"model format {FORMAT_VERSION + 1}; .* reads format 1: update biounet"):
        load_model(file)


@pytest.mark.parametrize(
    "change",
    [
        {"geometry": [{"margin": [8], "period": 2, "smallest": 18, "reach": [9, 9]}]},
        {"geometry": [{"margin": [8, 8], "period": 0, "smallest": 18, "reach": [9, 9]}]},
        {"normalisation": {"kind": "future", "mean": [], "std": []}},
        {"classes": None},
    ],
)
def test_sealed_but_senseless_content(file, monkeypatch, change):
    """Content that its own checksum fits, written by some other program."""
    monkeypatch.setattr(model_file, "_metadata", lambda model, known=model_file._metadata: {**known(model), **change})
    save_model(file, some_model())
    with pytest.raises(ModelFileError, match="not a complete biounet model.*train it again"):
        load_model(file)


def test_no_such_file_and_no_file_at_all(tmp_path):
    with pytest.raises(DataError, match="gone.safetensors: there is no such model file; check the name"):
        load_model(tmp_path / "gone.safetensors")
    with pytest.raises(DataError, match="cannot be read .*; give a model file"):
        load_model(tmp_path)


def test_a_loaded_model_can_be_replaced_and_removed(file):
    """As Windows demands: nothing keeps the file open or mapped."""
    model = load_model(file)
    before = {name: value.copy() for name, value in model.weights.items()}
    save_model(file, replace(some_model(), weights={"other": np.ones(5, np.float32)}))
    assert set(load_model(file).weights) == {"other"}
    file.unlink()
    assert all(np.array_equal(model.weights[name], value) for name, value in before.items())
    if Path("/proc/self/maps").exists():
        assert str(file) not in Path("/proc/self/maps").read_text()


def test_paths_with_spaces_and_umlauts(tmp_path):
    path = tmp_path / "Größe 3" / "mein Modell für Zellen.safetensors"
    sha256 = save_model(path, some_model())
    assert load_model(path).sha256 == load_model(str(path)).sha256 == sha256


def test_a_failed_write_leaves_the_old_model(file, monkeypatch):
    before = file.read_bytes()
    monkeypatch.setattr(Path, "write_bytes", lambda self, data: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(biounet.BiounetError, match="cannot be written .No space left."):
        save_model(file, some_model(task="instances"))
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]
