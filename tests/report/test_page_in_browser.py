"""The page in a real browser, without a window: no complaints, and its buttons and keys work."""

import html
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest

from biounet.report.page import Code, Curve, Figure, Numbers, Section, Table, Text, write_page

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")

CLICKS = """
const done = {};
const images = [...document.querySelectorAll("img")];
const seen = () => images.map((image) => (image.getBoundingClientRect().width > 0 ? 1 : 0)).join("");
const button = (name) => [...document.querySelectorAll("button")].find((b) => b.textContent === name);
const box = document.querySelector(".window");
const stage = document.querySelector(".stage");
const key = (name) => box.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
const turn = { deltaY: -500, bubbles: true, cancelable: true };
const wheel = (place) => box.dispatchEvent(new WheelEvent("wheel", { ...turn, ...place }));
done.atFirst = seen();
button("truth").click();
done.truthOff = seen() + button("truth").getAttribute("aria-pressed");
button("map").click();
done.mapInstead = seen();
key("4"); key("1");
done.byKeys = seen();
const frame = box.getBoundingClientRect();
wheel({ clientX: frame.left, clientY: frame.top });
done.wheelWithoutFocus = stage.style.transform;
box.focus();
wheel({ clientX: frame.left, clientY: frame.top });
done.wheel = stage.style.transform;
key("ArrowRight");
done.moved = stage.style.transform;
key("0");
done.reset = stage.style.transform;
document.querySelector("[data-zoom=in]").click();
done.zoomButton = stage.getBoundingClientRect().width / box.getBoundingClientRect().width;
done.ratio = frame.width / frame.height;
done.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
const sentences = document.querySelector(".scroll");
done.sentences = sentences.scrollWidth - sentences.clientWidth;
done.complete = images.every((image) => image.complete && image.naturalWidth > 0);
"""


def run(page, folder, *options):
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
        "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", *options, page.as_uri(),
    ]  # fmt: skip
    environment = {**os.environ, "HOME": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)


def facts(dom):
    found = re.search(r'data-done="([^"]*)"', dom)
    assert found, dom[-2000:]
    return json.loads(html.unescape(found[1]))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    rng = np.random.default_rng(0)
    layers = {
        "image": rng.integers(0, 255, (60, 90, 3), dtype=np.uint8),
        "map": rng.integers(0, 255, (60, 90, 3), dtype=np.uint8),
        "truth": rng.integers(0, 255, (60, 90, 4), dtype=np.uint8),
        "errors": rng.integers(0, 255, (60, 90, 4), dtype=np.uint8),
    }
    path = tmp_path_factory.mktemp("page") / "seen.html"
    blocks = [
        Text("Words " * 60),
        Numbers([("a score with a rather long name", 0.9, "a note"), ("b", 1, ""), ("c", "3 min 12 s", "")]),
        Figure("Figure", layers, "a note", legend={"correct": (0, 158, 115)}),
        Curve("Curve", [0, 1, 2], {"loss": [1.0, 0.5, 0.2]}, "step", "loss"),
        Table("Sentences", ["statement"], [["a sentence of many words " * 9], ["0123456789abcdef" * 8]]),
        Table("Table", [f"column {k}" for k in range(14)], [[0.5] * 14] * 3),
        Code("biounet predict model.safetensors a_long_folder_name/with_more --out somewhere_else_entirely"),
    ]
    write_page(path, title="A title", lead="A lead", sections=[Section("One", blocks)])
    return path


@pytest.mark.parametrize("width", [390, 1280])
def test_no_complaints_and_buttons_keys_and_wheel_work(page, tmp_path, width):
    """At phone width the page stands in a frame, as a browser's window cannot be made that narrow."""
    script = f"{CLICKS} parent.postMessage(JSON.stringify(done), '*');"
    text = page.read_text(encoding="utf-8").replace("</body>", f"<script>{script}</script></body>")
    (tmp_path / "inside.html").write_text(text, encoding="utf-8")
    outer = tmp_path / "outer.html"
    outer.write_text(
        f'<body style="margin:0"><iframe src="inside.html" style="width:{width}px;height:900px;border:0"></iframe>'
        "<script>addEventListener('message', (e) => { document.documentElement.dataset.done = e.data; });"
        "</script></body>",
        encoding="utf-8",
    )
    result = run(outer, tmp_path, "--window-size=1400,1000", "--virtual-time-budget=3000", "--dump-dom")
    assert "CONSOLE" not in result.stderr, result.stderr
    done = facts(result.stdout)
    assert done["complete"]
    assert done["atFirst"] == "1010"
    assert done["truthOff"] == "1000false"
    assert done["mapInstead"] == "0100"
    assert done["byKeys"] == "1001"
    assert done["wheelWithoutFocus"] == ""
    scale = float(re.search(r"scale\(([\d.]+)\)", done["wheel"])[1])
    assert scale == pytest.approx(np.exp(1), rel=1e-3)
    assert done["moved"].startswith("translate(-60px, 0px)")
    assert done["reset"] == "translate(0px, 0px) scale(1)"
    assert done["zoomButton"] == pytest.approx(1.5, rel=1e-3)
    assert done["ratio"] == pytest.approx(1.5, rel=0.01)
    assert done["sentences"] <= 0  # sentences can be read without scrolling
    assert done["overflow"] <= 0  # nothing makes the page wider than the screen


def test_an_error_in_the_page_would_be_seen(page, tmp_path):
    """The check above can fail: a broken script, and something fetched from outside."""
    broken = tmp_path / "broken.html"
    extra = "<script>missing();</script><img src='https://example.org/a.png' alt=''></body>"
    broken.write_text(page.read_text(encoding="utf-8").replace("</body>", extra), encoding="utf-8")
    result = run(broken, tmp_path, "--virtual-time-budget=2000", "--dump-dom")
    assert "CONSOLE" in result.stderr
    assert "missing is not defined" in result.stderr
    assert "Content Security Policy" in result.stderr
