"""The methods paragraph: its sentences written out, and what is left out where it is not known."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from biounet.report.methods import methods_of_average, methods_of_scores, methods_text, network_in_words
from biounet.settings import read_settings


@dataclass(frozen=True)
class Facts:
    network: dict
    task: str = "instances"
    classes: tuple = ("background", "cell")
    channels: tuple = ("0",)
    pixel_size_um: Any = (0.5, 0.25)
    postprocessing: dict = field(default_factory=dict)
    training: dict = field(default_factory=dict)
    ndim: int = 2
    sha256: str = "feed"


def facts(preset="paper", **changes):
    settings = read_settings(preset).model_dump(mode="json")
    known = {
        "tuned_on": "held-back images", "settings": settings,
        "seed": 4, "from": None, "steps": 900, "step": 600, "score": 0.8, "data_sha256": "beef",
        "training_images": ["a", "b"], "validation_images": ["c", "d"], "objects": {"training": 1, "validation": 1200},
        "statements": ["held back: c, d: as named by --validation", "each sample 388x388 pixels of output, 1 a step"],
        "versions": {"biounet": "0.1.0", "torch": "2.13.0", "numpy": "2.4"},
        "validation_scores": {"seg": [0.8, 0.6], "pq": [None, 0.5], "dice": [0.9, 0.9]},
    }  # fmt: skip
    network = {"name": "unet", "width": 64, "depth": 4, "batch_norm": False, "dropout": 0.5, "stem": [1, 1]}
    return replace(
        Facts(
            network,
            training=known,
            postprocessing={
                "threshold": 0.55,
                "smallest_px": 9,
                "fill_holes_px": 0,
                "give_back_px": 1,
                "split": None,
            },
        ),
        **changes,
    )


def with_facts(model, **changes):
    return replace(model, training=model.training | changes)


def test_what_is_added_to_the_cross_entropy_is_named():
    known = facts()
    settings = known.training["settings"]
    text = methods_text(with_facts(known, settings=settings | {"loss": settings["loss"] | {"dice": 1.0}}))
    assert "sigma = 5 pixels), plus 1 times the Dice loss (Drozdzal et al. 2016)." in text
    assert "The importance of skip connections" in text


def test_the_paragraph_of_the_papers_training_written_out():
    paragraph, empty, heading, *references = methods_text(facts()).splitlines()
    assert paragraph == (
        "Objects (cell) were segmented one by one with biounet 0.1.0 (PyTorch 2.13.0, NumPy 2.4). "
        "The network learnt from 2 annotated 2D images at 0.5 x 0.25 µm a pixel with 1 object. "
        "2 images with 1,200 objects were held back (c, d: as named by --validation). "
        "Pixels without annotation were taken as background. "
        "Each channel of an image was normalised to mean 0 and standard deviation 1 over the whole image. "
        "The network was a U-Net of unpadded convolutions (Ronneberger et al. 2015) with 4 poolings and 64 channels in "
        "the first level, with dropout of 0.5. "
        "The loss was the cross-entropy, weighted by balanced classes and by the gaps between neighbouring objects "
        "(Ronneberger et al. 2015; w0 = 10, sigma = 5 pixels). "
        "It was minimised in 900 steps of 1 sample of 388x388 pixels by SGD (momentum 0.99) with a learning rate of "
        "0.001; the weights of step 600 were kept, which scored best on the held-back images (seed 4). "
        "Samples were varied by elastic deformation (displacements of 10 pixels standard deviation on a grid of "
        "3 points a side), rotation by up to 180 degrees, mirroring and changes of brightness, contrast, gamma and "
        "noise. "
        "Objects are connected pixels with a probability above 0.55; objects below 9 pixels were dropped and objects "
        "were grown by 1 pixel into the gaps. These numbers were tuned on the held-back images. "
        "On the held-back images the result was: SEG (mean intersection over union of the objects; Maška et al. 2014) "
        "0.700 ± 0.141; panoptic quality (at an intersection over union of 0.5; Kirillov et al. 2019) 0.500; Dice "
        "coefficient of the foreground (Dice 1945) 0.900 ± 0.000 (mean ± standard deviation over images). "
        "Weights and post-processing were chosen there, so this is no independent test. "
        "SHA-256 of the training data beef and the model file feed."
    )
    assert (empty, heading) == ("", "References")
    assert [line.split()[0] for line in references] == ["Dice", "Kirillov", "Maška", "Ronneberger"]
    assert references[-1].endswith("doi:10.1007/978-3-319-24574-4_28")


def test_the_paragraph_of_a_class_model_says_nothing_of_objects():
    model = facts("standard", task="classes", classes=("background", "nucleus", "wall"), postprocessing={})
    scores = {"dice": [0.9], "pixel_error": [0.01]}
    text = methods_text(with_facts(model, objects=None, validation_images=["c"], validation_scores=scores))
    assert text.startswith("Pixels were assigned to 3 classes (background, nucleus, wall) with biounet 0.1.0")
    assert "weighted by balanced classes. It was minimised in 900 steps of 1 sample of 388x388 pixels by AdamW" in text
    assert "1 image was held back" in text
    assert "pixel error 0.010 (one image, so without a spread)" in text
    assert "object" not in text.split("References")[0]


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        ({"name": "patch_cnn", "window": 65}, "from a window of 65 pixels a side, after Ciresan et al. 2012."),
        ({"name": "fcn8s"}, "The network was a fully convolutional FCN-8s (Long et al. 2015)."),
        ({"name": "foreign"}, "The network was one of the authors' own."),
        (
            {"name": "unet", "depth": 2, "width": 8, "stem": [3, 3], "batch_norm": True},
            "8 channels in the first level, with batch normalisation (Ioffe and Szegedy 2015); 3 pixels a side were "
            "taken together first.",
        ),
    ],
)
def test_each_network_is_named_with_its_source(network, sentence):
    assert sentence in methods_text(facts(network=network))


def test_where_batch_statistics_were_fixed_is_told():
    network = {"name": "unet", "depth": 2, "width": 8, "batch_norm": True}
    assert "with batch normalisation (Ioffe and Szegedy 2015)." in methods_text(facts(network=network))
    said = "(Ioffe and Szegedy 2015, its statistics fixed after 50 % of the steps)"
    assert said in methods_text(facts("standard", network=network))


def test_every_name_in_the_paragraph_stands_in_the_list():
    text = methods_text(facts(network={"name": "fcn16s", "batch_norm": True}))
    paragraph, listed = text.split("\n\nReferences\n")
    assert "Long J" in listed
    assert "Ioffe S" in listed
    assert "Ciresan" not in listed
    assert paragraph.count("\n") == 0


def test_what_a_file_does_not_know_is_left_out():
    model = facts(pixel_size_um=None, sha256="")
    text = methods_text(replace(model, training={"statements": []}, postprocessing={}))
    assert text.splitlines()[0] == (
        "Objects (cell) were segmented one by one with biounet. The network was a U-Net of unpadded convolutions "
        "(Ronneberger et al. 2015) with 4 poolings and 64 channels in the first level, with dropout of 0.5."
    )
    interrupted = methods_text(with_facts(facts(), score=None, validation_scores={}))
    assert "the weights of step 600 were kept (seed 4)" in interrupted
    assert "On the held-back" not in interrupted


def test_partial_annotation_a_start_and_images_on_both_sides_are_said():
    model = facts()
    settings = model.training["settings"]
    settings = settings | {"data": settings["data"] | {"unlabelled": "unknown"}}
    text = methods_text(with_facts(model, settings=settings, validation_images=["b"], **{"from": "cafe"}))
    assert "Pixels without annotation were unknown and left out." in text
    assert "Parts of b were on both sides." in text
    assert "minimised from the weights of a trained model (SHA-256 cafe) in 900 steps" in text


def test_what_was_tuned_and_on_what_is_told_by_the_file_alone():
    assert "numbers were tuned on the held-back images of all folds." in methods_text(
        with_facts(facts(), tuned_on="held-back images of all folds")
    )
    untuned = methods_text(with_facts(facts(), tuned_on=None))
    assert "These numbers were not tuned." in untuned
    assert "The weights were chosen there, so this is no independent test." in untuned
    classes = methods_text(replace(facts(), task="classes", postprocessing={}))
    assert "Weights and how far class weights are taken back were chosen there" in classes
    before = facts()
    del before.training["tuned_on"]
    assert "tuned" not in methods_text(before)


def test_a_network_is_described_in_words():
    deep = {"in_channels": 1, "classes": 2, "width": 64, "depth": 2, "ndim": 3, "pooling": [[1, 2, 2], [2, 2, 2]]}
    unet = {"name": "unet", **deep, "batch_norm": True, "dropout": 0.5, "stem": [1, 2, 2]}
    assert network_in_words(unet) == (
        "3D U-Net (1 channel, 2 classes, width 64, depth 2, pooling 1x2x2 then 2x2x2, batch normalisation, "
        "dropout 0.5, stem 1x2x2)"
    )
    plain = unet | {"pooling": [[2, 2]] * 2, "batch_norm": False, "dropout": 0.0, "stem": [1, 1], "ndim": 2}
    assert network_in_words(plain) == "2D U-Net (1 channel, 2 classes, width 64, depth 2, pooling 2x2)"
    assert network_in_words({"name": "fcn8s", "width": 4}) == "FCN-8s (width 4)"


def test_an_ensemble_is_described_by_its_kinds_of_members():
    small, large = {"name": "unet", "width": 2}, {"name": "unet", "width": 4}
    assert network_in_words(small) == "U-Net (width 2)"
    assert network_in_words({"name": "ensemble", "members": [small, large, small]}) == (
        "ensemble of 2 x U-Net (width 2); 1 x U-Net (width 4)"
    )


def test_a_cross_validation_is_told_with_its_intervals():
    model = facts()
    estimate = {
        "images": [{"name": name} for name in "abcdef"],
        "mean": {"score": 0.7, "seg": 0.6, "pq": 0.8, "dice": None},
        "interval": {"score": [0.5, 0.9], "seg": [0.5, 0.7], "pq": None, "dice": None},
    }
    known = {**model.training, "folds": 3, "estimate": estimate, "validation_images": [], "steps_done": 700}
    text = methods_text(replace(model, network={"name": "ensemble", "members": [model.network] * 3}, training=known))
    assert "The model is the mean of the probabilities of 3 networks, one for each fold of a cross-validation" in text
    assert "The network was a U-Net of unpadded convolutions" in text
    assert "in 700 steps" in text
    assert "the weights of one step of each network were kept" in text
    assert "Over the 6 held-back images of all folds the result was: SEG" in text
    assert "0.600 (95 % interval 0.500 to 0.700)" in text
    assert "(seeds 4 to 6)." in text
    assert "For each fold post-processing was chosen on the images of the others." in text
    assert "0 images" not in text
    blocks = estimate | {"images": [{"name": "a"}] * 6}
    refit = methods_text(replace(model, training=known | {"estimate": blocks, "refit": True}))
    assert "Over the 6 held-back blocks of 1 image of all folds the result was: SEG" in refit
    assert "the last weights were kept (seed 7, of the folds 4 to 6)." in refit


SCORED = {
    "task": "instances",
    "images": ["a", "b"],
    "mean": {"seg": 0.7, "pq": 0.8125, "dice": None, "warping_error": 3.0},
    "interval": {"seg": [0.6, 0.8], "pq": None, "dice": None, "warping_error": None},
    "interval_over": "images",
}


def test_an_evaluation_is_told_after_what_made_the_labels():
    made = methods_text(facts())
    paragraph, empty, heading, *references = methods_of_scores(SCORED, made).splitlines()
    assert paragraph == made.partition("\n")[0] + (
        " The predictions were compared with the annotation of 2 images: SEG (mean intersection over union of the "
        "objects; Maška et al. 2014) 0.700 (95 % interval 0.600 to 0.800); panoptic quality (at an intersection over "
        "union of 0.5; Kirillov et al. 2019) 0.812 (means over images, intervals by bootstrap over images)."
    )
    assert (empty, heading, references) == ("", "References", made.splitlines()[3:])


def test_an_evaluation_of_labels_from_elsewhere_tells_its_scores_alone():
    paragraph, _, _, *references = methods_of_scores(SCORED).splitlines()
    assert paragraph.startswith("The predictions were compared with the annotation of 2 images: SEG")
    assert [reference.partition(" ")[0] for reference in references] == ["Kirillov", "Maška"]


def test_an_evaluation_whose_scores_are_all_undefined_claims_nothing():
    undefined = {**SCORED, "mean": dict.fromkeys(SCORED["mean"])}
    assert methods_of_scores(undefined) == ""
    assert methods_of_scores(undefined, methods_text(facts())) == methods_text(facts())


def test_what_is_unknown_in_part_is_said():
    assert "Pixels without annotation were taken as background." in methods_text(facts())
    rule = "what is not drawn is background, except where the annotation is marked unknown; annotated shares: a 95%"
    told = methods_text(with_facts(facts(), statements=[rule]))
    assert "Pixels marked as unknown were left out, all others without annotation were taken as background." in told
    data = facts().training["settings"] | {"data": {"unlabelled": "unknown"}}
    assert "Pixels without annotation were unknown and left out." in methods_text(with_facts(facts(), settings=data))


def test_folds_of_one_image_are_blocks_of_it():
    images = [{"name": name} for name in ("a", "a", "a")]
    known = {"folds": 3, "estimate": {"images": images, "mean": {}, "interval": {}}}
    assert "each trained without the blocks (parts of an image) of its fold." in methods_text(
        with_facts(facts(), **known)
    )
    known["estimate"]["images"] = [{"name": name} for name in "abc"]
    assert "each trained without the images of its fold." in methods_text(with_facts(facts(), **known))


def test_weights_that_are_a_running_average_are_called_so():
    assert "; the weights of step 600 were kept" in methods_text(facts())
    assert "; the averaged weights of step 600 were kept" in methods_text(facts("standard"))


def test_dice_of_classes_is_a_mean_over_them():
    scored = SCORED | {"mean": {"dice": 0.5}, "interval": {}}
    assert "Dice coefficient of the foreground (Dice 1945) 0.500" in methods_of_scores(scored)
    told = methods_of_scores(scored | {"task": "classes"})
    assert "Dice coefficient, mean over the classes but the first (Dice 1945) 0.500" in told


def test_models_that_are_averaged_are_all_told():
    one, two = facts(), facts(sha256="cafe", classes=("background", "nucleus"))
    assert methods_of_average([one]) == methods_text(one)
    told, _, _, *references = methods_of_average([one, two]).splitlines()
    assert told.startswith("The probabilities of 2 models were averaged. Model 1: Objects (cell) were segmented")
    assert " Model 2: Objects (nucleus) were segmented" in told
    assert told.index("feed") < told.index("Model 2") < told.index("cafe")
    assert len(references) == len(set(references))
