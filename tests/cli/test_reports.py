"""The pages of all commands: what they say, and that a browser shows them without complaint."""

import html
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
import tifffile
from tests.cli.conftest import write_data
from tests.cli.test_check import image_and_squares

from biounet.datasets.annotation import load_labels
from biounet.images.writing import write_labels
from biounet.model_file import load_model, save_model
from biounet.report.methods import methods_text

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


def text_of(page):
    return html.unescape(re.sub(r"<script.*?</script>|<style.*?</style>", "", page.read_text("utf-8"), flags=re.S))


def rows_of(page):
    """The first cell of every row of every table."""
    return re.findall(r'<tr><th scope="row"[^>]*>([^<]*)</th>', text_of(page))


KINDS = ("predict", "evaluate", "train", "compare", "check", "demo")


@pytest.fixture(scope="module")
def page_of(pages, model, tmp_path_factory):
    """The page of a command, by its name; made once."""
    from biounet import cli

    folder = tmp_path_factory.mktemp("mehr Seiten")
    made = dict(pages) | {"train": model.with_name(f"{model.name}.run") / "report.html"}

    def make(command):
        out = folder / command
        if command == "check":
            pairs = {f"bild {k}": image_and_squares(k) for k in range(4)}
            image, mask = pairs["bild 1"]
            turned = write_data(folder / "verdreht", pairs | {"bild 1": (image, np.ascontiguousarray(mask[::-1]))})
            assert cli.run(["check", str(turned), "--report", str(out / "report.html"), "-q"]) == 3
        else:
            assert cli.run(["demo", "--out", str(out), "--budget", "1s", "-q"]) == 0
        return out / "report.html"

    def page(command):
        if command not in made:
            made[command] = make(command)
        return made[command]

    return page


@pytest.fixture(scope="module")
def pages(data, model, tmp_path_factory):
    """Pages of the same prediction; the truth of one image is shifted, so that it has errors."""
    from biounet import cli

    out = tmp_path_factory.mktemp("Seiten ü")
    assert cli.run(["predict", str(model), str(data / "images"), "--out", str(out), "--device", "cpu", "-q"]) == 0
    for path in (data / "masks").iterdir():
        (truth,) = load_labels(path)
        missed = np.where(truth == 1, 0, truth)
        write_labels(out / f"{path.stem}_labels.tif", missed if path.stem != "zelle 9" else np.roll(missed, 6, 1))
    page = out / "evaluation.html"
    assert cli.run(["evaluate", str(out), str(data), "--no-warping", "--report", str(page), "-q"]) == 0
    methods = ["--model", f"M={model}", "--labels", f"A={out}", "--no-warping", "--no-cost"]
    assert cli.run(["compare", str(data), *methods, "--out", str(out / "beside"), "-q"]) == 0
    return {"predict": out / "report.html", "evaluate": page, "compare": out / "beside" / "report.html"}


def test_a_prediction_says_what_how_and_how_again(pages, model, data):
    text = text_of(pages["predict"])
    run = json.loads((pages["predict"].parent / "run.json").read_text())
    assert "3 images: all done." in text
    assert f"biounet predict '{model}' '{data / 'images'}' --out" in text
    assert run["model_sha256"] in text
    assert run["versions"]["numpy"] in text
    for done in run["inputs"]:
        assert done["name"] in rows_of(pages["predict"])
        assert done["plan"] in text
    assert text.count('<figure class="viewer"') == 3
    assert pages["predict"].stat().st_size < 5_000_000


def layers_of(page, which=0):
    """The names on the buttons of a figure."""
    figure = re.findall(r'<figure class="viewer".*?</figure>', text_of(page), flags=re.S)[which]
    return re.findall(r"<button[^>]*data-layer[^>]*>([^<]*)</button>", figure)


@pytest.mark.parametrize("kind", KINDS)
def test_every_page_says_how_to_repeat_it(page_of, kind):
    text = text_of(page_of(kind))
    section = text[text.index('">How to repeat it</h2>') :]
    assert f"<code>biounet {kind} " in section


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"check"}))
def test_the_last_section_is_ready_to_paste(page_of, model, kind):
    last = text_of(page_of(kind)).rpartition("<h2")[2]
    assert '">For the methods section</h2>' in last
    assert "PyTorch" in last
    assert "SHA-256 of the training data" in last
    assert "Ronneberger O, Fischer P, Brox T (2015)" in last


