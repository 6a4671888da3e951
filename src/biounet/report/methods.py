"""The paragraph for the Methods section of a publication, from the facts in a model file alone.

Every sentence says what the file knows and nothing else: a fact that an older or foreign file lacks
leaves its sentence out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from biounet.report.facts import seeds_in_words
from biounet.report.references import REFERENCES
from biounet.report.scores_in_words import means_in_words, scores_of_training
from biounet.words import counted

_NORMALISED = {
    "image": "Each channel of an image was normalised to mean 0 and standard deviation 1 over the whole image.",
    "percentile": "Of each channel of an image, the percentiles 1 and 99.8 over the whole image became 0 and 1.",
    "dataset": "Each channel was normalised by its mean and standard deviation over the training images.",
}


class Trained(Protocol):
    """What the paragraph needs of a model; `biounet.model_file.Model` has it."""

    @property
    def network(self) -> Mapping[str, Any]:
        """Description of the network."""

    @property
    def task(self) -> str:
        """'instances' or 'classes'."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by class id, background first."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""

    @property
    def pixel_size_um(self) -> tuple[float, ...] | None:
        """Per spatial axis, or None."""

    @property
    def postprocessing(self) -> Mapping[str, Any]:
        """Settings that turn probabilities into objects."""

    @property
    def training(self) -> Mapping[str, Any]:
        """Settings, seed, steps, images, scores, versions, statements."""

    @property
    def ndim(self) -> int:
        """Spatial axes, 2 or 3."""

    @property
    def sha256(self) -> str:
        """Of the model file."""


def methods_text(model: Trained) -> str:
    """The paragraph, an empty line, and the references that it names, one a line."""
    return _with_references(_sentences(model))


def methods_of_average(models: Sequence[Trained]) -> str:
    """The paragraph of one model, or that of several whose probabilities are averaged, each told in turn."""
    if len(models) == 1:
        return methods_text(models[0])
    told = [f"The probabilities of {len(models)} models were averaged."]
    for number, model in enumerate(models, start=1):
        told += [f"Model {number}:", *_sentences(model)]
    return _with_references(told)


def _sentences(model: Trained) -> list[str]:
    known = model.training
    settings = known.get("settings", {})
    return [
        _task(model),
        *_data(model),
        _NORMALISED.get(settings.get("data", {}).get("normalisation", ""), ""),
        _network(model.network, settings.get("training", {})),
        *_training(model.task, known),
        _augmentation(settings.get("augmentation", {})),
        _postprocessing(model.postprocessing, known),
        *scores_of_training(model.task, known),
        _hashes(model),
    ]


def methods_of_scores(result: Mapping[str, Any], made_by: str = "") -> str:
    """The paragraph of an evaluation, and its references.

    ``result``: ``task``, ``images``, ``mean`` and ``interval`` by score, ``interval_over``, as `evaluation` gives them.
    ``made_by``: the `methods_text` of the model that predicted, where it is known.
    """
    made, _, _ = made_by.partition("\n\n")
    said = means_in_words(result["task"], result)
    if not said:
        return _with_references([made])
    count, over = len(result["images"]), result["interval_over"]
    scored = (
        f"The predictions were compared with the annotation of {counted(count, 'image')}: {'; '.join(said)} "
        f"(means over images, intervals by bootstrap over {over})."
    )
    return _with_references([made, scored])


def _with_references(sentences: Sequence[str]) -> str:
    paragraph = " ".join(sentence for sentence in sentences if sentence)
    named = [text for name, text in REFERENCES.items() if name in paragraph]
    return "\n".join([paragraph, "", "References", *named]) if named else paragraph


_NETWORKS = {"unet": "U-Net", "patch_cnn": "sliding-window network", "foreign": "network of one's own"}


def network_in_words(network: Mapping[str, Any]) -> str:
    """The description of a network in one line; members of an ensemble that are alike are described once."""
    name = str(network.get("name"))
    if name == "ensemble":
        members = [network_in_words(member) for member in network["members"]]
        return f"ensemble of {'; '.join(f'{members.count(one)} x {one}' for one in dict.fromkeys(members))}"
    kind = f"FCN-{name[3:]}" if name.startswith("fcn") else _NETWORKS.get(name, name)
    parts = [_part(key, value) for key, value in network.items() if key not in ("name", "ndim")]
    dimensions = f"{network['ndim']}D " if "ndim" in network else ""
    return f"{dimensions}{kind} ({', '.join(filter(None, parts))})"


