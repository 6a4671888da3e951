"""Several processes that train one network: the same model as one, ended, killed and resumed like one."""

import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from biounet.errors import BiounetError, UsageError
from biounet.model_file import load_model
from biounet.training.run_files import RunFiles
from biounet.training.state import read_facts
from biounet.training.together import ALONE, check_batch
from biounet.training.train import train

_STEPS = 4


def settings_of(tiny, *overrides, preset="standard"):
    """A global batch of two samples, each with dropout of its own."""
    return tiny("training.batch_size=2", "network.dropout=0.3", *overrides, preset=preset)


def losses(record):
    return [event.loss for event in record if type(event).__name__ == "StepDone"]


def largest_difference(a, b):
    """Between the weights of two models, relative to the largest weight of each tensor."""
    assert a.weights.keys() == b.weights.keys()
    return max(np.abs(a.weights[k] - b.weights[k]).max() / max(np.abs(b.weights[k]).max(), 1e-6) for k in a.weights)


@pytest.fixture(scope="module")
def both(cells, tiny, tmp_path_factory):
    """The same training in two processes and in one: files and events."""
    folder = tmp_path_factory.mktemp("together")
    made = {}
    for count in (2, 1):
        events = []
        out = folder / f"{count}.safetensors"
        train(cells, out, settings=settings_of(tiny), steps=_STEPS, processes=count, listen=events.append)
        made[count] = (out, events)
    return made


def test_two_processes_give_the_model_of_one(both):
    (two, heard), (one, alone) = both[2], both[1]
    assert losses(heard) == pytest.approx(losses(alone), rel=1e-5)
    assert largest_difference(load_model(two), load_model(one)) < 1e-5
    assert [type(event).__name__ for event in heard] == [type(event).__name__ for event in alone]
    assert sorted(path.name for path in RunFiles(two).folder.iterdir()) == sorted(
        path.name for path in RunFiles(one).folder.iterdir()
    )
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("until", [1, 0.5])
def test_batch_statistics_are_those_of_all_samples(cells, tiny, until):
    """A bias in front of batch normalisation has no gradient but rounding, which AdamW makes steps of: left out."""
    kept = f"training.batch_statistics_until={until}"
    settings = settings_of(tiny, "training.validations=1", "network.batch_norm=true", kept)
    events = {1: [], 2: []}
    models = [
        train(cells, settings=settings, steps=_STEPS, processes=count, listen=events[count].append) for count in (2, 1)
    ]
    assert losses(events[2]) == pytest.approx(losses(events[1]), rel=1e-5)
    kernels = [replace(m, weights={k: v for k, v in m.weights.items() if v.ndim > 1}) for m in models]
    assert largest_difference(*kernels) < 1e-4


def test_a_budget_is_turned_into_steps_once_for_all(cells, tiny, tmp_path):
    out = tmp_path / "m.safetensors"
    events = []
    train(cells, out, settings=settings_of(tiny), budget=6, processes=2, listen=events.append)
    planned = next(event for event in events if type(event).__name__ == "Planned")
    assert "a budget of 6 s buys" in planned.statements[-1]
    assert len(losses(events)) == planned.steps == load_model(out).training["steps"] >= 1


def test_stopped_by_a_signal_and_resumed_it_is_the_same_file(both, cells, tiny, tmp_path):
    out = tmp_path / "m.safetensors"

    def stop(event):
        if type(event).__name__ == "StepDone" and event.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(cells, out, settings=settings_of(tiny), steps=_STEPS, processes=2, listen=stop)
    facts, step = read_facts(RunFiles(out).state)
    assert 1 <= step < _STEPS
    assert facts["processes"] == 2
    assert load_model(out).training["steps_done"] == step
    train(cells, out, settings=settings_of(tiny), processes=2, existing="resume")
    assert out.read_bytes() == both[2][0].read_bytes()


