"""Every engine computes what fp32 torch computes, tiled or whole, and says how far it is from it."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from biounet.errors import BiounetError, DataError, UsageError
from biounet.inference import engines as engines_module
from biounet.inference.calibration import calibration_crops
from biounet.inference.convert import write_onnx, write_openvino
from biounet.inference.cost import UNetCost
from biounet.inference.engines import ENGINES, PRECISIONS, choose_engine, make_engine
from biounet.inference.tiling import plan_tiles, predict_tiled
from biounet.inference.torch_engine import torch_network
from biounet.model_file import Exported, load_model, save_model

NETWORKS = [
    {"depth": 2},
    {"depth": 1, "batch_norm": True, "in_channels": 3, "classes": 4},
    {"depth": 2, "ndim": 3, "pooling": [(1, 2, 2), (2, 2, 2)]},
    {"depth": 0},
]
FAST = [name for name in ENGINES if name != "torch"]
every_engine = pytest.mark.parametrize("name", ENGINES)


def images(model, count=8, side=40):
    rng = np.random.default_rng(0)
    shape = (len(model.channels), *(side,) * model.ndim)
    return [rng.standard_normal(shape).astype(np.float32) for _ in range(count)]


@pytest.fixture
def whole_model(random_model):
    """A model as training leaves it: golden sample and crops for int8."""

    def make(**arguments):
        model = random_model(**arguments)
        size = model.geometry.input_size((16,) * model.ndim)
        given = np.random.default_rng(1).standard_normal((1, len(model.channels), *size)).astype(np.float32)
        with torch.no_grad():
            logits = torch_network(model)(torch.from_numpy(given)).numpy()
        return replace(model.with_golden(given, logits), calibration=calibration_crops(images(model)))

    return make


@every_engine
@pytest.mark.parametrize("arguments", NETWORKS)
def test_logits_are_torchs(whole_model, name, arguments):
    model = whole_model(**arguments)
    engine = make_engine(model, engine=name, device="cpu")
    assert (engine.name, engine.precision, engine.geometry) == (name, "fp32", model.geometry)
    for count, output in ((1, 10), (3, 21)):
        size = model.geometry.input_size((output, output + 7, output)[: model.ndim])
        batch = np.random.default_rng(0).standard_normal((count, len(model.channels), *size)).astype(np.float32)
        with torch.no_grad():
            expected = torch_network(model)(torch.from_numpy(batch)).numpy()
        logits = engine(batch)
        assert (logits.dtype, logits.shape) == (np.float32, expected.shape)
        assert np.abs(logits - expected).max() <= 2e-5 * np.abs(expected).max()


@every_engine
@pytest.mark.parametrize("precision", PRECISIONS)
def test_tiled_equals_whole(whole_model, name, precision):
    """Exact in fp32; in bf16 and int8 the same up to the rounding of these, with the same labels but for ties."""
    if precision not in ENGINES[name].precisions:
        pytest.skip(f"{name} does not compute in {precision}")
    model = whole_model(depth=2, width=6)
    engine = choose_engine(model, engine=name, device="cpu", precision=precision, least_agreement=0).engine
    image = np.random.default_rng(0).standard_normal((1, 61, 90)).astype(np.float32)
    whole = predict_tiled(engine, image, engine.geometry, plan=plan_tiles((61, 90), engine.geometry, 90))
    for tile in (13, 40):
        tiled = predict_tiled(engine, image, engine.geometry, tile=tile)
        tolerance = {"fp32": 2e-5, "bf16": 2e-2, "int8": 2e-2}[precision] * np.abs(whole).max()
        assert np.abs(tiled - whole).max() <= tolerance
        decided = np.abs(whole[0] - whole[1]) > 2 * tolerance
        assert decided.mean() > 0.5
        assert (tiled.argmax(0) == whole.argmax(0))[decided].all()


@every_engine
def test_a_size_that_does_not_fit_is_refused(whole_model, name):
    """Torch refuses in its forward pass; the others would silently compute something else."""
    model = whole_model(depth=2)
    engine = make_engine(model, engine=name, device="cpu")
    with pytest.raises(UsageError, match="45"):
        engine(np.zeros((1, 1, 45, 44), np.float32))


@pytest.mark.parametrize("name", FAST)
def test_an_array_of_the_engine_stays_as_it_is(whole_model, name):
    """The memory of one call is not used by the next."""
    model = whole_model(depth=1)
    engine = make_engine(model, engine=name, device="cpu")
    batch = np.random.default_rng(0).standard_normal((1, 1, 26, 26)).astype(np.float32)
    first = engine(batch)
    kept = first.copy()
    engine(batch + 1)
    assert np.array_equal(first, kept)
    turned = np.ascontiguousarray(batch.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    assert np.array_equal(engine(turned), kept)


def test_auto_takes_the_first_that_is_installed(whole_model, monkeypatch):
    model = whole_model()
    assert make_engine(model, device="cpu").name == "openvino"
    present = engines_module.is_present
    for missing, expected in (({"openvino"}, "onnx"), ({"onnx"}, "torch"), ({"openvino", "onnxruntime"}, "torch")):
        monkeypatch.setattr(engines_module, "is_present", lambda n, missing=missing: n not in missing and present(n))
        assert make_engine(model, device="cpu").name == expected
    assert make_engine(model, device="cpu", precision="bf16").name == "torch"


def test_auto_leaves_out_what_does_not_agree(whole_model):
    """An engine that computes something else than the golden sample says is never used."""
    model = whole_model()
    given, expected = model.golden
    other = model.with_golden(given, expected * np.float32(1.001))
    choice = choose_engine(other, device="cpu")
    assert choice.engine.name == "torch"
    assert [note.split(":")[0] for note in choice.notes] == ["engine openvino is left out", "engine onnx is left out"]
    with pytest.raises(UsageError, match="--engine onnx does not compute what the model learnt: logits within 1.0e-03"):
        choose_engine(other, device="cpu", engine="onnx")


def test_an_exported_file_of_another_model_is_named(whole_model, tmp_path):
    given, expected = (model := whole_model()).golden
    write_onnx(model, tmp_path / "other.onnx")
    with pytest.raises(UsageError, match=r"--engine \S+other\.onnx: does not compute .*; is it exported from"):
        choose_engine(model.with_golden(given, -expected), device="cpu", engine=str(tmp_path / "other.onnx"))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("other", "said"),
    [({"depth": 1}, "logits of 1x2x40x40 in place of 1x2x16x16"), ({"classes": 3}, "logits of 1x3x16x16 in place of"),
     ({"in_channels": 2}, "it fails on inputs of 1 channel in 2D"), ({"seed": 5}, "logits within ")],
)  # fmt: skip
def test_an_exported_file_of_another_network_is_named_in_every_precision(
    whole_model, tmp_path, monkeypatch, precision, other, said
):
    model = whole_model(depth=2)
    write_onnx(whole_model(**{"depth": 2} | other), tmp_path / "other.onnx")
    words = (
        rf"--engine \S+other\.onnx: does not compute what the model learnt: {said}.*; is it exported from this model"
    )
    for name in ("openvino", "onnx") if precision == "fp32" else ("openvino",):
        if name == "onnx":
            monkeypatch.setattr(engines_module, "is_present", lambda package: package != "openvino")
        with pytest.raises(UsageError, match=words):
            choose_engine(model, device="cpu", engine=str(tmp_path / "other.onnx"), precision=precision)


def test_what_it_was_compared_with_is_told(whole_model, tmp_path, monkeypatch):
    model, options = whole_model(depth=1), {"precision": "int8", "device": "cpu", "least_agreement": 0}
    given = calibration_crops(images(model)[:3])
    found = choose_engine(model, calibration=given, **options).agreement
    assert (found.reference, found.sample) == ("fp32 torch", "1 crop of the images to calibrate on")
    twice = replace(model, calibration=(*model.calibration[:6], *model.calibration[:2]))  # as in files of before
    found = choose_engine(twice, **options).agreement
    assert found.sample == "2 crops of training images, which it was calibrated on too"
    found = choose_engine(twice, precision="bf16", device="cpu").agreement
    assert found.sample == "2 crops of training images"
    write_onnx(model, tmp_path / "m.onnx")
    exported = replace(model, exported=Exported(".onnx", tmp_path / "m.onnx", tmp_path / "m.onnx"))
    assert choose_engine(exported, **options).agreement.reference == "fp32 openvino"
    with pytest.raises(UsageError, match="int8 changes too much: against fp32 openvino, logits within"):
        choose_engine(exported, **options | {"least_agreement": 1.1})


def test_what_was_measured(whole_model):
    model = whole_model(width=8, depth=2)
    assert choose_engine(model, engine="torch", device="cpu").agreement is None  # it is what others are compared with
    exact = choose_engine(model, engine="openvino", device="cpu").agreement
    assert exact.is_exact
    assert (exact.labels, exact.sample, exact.reference) == (1.0, "golden sample", "fp32 torch")
    for name, precision in (("torch", "bf16"), ("openvino", "bf16"), ("openvino", "int8")):
        rough = choose_engine(model, engine=name, device="cpu", precision=precision, least_agreement=0).agreement
        assert 1e-4 < rough.difference < 0.3
        assert 0.9 < rough.labels <= 1
        assert (rough.sample, rough.reference) == ("2 crops of training images", "fp32 torch")
        assert rough.pixels == 2 * 40 * 40


def test_int8_that_changes_too_much_is_refused_unless_forced(whole_model):
    model = whole_model(depth=2, width=4)
    with pytest.raises(
        UsageError, match=r"--precision int8 changes too much: .*99.999% is needed; take fp32, or lower"
    ):
        choose_engine(model, device="cpu", precision="int8", least_agreement=0.99999)
    choice = choose_engine(model, device="cpu", precision="int8", least_agreement=0)
    if choice.agreement.labels < 0.998:
        assert "int8 is used although" in choice.notes[0]


def test_int8_needs_crops(whole_model):
    model = replace(whole_model(), calibration=())
    with pytest.raises(UsageError, match="carries none; name a folder of images like those it learnt"):
        make_engine(model, device="cpu", precision="int8")
    crops = calibration_crops(images(model))
    assert choose_engine(model, device="cpu", precision="int8", calibration=crops, least_agreement=0).agreement


def test_without_a_golden_sample_noise_is_compared(random_model):
    choice = choose_engine(random_model(depth=1), engine="onnx", device="cpu")
    assert choice.agreement.is_exact
    assert choice.agreement.sample == "noise"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"engine": "tensorrt"}, "--engine 'tensorrt' is not known; choose auto, openvino, onnx, torch or an exported"),
        ({"precision": "fp8"}, "--precision 'fp8' is not known; choose fp32, bf16, int8"),
        ({"engine": "torch", "precision": "int8"}, "--precision int8 is not for --engine torch; it is for openvino"),
        (
            {"engine": "onnx", "precision": "bf16"},
            "--precision bf16 is not for --engine onnx; it is for openvino",
        ),
        ({"engine": "nowhere.onnx"}, "--engine nowhere.onnx: there is no such file"),
        ({"device": "tpu"}, "--device 'tpu' is not present; present: cpu"),
        ({"device": "cpu:x"}, "--device 'cpu:x' is not present"),
        ({"device": ""}, "--device '' is not present"),
        ({"device": "cuda:99"}, "--device 'cuda:99' is not present"),
    ],
)
def test_options_that_cannot_be_meant(random_model, arguments, words):
    with pytest.raises(UsageError, match=words):
        make_engine(random_model(), **arguments)


def test_other_devices_than_the_cpu_are_torchs(random_model, monkeypatch):
    """Where a GPU is found, auto takes torch on it, and the engines of the CPU are refused."""
    monkeypatch.setattr("biounet.inference.torch_engine.pick_device", lambda device: "cuda")
    asked = []
    row = replace(ENGINES["torch"], make=lambda wanted: asked.append(wanted.device) or make_torch_on_cpu(wanted))
    monkeypatch.setitem(ENGINES, "torch", row)
    assert choose_engine(random_model()).engine.name == "torch"
    assert asked == ["cuda"]
    with pytest.raises(UsageError, match="--device cuda: openvino computes on the CPU; take --engine torch"):
        choose_engine(random_model(), engine="openvino", device="cuda")


def make_torch_on_cpu(wanted):
    return engines_module._make_torch(replace(wanted, device="cpu"))


@pytest.mark.parametrize(("name", "package"), [("openvino", "openvino"), ("onnx", "onnxruntime")])
def test_a_missing_package_is_named_with_its_remedy(random_model, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    words = (
        rf"--engine {name} needs the package {package}, which cannot be imported .*; pip install 'biounet\[{name}\]'"
    )
    with pytest.raises(UsageError, match=words):
        make_engine(random_model(), engine=name, device="cpu")


def test_a_missing_nncf_is_named(whole_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    model = whole_model(width=5)  # not in the cache
    with pytest.raises(UsageError, match=r"--precision int8 needs the package nncf.*pip install 'biounet\[fast\]'"):
        make_engine(model, device="cpu", precision="int8")


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_a_file_that_is_no_network(random_model, tmp_path, suffix):
    broken = tmp_path / f"broken{suffix}"
    broken.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"broken.*: cannot be loaded .*; export it again"):
        make_engine(random_model(), engine=str(broken), device="cpu")


def test_a_network_that_cannot_be_exported_falls_back_to_torch(random_model):
    class Odd(torch.nn.Module):
        geometry = random_model(depth=0).geometry

        def forward(self, x):
            x = x[:, :, 2:-2, 2:-2]
            return torch.cat([x, x if x.sum() > 0 else -x], 1)

    model = replace(random_model(depth=0), network={"name": "foreign", "factory": "odd"}, weights={})
    choice = choose_engine(model, device="cpu", factory=lambda *_: Odd())
    assert choice.engine.name == "torch"
    assert "cannot be exported to ONNX" in choice.notes[0]
    with pytest.raises(BiounetError, match="the network cannot be exported to ONNX .*; take --engine torch"):
        choose_engine(model, engine="onnx", device="cpu", factory=lambda *_: Odd())


def test_a_foreign_network_is_exported_with_free_sizes(random_model):
    """By torch's exporter, which other networks than U-Nets go through: any batch, any admissible size."""
    geometry = random_model(depth=0).geometry

    def factory(in_channels, classes):
        module = torch.nn.Sequential(
            torch.nn.Conv2d(in_channels, 3, 3), torch.nn.ReLU(), torch.nn.Conv2d(3, classes, 3)
        )
        module.geometry = geometry
        return module

    network = factory(1, 2)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    model = replace(random_model(depth=0), network={"name": "foreign", "factory": "mine"}, weights=weights)
    choice = choose_engine(model, device="cpu", factory=factory)
    assert (choice.engine.name, choice.notes) == ("openvino", ())
    for shape in ((1, 1, 9, 30), (3, 1, 21, 5)):
        batch = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        with torch.no_grad():
            expected = network(torch.from_numpy(batch)).numpy()
        assert np.abs(choice.engine(batch) - expected).max() <= 2e-5 * np.abs(expected).max()