def test_an_evaluation_tells_its_scores_in_the_paragraph(pages, model, data, biounet, tmp_path):
    last = text_of(pages["evaluate"]).rpartition("<h2")[2]
    assert methods_text(load_model(model)).partition("\n")[0] in last
    assert "The predictions were compared with the annotation of 3 images: SEG" in last
    (pages["evaluate"].parent / "run.json").rename(tmp_path / "run.json")
    page = tmp_path / "page.html"
    try:
        biounet("evaluate", pages["evaluate"].parent, data, "--no-warping", "--report", page)
    finally:
        (tmp_path / "run.json").rename(pages["evaluate"].parent / "run.json")
    last = text_of(page).rpartition("<h2")[2]
    assert "PyTorch" not in last
    assert "The predictions were compared with the annotation of 3 images: SEG" in last


def test_a_prediction_says_what_its_seams_showed_or_that_there_are_none(biounet, model, data, tmp_path):
    image, on = data / "images" / "zelle 9.tif", ("--device", "cpu")
    biounet("predict", model, image, "--out", tmp_path / "whole", *on)
    assert "Check of seams: 1 image of one tile, without seams." in text_of(tmp_path / "whole" / "report.html")
    biounet("predict", model, image, "--out", tmp_path / "tiled", *on, "--tile", "20")
    text = text_of(tmp_path / "tiled" / "report.html")
    seams = json.loads((tmp_path / "tiled" / "run.json").read_text())["inputs"][0]["seams"]
    assert seams["windows"] > 0
    assert "without seams" not in text
    (row,) = re.findall(
        r'<tr><th scope="row"[^>]*>zelle 9</th>((?:<td[^>]*>[^<]*</td>)+)</tr>', text[text.index("Check of seams") :]
    )
    assert [float(cell) for cell in re.findall(r"<td[^>]*>([^<]*)</td>", row)] == list(seams.values())


def test_a_comparison_says_what_was_compared(pages, data, model):
    text = text_of(pages["compare"])
    run = json.loads((pages["predict"].parent / "run.json").read_text())
    assert f"biounet compare '{data}' --model 'M={model}'" in text
    assert run["model_sha256"] in text
    assert re.search(rf"labels of A</th><td[^>]*>{re.escape(str(pages['predict'].parent))}</td>", text)


def test_a_prediction_shows_probabilities_and_of_several_classes_each_object_s(biounet, random_model, data, tmp_path):
    save_model(tmp_path / "m.safetensors", random_model(2, "instances", classes=3, in_channels=1))
    image, on = data / "images" / "zelle 9.tif", ("--device", "cpu")
    assert biounet("predict", tmp_path / "m.safetensors", image, "--out", tmp_path / "a", *on).code == 0
    page = tmp_path / "a" / "report.html"
    assert layers_of(page) == ["image", "probability", "prediction", "classes"]
    assert re.findall(r"</i>([^<]*)</li>", text_of(page)) == ["1", "2"]  # the names of the classes, with their colours
    region = tmp_path / "region.tif"
    tifffile.imwrite(region, np.pad(np.ones((20, 20), np.uint8), ((0, 28), (0, 28))))
    by_blocks = ("predict", tmp_path / "m.safetensors", image, *on, "--region", region)
    assert biounet(*by_blocks, "--out", tmp_path / "b").code == 0
    assert layers_of(tmp_path / "b" / "report.html") == ["image", "prediction", "classes"]
    assert biounet(*by_blocks, "--out", tmp_path / "c", "--save", "labels,probabilities").code == 0
    assert layers_of(tmp_path / "c" / "report.html") == ["image", "probability", "prediction", "classes"]


