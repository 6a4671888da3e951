"""The page on layouts: every tree is built, and what its command names is found and read."""

import json
import re
import shlex
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image
from roifile import ImagejRoi, roiwrite

from biounet.datasets.layouts import LAYOUTS, find_dataset, load
from biounet.images.ome_zarr_labels import add_zarr_labels, write_zarr_labels

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "layouts.md"
SECTION = re.compile(r"^## (.*?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)

CELLS = np.zeros((24, 32), np.uint16)
CELLS[3:9, 3:9], CELLS[12:20, 12:28] = 1, 2
PICTURE = np.random.default_rng(0).integers(0, 99, CELLS.shape).astype(np.uint8)
CORNERS = [[(3, 3), (9, 3), (9, 9), (3, 9)], [(12, 12), (28, 12), (28, 20), (12, 20)]]  # x, y
MASK = re.compile(r"masks?/|masks?\.|labels|SEG/|TRA/|drawn/|by hand|truth|_ignore|_region")
NAMES = {  # what is found, where it is not day1 and day2
    "stacks": [f"train-volume[0{k}]" for k in range(5)],
    "nnU-Net": ["case_001", "case_002"],
    "Cell Tracking Challenge": ["t000", "t002"],
    "masks of objects": ["0a7d", "3fe2"],
    "ROIs inside TIFFs": ["day1_overlay", "day2_overlay"],
    "pairs": ["a17", "a18"],
    "one pair": ["cells"],
    "a pattern": ["day1_a", "day1_b"],
}
LAYOUT = {
    "two folders by name": "--images and --masks", "one pair": "--images and --masks", "a pattern": "suffixes",
    "partly annotated": "folders",
}  # fmt: skip


def sections():
    """Heading, tree and commands of every section that has them."""
    for heading, text in SECTION.findall(PAGE.read_text(encoding="utf-8")):
        tree = re.search(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        if tree:
            commands = re.findall(r"^    (biounet .*)$", text, re.MULTILINE) + re.findall(r"`(biounet [^`]*)`", text)
            yield pytest.param(heading, tree[1], commands, id=heading)


def files_of(tree):
    """Paths of an indented tree."""
    above = []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 4
        above = [*above[:depth], line.strip()]
        if not line.endswith("/") or (len(above) > 1 and above[-2] == "labels/"):
            yield "".join(above)


def make(path, listed):
    """A file of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_mask = MASK.search(str(listed)) is not None
    array = CELLS if is_mask else PICTURE
    if path.stem.endswith(("_ignore", "_region")):  # a corner without cells; all of it
        array = np.full(CELLS.shape, path.stem.endswith("_region"), np.uint8)
        array[:2, :2] = 1
    if ".zarr" in str(path):
        image = next(parent for parent in path.parents if parent.suffix == ".zarr")
        write_zarr_labels(image, lambda a, b: PICTURE[tuple(map(slice, a, b))], CELLS.shape, largest_id=99)
        add_zarr_labels(image, path.name, lambda a, b: CELLS[tuple(map(slice, a, b))], largest_id=2)
    elif path.name == "dataset.json":
        path.write_text(json.dumps({"labels": {"background": 0, "left": 1, "right": 2}}))
    elif path.suffix == ".json":
        objects = [{"image_id": k, "segmentation": [np.ravel(c).tolist()]} for k in (1, 2) for c in CORNERS]
        images = [{"id": k, "file_name": f"day{k}.tif"} for k in (1, 2)]
        path.write_text(json.dumps({"images": images, "annotations": objects}))
    elif path.suffix == ".csv":
        lines = re.findall(r"^    (image,labels|raw/.+,.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
        path.write_text("\n".join(lines))
    elif path.suffix == ".zip":
        roiwrite(path, [ImagejRoi.frompoints(np.array(c)) for c in CORNERS], name=["1", "2"])
    elif path.suffix == ".geojson":
        rings = [{"type": "Polygon", "coordinates": [[*c, c[0]]]} for c in CORNERS]
        path.write_text(json.dumps([{"type": "Feature", "geometry": ring, "properties": {}} for ring in rings]))
    elif path.name.endswith(".nii.gz"):
        nibabel.save(nibabel.Nifti1Image(np.stack([array.T] * 20, -1), np.eye(4)), path)
    elif path.suffix == ".png":
        Image.fromarray((255 * (CELLS == int(path.stem[-1]))).astype(np.uint8) if is_mask else array).save(path)
    elif "-volume" in path.name or "-labels" in path.name:
        tifffile.imwrite(path, np.stack([array] * 5), photometric="minisblack")
    elif "_overlay" in path.name:
        rois = [ImagejRoi.frompoints(np.array(c)).tobytes() for c in CORNERS]
        tifffile.imwrite(path, array, imagej=True, metadata={"Overlays": rois})
    else:
        tifffile.imwrite(path, array)


def found_by(command, folder):
    """The data set that a command of the page names, its folder in place of MY_FOLDER."""
    words = [word.replace("MY_FOLDER", str(folder)) for word in shlex.split(command)[2:]]
    options = {}
    while any(word.startswith("--") for word in words):
        at = next(k for k, word in enumerate(words) if word.startswith("--"))
        options[words[at].removeprefix("--")] = words[at + 1]
        del words[at : at + 2]
    assert options.pop("out") == "my.safetensors"
    return find_dataset(*(words or [None]), **options)


@pytest.mark.parametrize(("heading", "tree", "commands"), list(sections()))
def test_the_command_finds_the_tree(heading, tree, commands, tmp_path):
    for file in files_of(tree):
        assert file.startswith("MY_FOLDER/")
        make(tmp_path / file.removeprefix("MY_FOLDER/"), file)
    assert commands
    for command in commands:
        dataset = found_by(command, tmp_path)
        named = "--images" in command and heading == "OME-Zarr labels"
        assert dataset.layout == ("--images and --masks" if named else LAYOUT.get(heading, heading))
        assert [item.name for item in dataset.items] == NAMES.get(heading, ["day1", "day2"])
        for example in load(dataset):
            assert len(np.unique(example.labels[example.labels > 0])) == 2


def test_every_layout_is_on_the_page():
    assert {layout.name for layout in LAYOUTS} <= {section.id for section in sections()}