def test_where_a_process_dies_the_run_ends_with_one_line_and_goes_on_with_fewer(both, cells, tiny, tmp_path):
    out = tmp_path / "m.safetensors"

    def kill_another(event):
        if type(event).__name__ == "StepDone" and event.step == 2:
            max(multiprocessing.active_children(), key=lambda child: child.pid).kill()

    settings = settings_of(tiny, "training.state_seconds=0.001")
    with pytest.raises(BiounetError, match="process.* of this training (died|ended)") as caught:
        train(cells, out, settings=settings, steps=500, processes=2, listen=kill_another)
    assert "\n" not in str(caught.value)
    assert not multiprocessing.active_children()
    events = []
    step = read_facts(RunFiles(out).state)[1]
    assert step >= 1

    def stop(event):
        events.append(event)
        if type(event).__name__ == "StepDone":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(cells, out, settings=settings, existing="resume", listen=stop)
    planned = next(event for event in events if type(event).__name__ == "Planned")
    of_each, alone = max(1, torch.get_num_threads() // 2), torch.get_num_threads()
    threads = f"threads {of_each} (now {alone}), " if of_each != alone else ""
    assert planned.statements[-1] == (
        f"resumed at step {step} of 500; it began with {threads}processes 2 (now 1), "
        "so the result may differ in rounding"
    )


def test_what_goes_wrong_in_a_process_is_told_as_what_it_is(cells, tiny, tmp_path):
    """A folder where the state is to be written cannot be replaced by a file."""
    out = tmp_path / "m.safetensors"
    state = RunFiles(out).state

    def in_the_way(event):
        if type(event).__name__ == "Planned":
            state.unlink()
            state.mkdir()
            (state / "a file").write_text("")

    with pytest.raises(BiounetError, match=r"state\.safetensors") as caught:
        train(cells, out, settings=settings_of(tiny), steps=2, processes=2, listen=in_the_way)
    assert "\n" not in str(caught.value)
    assert not multiprocessing.active_children()


def test_what_the_first_process_refuses_is_the_error_of_all(cells, tiny, tmp_path):
    wild = settings_of(tiny, "training.learning_rate=1e30", "training.clip=0", preset="paper")
    with pytest.raises(BiounetError, match="the training diverged: after step"):
        train(cells, tmp_path / "m.safetensors", settings=wild, steps=20, processes=2)
    assert not multiprocessing.active_children()


def test_accelerate_starts_them_too_and_only_the_first_speaks(both, cells, write_folder, tmp_path):
    data = write_folder(cells)
    pairs = ("network.width=2", "network.depth=1", "network.batch_norm=false", "network.dropout=0.3",
             "training.tile=16", "training.validations=2", "training.precision=fp32",
             "training.batch_size=2")  # fmt: skip
    settings = [word for pair in pairs for word in ("--set", pair)]
    how = ["--steps", str(_STEPS), *settings, "--device", "cpu"]
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m"]  # fmt: skip
    said = {}
    for name, words in {"launched": launch, "own": ["-m"]}.items():
        more = [] if name == "launched" else ["--processes", "2"]
        done = subprocess.run(
            [sys.executable, *words, "biounet", "train", data, "--out", tmp_path / name, *how, *more],
            capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said[name] = done.stderr
    assert said["launched"].count("held back: ") == said["own"].count("held back: ") == 1
    launched, own = load_model(tmp_path / "launched"), load_model(tmp_path / "own")
    assert largest_difference(launched, own) < 1e-5


def test_what_cannot_be_shared_is_refused_before_anything_starts(cells, tiny, tmp_path, monkeypatch):
    out = tmp_path / "m.safetensors"

    def refused(match, settings, **options):
        with pytest.raises(UsageError, match=match):
            train(cells, out, settings=settings, steps=1, **options)
        assert not list(tmp_path.iterdir())

    two = settings_of(tiny)
    refused(r"2 processes: a step has 1 sample .* --set training.batch_size=2", tiny(), processes=2)
    refused(r"3 processes: a step has 2 samples .* --set training.batch_size=3", two, processes=3)
    refused("--processes 0", two, processes=0)
    refused("--folds 2: folds are trained side by side", two, processes=2, folds=2)
    refused("processes=2: a network of one's own", two, processes=2, network=foreign)
    if not torch.cuda.is_available():
        refused("--device 'cuda' is not present", two, processes=2, device="cuda")
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused("2 processes were launched already", two, processes=2)
    refused("--folds 2", two, folds=2)
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused("needs accelerate: .* install 'biounet.parallel.'", two, processes=2)


def foreign(channels, classes):
    """Never called: it is refused before."""
    raise AssertionError


def test_one_process_alone_is_itself():
    values = torch.ones(3)
    assert ALONE.total(values) is values
    assert ALONE.part(6) == (0, 6)
    assert (ALONE.any(True), ALONE.any(False), ALONE.of_first(lambda: 7)) == (True, False, 7)
    check_batch(5, 1)