def _part(key: str, value: Any) -> str:
    """One entry of a network's description; "" where it says that there is no such thing."""
    if key == "in_channels":
        return counted(value, "channel")
    if key == "classes":
        return f"{value} classes"
    if not value or (key == "stem" and max(value) == 1):
        return ""
    if key == "pooling":
        levels = list(dict.fromkeys("x".join(map(str, level)) for level in value))
        return f"pooling {' then '.join(levels)}"
    words = key.replace("batch_norm", "batch normalisation").replace("_", " ")
    sides = "x".join(map(str, value)) if isinstance(value, list | tuple) else value
    return words if value is True else f"{words} {sides}"


def _task(model: Trained) -> str:
    versions = model.training.get("versions", {})
    release = f" {versions['biounet']}" if versions.get("biounet") else ""
    beside = [
        f"{name} {versions[key]}" for key, name in (("torch", "PyTorch"), ("numpy", "NumPy")) if versions.get(key)
    ]
    tool = f"biounet{release}" + (f" ({', '.join(beside)})" if beside else "")
    if model.task == "classes":
        return f"Pixels were assigned to {len(model.classes)} classes ({', '.join(model.classes)}) with {tool}."
    return f"Objects ({', '.join(model.classes[1:])}) were segmented one by one with {tool}."


def _data(model: Trained) -> Iterator[str]:
    known = model.training
    learnt, held = known.get("training_images"), known.get("validation_images")
    if learnt is None or held is None:
        return
    counts = known.get("objects") or {}
    objects = {side: f" with {counted(count, 'object')}" for side, count in counts.items()}
    size = "" if model.pixel_size_um is None else f" at {_lengths(model.pixel_size_um)} a pixel"
    channels = "" if len(model.channels) == 1 else f" and {len(model.channels)} channels ({', '.join(model.channels)})"
    yield (
        f"The network learnt from {counted(len(learnt), f'annotated {model.ndim}D image')}{channels}{size}"
        f"{objects.get('training', '')}."
    )
    how = _stated(known, "held back: ")
    chosen = f" ({how})" if how else ""
    folds = known.get("folds")
    without = f"each trained without the {_of_folds(known)} of its fold" if folds else ""
    if folds and known.get("refit"):
        yield f"It was judged by {folds} networks like it, one for each fold of a cross-validation, {without}."
    elif folds:
        yield (
            f"The model is the mean of the probabilities of {folds} networks, one for each fold of a "
            f"cross-validation, {without}."
        )
    else:
        yield f"{counted(len(held), 'image')}{objects.get('validation', '')} {_were(len(held))} held back{chosen}."
    if both := sorted(set(learnt) & set(held)):
        yield f"Parts of {', '.join(both)} were on both sides."
    yield _unannotated(known)


def _unannotated(known: Mapping[str, Any]) -> str:
    """What became of pixels that nobody annotated."""
    if known.get("settings", {}).get("data", {}).get("unlabelled") == "unknown":
        return "Pixels without annotation were unknown and left out."
    if _stated(known, "what is not drawn is background, except"):
        return "Pixels marked as unknown were left out, all others without annotation were taken as background."
    return "Pixels without annotation were taken as background."


def _of_folds(known: Mapping[str, Any]) -> str:
    """What a fold is made of: images, or blocks of one or two."""
    names = [image["name"] for image in known.get("estimate", {}).get("images", ())]
    return "images" if len(set(names)) == len(names) else "blocks (parts of an image)"


