import inspect
import json
from dataclasses import fields

import pytest
from pydantic import ValidationError

from biounet.errors import UsageError
from biounet.geometry import unet_geometry
from biounet.inference.tiling import DEFAULT_TILE
from biounet.networks.build import NETWORKS
from biounet.networks.unet import UNet
from biounet.planning.choices import choose
from biounet.planning.fingerprint import Fingerprint
from biounet.samples.augment import Augmentation
from biounet.samples.border_weights import border_weights, weight_map
from biounet.samples.elastic import displacement_field, elastic_deformation
from biounet.settings import NETWORK_TAKES, PRESETS, Settings, check_settings, paper, read_settings, standard


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def test_the_paper_preset_is_the_paper():
    """Ronneberger et al. 2015: figure 1, equation 2 and section 3."""
    settings = paper()
    assert settings.preset == "paper"
    assert (settings.network.width, settings.network.depth) == (64, 4)
    assert settings.network.batch_norm is False
    assert (settings.loss.w0, settings.loss.sigma_px, settings.loss.reading) == (10, 5, "multiply")
    assert settings.loss.class_balance
    training = settings.training
    assert (training.optimizer, training.momentum, training.batch_size, training.tile) == ("sgd", 0.99, 1, 388)
    assert (training.weight_decay, training.clip, training.averaging, training.schedule) == (0, 0, 0, "constant")
    assert (settings.augmentation.elastic_grid, settings.augmentation.elastic_std_px) == (3, 10)
    assert settings == Settings()


def test_the_papers_numbers_stand_once():
    """What functions take unasked is what the paper preset says."""
    settings = paper()
    loss, augmentation, network = settings.loss, settings.augmentation, settings.network
    for function in (border_weights, weight_map):
        assert (defaults(function)["w0"], defaults(function)["sigma"]) == (loss.w0, loss.sigma_px)
    assert defaults(weight_map)["reading"] == loss.reading
    for function in (elastic_deformation, displacement_field):
        assert defaults(function)["grid"] == augmentation.elastic_grid
        assert defaults(function)["std_px"] == augmentation.elastic_std_px
    unet = defaults(UNet.__init__)
    assert {name: unet[name] for name in ("width", "depth", "pooling", "batch_norm", "dropout")} == {
        name: getattr(network, name) for name in ("width", "depth", "pooling", "batch_norm", "dropout")
    }
    assert defaults(unet_geometry)["depth"] == network.depth
    assert settings.training.tile == DEFAULT_TILE


def test_augmentation_settings_are_those_of_the_augmentation():
    found = Fingerprint(9, (512, 512), 1, (1.0, 1.0))
    for preset in PRESETS.values():
        settings, _ = choose(preset(), found, task="instances")
        assert set(settings.augmentation.model_dump()) == {f.name for f in fields(Augmentation)}
        Augmentation(**settings.augmentation.model_dump())


def test_presets_differ_and_say_which_they_are():
    assert {name: make().preset for name, make in PRESETS.items()} == {"paper": "paper", "standard": "standard"}
    assert standard() != paper()
    assert standard().network.width < paper().network.width
    assert read_settings() == standard()
    assert read_settings("paper") == paper()


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError, match="frozen"):
        paper().network.width = 3


def test_single_settings():
    settings = read_settings(
        "paper",
        overrides=[
            "network.width=8",
            " network.batch_norm = true",
            "training.optimizer=adamw",
            "training.learning_rate=1e-4",
            "augmentation.scale=[0.5, 2]",
            "network.pooling=[[1, 2, 2], [2, 2, 2]]",
            "data.validation=slices 20-23",
            "augmentation.rotate_in_space=False",
            "data.channels=[0, 2]",
        ],
    )
    assert settings.network.width == 8
    assert settings.network.batch_norm is True
    assert settings.training.optimizer == "adamw"
    assert settings.training.learning_rate == 1e-4
    assert settings.augmentation.scale == (0.5, 2)
    assert settings.network.pooling == ((1, 2, 2), (2, 2, 2))
    assert settings.data.validation == "slices 20-23"
    assert settings.augmentation.rotate_in_space is False
    assert settings.data.channels == (0, 2)
    assert read_settings(overrides=["data.channels=DAPI,2"]).data.channels == ("DAPI", "2")
    assert read_settings(overrides=["data.channels=1"]).data.channels == ("1",)
    assert settings.network.depth == 4
    assert settings.preset == "paper"


def test_a_setting_can_be_taken_back_to_none():
    assert read_settings(overrides=["data.task=classes", "data.task=null"]).data.task is None
    assert read_settings(overrides=["data.task=classes", "data.task=None"]).data.task is None