def test_exported_files_predict_where_torch_cannot_be_imported(whole_model, tmp_path):
    """In a process of its own, in which importing torch fails: model file, exported network, labels."""
    model = whole_model(depth=1)
    save_model(tmp_path / "m.safetensors", model)
    write_onnx(model, tmp_path / "größe 1.onnx")
    write_openvino(tmp_path / "größe 1.onnx", tmp_path / "m.xml")
    image = np.random.default_rng(0).integers(0, 255, (1, 30, 41)).astype(np.uint8)
    np.save(tmp_path / "image.npy", image)
    code = (
        "import sys, json; sys.modules['torch'] = None\n"
        "import numpy as np, biounet\n"
        "from biounet.inference.engines import choose_engine\n"
        "from biounet.inference.predict import predict_array\n"
        "model, image, found = biounet.load('m.safetensors'), np.load('image.npy'), {}\n"
        "for name in ('größe 1.onnx', 'm.xml', 'onnx', 'openvino', 'auto'):\n"
        "    choice = choose_engine(model, engine=name)\n"
        "    labels = predict_array(model, choice.engine, image).labels\n"
        "    found[name] = [choice.engine.name, choice.agreement.is_exact, labels.tolist()]\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    from biounet.inference.predict import predict_array

    found = json.loads(done.stdout)
    names = {
        "größe 1.onnx": "openvino",
        "m.xml": "openvino",
        "onnx": "onnx",
        "openvino": "openvino",
        "auto": "openvino",
    }
    labels = predict_array(model, make_engine(model, engine="torch", device="cpu"), image).labels.tolist()
    assert found == {name: [engine, True, labels] for name, engine in names.items()}


def test_nothing_reports_to_anybody():
    """NNCF and OpenVINO send usage data when openvino_telemetry is there; it is never even imported."""
    code = (
        "import sys\n"
        "from biounet.inference.packages import import_or_refuse\n"
        "for name in ('openvino', 'nncf'): import_or_refuse(name, 'a test')\n"
        "from nncf.telemetry.decorator import telemetry\n"
        "print(type(telemetry).__name__, [n for n in sys.modules if n.startswith('openvino_telemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    name, modules = done.stdout.split()
    assert (name != "NNCFTelemetry", modules) == (True, "[]"), done.stderr


def test_model_files_keep_crops_and_older_ones_have_none(whole_model, tmp_path):
    model = whole_model(in_channels=2)
    save_model(tmp_path / "new.safetensors", model)
    loaded = load_model(tmp_path / "new.safetensors")
    assert len(loaded.calibration) == len(model.calibration) == 8
    for stored, crop in zip(loaded.calibration, model.calibration, strict=True):
        assert stored.dtype == np.float16
        assert np.array_equal(stored, crop)
    save_model(tmp_path / "old.safetensors", replace(model, calibration=()))
    assert load_model(tmp_path / "old.safetensors").calibration == ()


def test_the_cost_is_the_networks(whole_model):
    model = whole_model(width=5, depth=2)
    cost = make_engine(model, engine="torch", device="cpu").cost
    assert isinstance(cost, UNetCost)
    assert (cost.width, cost.pooling) == (5, ((2, 2), (2, 2)))


def test_signals_still_arrive_when_engines_have_come_and_gone(random_model, tmp_path):
    """OpenVINO's plugin gives the thread a stack for signals; a core that is gone must not leave its address."""
    pytest.importorskip("openvino")
    path = tmp_path / "model.safetensors"
    save_model(path, random_model())
    code = f"""
import gc, signal
import numpy as np
from biounet.inference.engines import make_engine
from biounet.model_file import load_model
model = load_model({str(path)!r})
for _ in range(3):
    first, second = (make_engine(model, engine="openvino") for _ in range(2))
    for engine in (first, second):
        engine(np.zeros((1, 1, 24, 24), np.float32))
    del first, engine
    gc.collect()
    del second
    gc.collect()
arrived = []
signal.signal(signal.SIGINT, lambda *_: arrived.append(1))
signal.raise_signal(signal.SIGINT)
assert arrived
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0