def _network(network: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    if network.get("name") == "ensemble":
        network = network["members"][0]
    name = str(network.get("name"))
    if name == "patch_cnn":
        return (
            f"The network classified each pixel from a window of {network['window']} pixels a side, after Ciresan et "
            "al. 2012."
        )
    extras = []
    if network.get("batch_norm"):
        until = training.get("batch_statistics_until", 1)
        fixed = f", its statistics fixed after {100 * until:.0f} % of the steps" if until < 1 else ""
        extras.append(f"batch normalisation (Ioffe and Szegedy 2015{fixed})")
    if training.get("weight_standardisation"):
        extras.append("weight standardisation (Qiao et al. 2019)")
    if network.get("dropout"):
        extras.append(f"dropout of {network['dropout']:g}")
    added = f", with {_and(extras)}" if extras else ""
    if name == "unet":
        stem = max(network.get("stem") or [1])
        taken = f"; {stem} pixels a side were taken together first" if stem > 1 else ""
        return (
            f"The network was a U-Net of unpadded convolutions (Ronneberger et al. 2015) with {network['depth']} "
            f"poolings and {network['width']} channels in the first level{added}{taken}."
        )
    if name.startswith("fcn"):
        return f"The network was a fully convolutional FCN-{name[3:]} (Long et al. 2015){added}."
    return "The network was one of the authors' own."


def _training(task: str, known: Mapping[str, Any]) -> Iterator[str]:
    settings = known.get("settings", {})
    of, loss = settings.get("training", {}), settings.get("loss", {})
    if not of or not loss:
        return
    kind = "averaged weights" if of.get("averaging") else "weights"  # files of before it lack it
    kept = f"the {kind} of step {known['step']}"
    if "folds" in known:
        kept = f"the last {kind}" if known.get("refit") else f"the {kind} of one step of each network"
    border = ""
    if task == "instances" and loss["w0"]:
        border = (
            " and by the gaps between neighbouring objects (Ronneberger et al. 2015; "
            f"w0 = {loss['w0']:g}, sigma = {loss['sigma_px']:g} pixels)"
        )
    weights = ("balanced classes" if loss["class_balance"] else "equal classes") + border
    dice = loss.get("dice", 0)  # files of before it lack it
    beside = f", plus {dice:g} times the Dice loss (Drozdzal et al. 2016)" if dice else ""
    yield f"The loss was the cross-entropy, weighted by {weights}{beside}."
    sgd = of["optimizer"] == "sgd"
    method = f"SGD (momentum {of['momentum']:g})" if sgd else "AdamW (Loshchilov and Hutter 2019)"
    details = [f"a learning rate of {of['learning_rate']:g}" + (" with cosine decay" * (of["schedule"] == "cosine"))]
    if of["weight_decay"]:
        details.append(f"a weight decay of {of['weight_decay']:g}")
    origin = known.get("from")
    start = f" from the weights of a trained model (SHA-256 {origin})" if origin else ""
    steps = known.get("steps_done", known["steps"])  # files of before early ends lack the first
    unscored = known.get("score") is None or known.get("refit")
    best = "" if unscored else ", which scored best on the held-back images"
    yield (
        f"It was minimised{start} in {counted(steps, 'step')} of {counted(of['batch_size'], 'sample')}"
        f"{_of_sides(known)} by {method} with {_and(details)}; {kept} were kept{best} ({seeds_in_words(known)})."
    )


def _of_sides(known: Mapping[str, Any]) -> str:
    """The sides of a sample's output, which a statement gives."""
    sides = _stated(known, "each sample ").partition(" pixels")[0]
    return f" of {sides} pixels" if sides else ""


def _augmentation(of: Mapping[str, Any]) -> str:
    if not of:
        return ""
    parts = []
    if of["elastic_std_px"]:
        parts.append(
            f"elastic deformation (displacements of {of['elastic_std_px']:g} pixels standard deviation on a grid of "
            f"{of['elastic_grid']} points a side)"
        )
    if of["rotation_degrees"]:
        parts.append(f"rotation by up to {of['rotation_degrees']:g} degrees")
    if of["mirror"]:
        parts.append("mirroring")
    low, high = of["scale"]
    if low != high:
        parts.append(f"scaling by {low:g} to {high:g}")
    grey = [name for name in ("brightness", "contrast", "gamma", "noise") if of[name]]
    if grey:
        parts.append(f"changes of {_and(grey)}")
    if of["blur_px"]:
        parts.append("blur")
    return f"Samples were varied by {_and(parts)}." if parts else "Samples were not varied."


def _postprocessing(values: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    if not values:
        return ""
    steps = [
        f"objects below {values['smallest_px']} pixels were dropped" if values.get("smallest_px") else "",
        f"holes up to {values['fill_holes_px']} pixels were filled" if values.get("fill_holes_px") else "",
        f"objects were grown by {counted(values['give_back_px'], 'pixel')} into the gaps"
        if values.get("give_back_px")
        else "",
        "touching objects were split by growth from seeds" if values.get("split") else "",
    ]
    kept = [step for step in steps if step]
    more = f"; {_and(kept)}" if kept else ""
    said = f"Objects are connected pixels with a probability above {values['threshold']:g}{more}."
    if "tuned_on" not in known:
        return said
    on = known["tuned_on"]
    return f"{said} These numbers were {f'tuned on the {on}' if on else 'not tuned'}."


def _hashes(model: Trained) -> str:
    data = model.training.get("data_sha256")
    parts = [f"the training data {data}"] if data else []
    parts += [f"the model file {model.sha256}"] if model.sha256 else []
    return f"SHA-256 of {_and(parts)}." if parts else ""


def _stated(known: Mapping[str, Any], start: str) -> str:
    """The rest of the statement that begins with ``start``, "" where there is none."""
    found = [str(text) for text in known.get("statements", ()) if str(text).startswith(start)]
    return found[0].removeprefix(start) if found else ""


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _lengths(size: Sequence[float]) -> str:
    return " x ".join(f"{length:g}" for length in size) + " µm"


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