def test_a_group_as_json():
    settings = read_settings(overrides=['network={"width": 8, "depth": 2}'])
    assert (settings.network.width, settings.network.depth, settings.network.dropout) == (8, 2, 0.1)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("network.widht", "did you mean network.width"),
        ("networks.width", "did you mean network.width"),
        ("width", "did you mean network.width"),
        ("learning_rate", "did you mean training.learning_rate"),
        ("training.lerning_rate", "did you mean training.learning_rate"),
        ("bath_size", "did you mean training.batch_size"),
        ("training.xyzzy", "known: training.optimizer, .*training.workers$"),
        ("xyzzy", "known: augmentation, data, loss, network, training$"),
        ("network.width.x", "did you mean network.width"),
        ("network.", "known: network.name, network.width"),
        ("", "known: augmentation, data"),
    ],
)
def test_an_unknown_key_is_refused_with_what_was_meant(key, meant):
    with pytest.raises(UsageError, match=f"--set: setting '{key}' is not known; .*{meant}"):
        read_settings(overrides=[f"{key}=3"])


def test_the_preset_is_no_setting():
    """It would rename the settings without changing them."""
    with pytest.raises(UsageError, match="--set: the preset is chosen with --preset"):
        read_settings(overrides=["preset=paper"])


def test_a_group_without_a_key():
    with pytest.raises(UsageError, match="--set: network is a group; set one of network.name, network.width"):
        read_settings(overrides=["network=5"])


def test_an_override_without_a_value():
    with pytest.raises(UsageError, match="--set 'network.width' has no value; write --set key=value"):
        read_settings(overrides=["network.width"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("network.width=0", r"network.width \(=0\): .*greater than or equal to 1"),
        ("network.width=2.5", r"network.width \(=2.5\): .*valid integer"),
        ("network.width=wide", r"network.width \(='wide'\): .*valid integer"),
        ("network.width=", r"network.width \(=''\): .*valid integer"),
        ("network.batch_norm=perhaps", r"network.batch_norm \(='perhaps'\): .*valid boolean"),
        ("network.pooling=[[2,2],[2,2],[2,2],[2,2],[2,2],[2,2],[2,2],[2,2]]", r"network.pooling .*at most 7 items"),
        ("network.depth=8", r"network.depth \(=8\): .*less than or equal to 7"),
        ("training.momentum=1", r"training.momentum \(=1\): .*less than 1"),
        ("training.learning_rate=0", r"training.learning_rate \(=0\): .*greater than 0"),
        ("training.learning_rate=NaN", r"training.learning_rate \(=nan\): .*finite"),
        ("training.learning_rate=Infinity", r"training.learning_rate \(=inf\): .*finite"),
        ("training.optimizer=adam", r"training.optimizer \(='adam'\): .*'sgd' or 'adamw'"),
        ("loss.reading=plus", r"loss.reading \(='plus'\): .*'multiply' or 'sum'"),
        ("augmentation.scale=[1]", r"augmentation.scale.1 .*required"),
        ("augmentation.scale=2", r"augmentation.scale \(=2\): .*tuple; write several values as \[1, 2\]"),
        ("network.width=1e9", r"network.width \(=1000000000.0\): .*less than or equal to 1024"),
        ("training.tile=0", r"training.tile \(=0\): .*greater than or equal to 1"),
        ("data.ndim=4", r"data.ndim \(=4\): .*2 or 3"),
        ("data.validation_share=1", r"data.validation_share \(=1\): .*less than 1"),
    ],
)
def test_values_that_are_not_allowed(text, words):
    with pytest.raises(UsageError, match=f"setting {words}"):
        read_settings(overrides=[text])


def test_every_number_is_bounded():
    """Each number of every section refuses something: no setting takes just any value."""
    for section, values in standard().model_dump(exclude={"preset"}).items():
        for key, value in values.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                with pytest.raises(UsageError, match=f"setting {section}.{key}"):
                    read_settings(overrides=[f"{section}.{key}=-1e9"])


def test_unknown_preset():
    with pytest.raises(UsageError, match="--preset 'standart' is not known; choose paper or standard"):
        read_settings("standart")


