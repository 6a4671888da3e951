"""What bf16 and int8 change of a trained model's results, beside fp32, on annotated images.

    python benchmarks/int8_agreement.py MODEL DATA [--images 5] [--calibrate]

Every held-back image of the model (all of DATA where it names none) is predicted whole in fp32,
bf16 and int8. Printed: labels of the most probable class that are equal to fp32, and the scores of
the final labels against the annotation. Int8 uses the crops in the model file; ``--calibrate`` takes
them from the other images of DATA instead, as older model files need.
"""

from __future__ import annotations

import argparse

import numpy as np

from biounet.evaluation.scores import evaluate_pair
from biounet.inference.calibration import calibration_crops
from biounet.inference.engines import choose_engine
from biounet.inference.predict import plan_for, segment, softmax
from biounet.inference.tiling import predict_tiled
from biounet.model_file import Model, load_model
from biounet.planning.data import TrainingData, read_training_data
from biounet.settings import DataSettings

SCORES = ("pixel_error", "dice", "seg", "det", "pq", "v_rand", "v_info")


def examples(model: Model, data: str) -> TrainingData:
    """DATA as the model's training read it."""
    settings = dict(model.training["settings"]["data"]) | {"validation": None}
    return read_training_data(data, DataSettings.model_validate(settings), skip_bad=True)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--calibrate", action="store_true")
    options = parser.parse_args()
    model = load_model(options.model)
    known = examples(model, options.data).examples
    held_back = set(model.training.get("validation_images", ()))
    chosen = [e for e in known if e.name in held_back][: options.images] or list(known)[: options.images]
    names = {e.name for e in chosen} | held_back
    crops = None
    if options.calibrate or not model.calibration:
        crops = calibration_crops([model.normalisation.apply(e.image) for e in known if e.name not in names])
    exact: list[np.ndarray] = []
    for precision in ("fp32", "bf16", "int8"):
        choice = choose_engine(
            model, engine="openvino", precision=precision, device="cpu", calibration=crops, least_agreement=0
        )
        print(f"{precision}: {choice.agreement}")
        scores: dict[str, list[float]] = {}
        same, pixels, found = 0, 0, []
        for index, example in enumerate(chosen):
            image = model.normalisation.apply(example.image)
            plan = plan_for(image.shape[1:], choice.engine)
            probabilities = softmax(predict_tiled(choice.engine, image, model.geometry, plan=plan))
            found.append(probabilities.argmax(0))
            reference = exact[index] if exact else found[index]
            same, pixels = same + int((found[index] == reference).sum()), pixels + reference.size
            labels = segment(model, probabilities)
            for name, value in evaluate_pair(labels, example.labels, task=model.task, warping=False).items():
                if name in SCORES and isinstance(value, float):
                    scores.setdefault(name, []).append(value)
        exact = exact or found
        means = "  ".join(f"{name} {np.mean(values):.4f}" for name, values in scores.items())
        print(f"    {len(chosen)} whole images: {same / pixels:.4%} of {pixels:,} labels as fp32;  {means}", flush=True)


if __name__ == "__main__":
    main()