def test_failed_and_empty_images_come_first(biounet, model, data, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(data / "images" / "zelle 9.tif", folder / "a.tif")
    (folder / "b.tif").write_bytes(b"no image")
    biounet("predict", model, folder, "--out", tmp_path / "out", "--device", "cpu")
    page = tmp_path / "out" / "report.html"
    assert "2 images: 1 failed." in text_of(page)
    assert rows_of(page)[:2] == ["b", "a"]
    assert text_of(page).count('<figure class="viewer"') == 1


def test_at_most_twelve_pictures_evenly_spaced_and_a_report_can_be_left_out(biounet, model, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(23):
        tifffile.imwrite(folder / f"p{number:02d}.tif", np.full((4, 5), number, np.uint8))
    assert biounet("predict", model, folder, "--out", tmp_path / "o", "--device", "cpu", "--save", "labels").code == 0
    text = text_of(tmp_path / "o" / "report.html")
    shown = sorted(re.findall(r"<figcaption>(p\d\d)</figcaption>", text))
    assert shown == [f"p{number:02d}" for number in range(0, 23, 2)]
    assert "12 of 23 images" in text
    none = biounet("predict", model, folder / "p00.tif", "--out", tmp_path / "n", "--no-report", "--device", "cpu")
    assert none.code == 0
    assert not (tmp_path / "n" / "report.html").exists()


def test_an_image_computed_block_by_block_has_its_picture(biounet, model, data, tmp_path):
    image, on = data / "images" / "zelle 9.tif", ("--device", "cpu", "--save", "labels,overlay,table")
    done = biounet("predict", model, image, "--out", tmp_path, *on, "--shard", "1/1")
    assert (done.code, f"tiles in {tmp_path}, no results yet" in done.out, "results in" in done.out) == (0, True, False)
    # a shard has no results to show or to measure
    assert {path.name for path in tmp_path.iterdir()} == {".zelle 9.blocks", "run.json"}
    assert biounet("predict", model, image, "--out", tmp_path, *on, "--merge").code == 0
    assert len((tmp_path / "objects.csv").read_text().splitlines()) > 1
    assert text_of(tmp_path / "report.html").count('<figure class="viewer"') == 1


def test_an_evaluation_shows_the_worst_first_with_errors_by_kind(pages, biounet, data):
    text = text_of(pages["evaluate"])
    scores = biounet("evaluate", pages["evaluate"].parent, data, "--no-warping", "--json").json
    by_seg = [image["name"] for image in sorted(scores["images"], key=lambda image: image["seg"])]
    assert by_seg[0] == "zelle 9"
    assert re.findall(r"<figcaption>(zelle \d+): seg", text) == by_seg
    listed = [name for name in rows_of(pages["evaluate"]) if name.startswith("zelle")]
    assert listed == by_seg
    low, high = scores["interval"]["seg"]
    assert f"{scores['mean']['seg']:.4f} ({low:.4f} to {high:.4f})" in text
    for kind in ("correct", "missed", "spurious", "merged", "split"):
        assert kind in text
    run = json.loads((pages["predict"].parent / "run.json").read_text())
    assert run["model_sha256"] in text


def test_an_evaluation_of_classes_and_of_labels_alone(biounet, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        true = rng.integers(0, 3, (30, 40)).astype(np.uint8)
        write_labels(tmp_path / "t" / f"{name}_labels.tif", true.astype(np.int32))
        write_labels(tmp_path / "p" / f"{name}_labels.tif", np.where(rng.random(true.shape) < 0.2, 0, true))
    page = tmp_path / "page.html"
    done = biounet("evaluate", tmp_path / "p", tmp_path / "t", "--task", "classes", "--no-warping", "--report", page)
    assert done.code == 0
    text = text_of(page)
    assert "wrong class" in text
    assert "The truth came as label images alone" in text
    assert "no run.json of biounet" in text
    values = re.findall(r"<figcaption>[ab]: pixel_error ([\d.]+)", text)
    assert values == sorted(values, reverse=True)
    assert len(values) == 2


LOOK = """
const images = [...document.querySelectorAll("img")];
const figure = document.querySelector(".viewer");
const buttons = [...figure.querySelectorAll("[data-layer]")];
const layers = [...figure.querySelectorAll("img")];
const over = buttons.findIndex((b) => b.classList.contains("over") && b.getAttribute("aria-pressed") === "true");
const before = layers[over].getBoundingClientRect().width;
buttons[over].click();
const after = layers[over].getBoundingClientRect().width;
figure.querySelector("[data-zoom=in]").click();
parent.postMessage(JSON.stringify({
  before, after, zoomed: figure.querySelector(".stage").style.transform,
  complete: images.every((i) => i.complete && i.naturalWidth > 0),
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
}), "*");
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("kind", KINDS)
def test_a_browser_shows_it_at_phone_and_desktop_width(page_of, tmp_path, kind):
    text = page_of(kind).read_text("utf-8").replace("</body>", f"<script>{LOOK}</script></body>")
    (tmp_path / "inside.html").write_text(text, encoding="utf-8")
    frames = "".join(
        f'<iframe src="inside.html" style="width:{width}px;height:900px;border:0"></iframe>' for width in (390, 1280)
    )
    listen = "addEventListener('message', (e) => { document.documentElement.dataset.done = "
    listen += "(document.documentElement.dataset.done || '') + e.data + ';'; });"
    outer = tmp_path / "outer.html"
    outer.write_text(f'<body style="margin:0"><script>{listen}</script>{frames}</body>', encoding="utf-8")
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
        "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1800,1000",
        "--virtual-time-budget=3000", "--dump-dom", outer.as_uri(),
    ]  # fmt: skip
    environment = {**os.environ, "HOME": str(tmp_path)}
    seen = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
    assert "CONSOLE" not in seen.stderr, seen.stderr
    found = re.search(r'data-done="([^"]*)"', seen.stdout)
    assert found, seen.stdout[-1000:]
    sizes = [json.loads(part) for part in html.unescape(found[1]).split(";") if part]
    assert len(sizes) == 2
    for one in sizes:
        assert one["before"] > 0
        assert one["after"] == 0
        assert "scale(1.5)" in one["zoomed"]
        assert one["complete"]
        assert one["overflow"] <= 0