@pytest.mark.parametrize("start", ["", "\ufeff"])  # Windows editors write a mark at the start
@pytest.mark.parametrize("name", ["settings.toml", "Einstellungen für Zellen.TOML", "settings.json"])
def test_a_file(tmp_path, name, start):
    values = {"network": {"width": 8}, "training": {"optimizer": "sgd"}, "data": {"validation": "Zellkörper 3"}}
    path = tmp_path / name
    toml = '[network]\nwidth = 8\n[training]\noptimizer = "sgd"\n[data]\nvalidation = "Zellkörper 3"\n'
    path.write_text(start + (json.dumps(values) if name.endswith("json") else toml), encoding="utf-8")
    settings = read_settings(file=path)
    assert settings.network.width == 8
    assert settings.training.optimizer == "sgd"
    assert settings.data.validation == "Zellkörper 3"
    assert settings.network.depth == standard().network.depth


def test_later_sources_win(tmp_path):
    """Preset, then the file, then --set in their order, then options."""
    path = tmp_path / "s.toml"
    path.write_text("[network]\nwidth = 5\ndepth = 3\n[data]\nndim = 3\n")

    def width(*overrides, **values):
        given = {f"network.{key}": value for key, value in values.items()}
        return read_settings("paper", file=path, overrides=overrides, values=given).network.width

    assert width() == 5
    assert width("network.width=6") == 6
    assert width("network.width=6", "network.width=7") == 7
    assert width("network.width=6", width=8) == 8
    assert width("network.width=6", width=None) == 6
    settings = read_settings("paper", file=path, values={"data.ndim": 2})
    assert (settings.network.depth, settings.data.ndim) == (3, 2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[network", "cannot be read as TOML or JSON"),
        ("[network]\nwidth = 8\nwidth = 9", "cannot be read as TOML or JSON"),
        ("[network]\nwide = 8", "s.toml: setting 'network.wide' is not known; did you mean network.width"),
        ("network = 8", "s.toml: network is a group"),
        ('preset = "paper"', "s.toml: the preset is chosen with --preset"),
    ],
)
def test_a_bad_file(tmp_path, content, words):
    path = tmp_path / "s.toml"
    path.write_text(content)
    with pytest.raises(UsageError, match=f"--config .*{words}"):
        read_settings(file=path)


def test_a_file_that_is_no_table_or_not_there(tmp_path):
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "latin.toml").write_bytes("# für\n".encode("latin-1"))
    with pytest.raises(UsageError, match="list.json: must hold a table of settings, not a list"):
        read_settings(file=tmp_path / "list.json")
    with pytest.raises(UsageError, match="latin.toml: cannot be read"):
        read_settings(file=tmp_path / "latin.toml")
    with pytest.raises(UsageError, match="gone.toml: cannot be read .*No such file"):
        read_settings(file=tmp_path / "gone.toml")


def test_settings_of_a_model_file_come_back():
    for preset in PRESETS:
        settings = read_settings(preset, overrides=["network.pooling=[[1, 2, 2]]", "data.channels=[0]"])
        assert check_settings(json.loads(json.dumps(settings.model_dump(mode="json")))) == settings
    with pytest.raises(UsageError, match="setting future"):
        check_settings({"future": {}})


def test_every_section_refuses_unknown_keys():
    sections = [Settings, *(type(getattr(paper(), name)) for name in Settings.model_fields if name != "preset")]
    for section in sections:
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            section(xyzzy=1)


# -- networks other than the U-Net


def test_a_patch_classifier_learns_from_balanced_windows():
    settings = read_settings("standard", overrides=["network.name=patch_cnn", "training.batch_size=16"])
    assert (settings.network.width, settings.training.tile, settings.training.balanced) == (48, 1, True)
    assert settings.training.batch_size == 16  # what is asked for comes last
    assert read_settings("standard").training.balanced is False
    assert read_settings("paper", values={"network.name": "fcn8s"}).network.width == 64


def test_every_network_can_be_chosen_and_has_the_settings_that_its_module_takes():
    assert set(NETWORK_TAKES) == set(NETWORKS) - {"ensemble"}  # which is made of trained ones
    for name, keys in NETWORK_TAKES.items():
        taken = set(inspect.signature(NETWORKS[name]).parameters)
        assert taken - {"in_channels", "classes", "ndim", "stride"} == set(keys), name


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["network.window=33"], "setting network.window means nothing for network unet; it is one of patch_cnn"),
        (["network.name=fcn8s", "network.depth=3"], "network.depth means nothing for network fcn8s; it is one of unet"),
        (["network.name=vit"], "network 'vit' is not known; choose unet, fcn8s, fcn16s, fcn32s, patch_cnn"),
    ],
)
def test_settings_of_another_network_are_refused(given, words):
    with pytest.raises(UsageError, match=words):
        read_settings(overrides=given)
