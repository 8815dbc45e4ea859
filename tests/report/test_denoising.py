"""The page is whole, and its slider does what it says, in a real browser where there is one."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from etils import epath

from mdc_jax.report import denoising
from tests.report.test_html import Reader

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WEIGHTS = np.array([0.1, 0.2, 0.3, 0.4])  # of the first token; those of the next are moved by one patch
TEXTS, STEPS = ("red", " <ring>", " at", " top"), (1, 0, 3, 2)


def emerging():
    tokens = [
        denoising.Token(text, step, -0.1 * step, np.roll(WEIGHTS, place))
        for place, (text, step) in enumerate(zip(TEXTS, STEPS, strict=True))
    ]
    return denoising.Emerging("a & b.png", np.zeros((8, 8, 3), np.uint8), tokens, ["log p -3"])


@pytest.fixture
def page(tmp_path):
    path = epath.Path(tmp_path) / "page.html"
    denoising.page("Captions", [emerging()]).write(path)
    return path


def test_what_is_there_after_each_step():
    tokens = emerging().tokens
    assert denoising.steps(tokens) == 4
    assert [denoising.after(tokens, step) for step in (0, 1, 2, 3, 4)] == [
        "░░░ ░░░░░░ ░░ ░░░",
        "░░░ <ring> ░░ ░░░",
        "red <ring> ░░ ░░░",
        "red <ring> ░░ top",
        "red <ring> at top",
    ]


def test_the_page_is_whole_without_a_script_and_loads_nothing(page):
    found = Reader(page.read_text())
    assert not found.open
    assert [text for tag, text in found.texts if tag == "span"] == [text.strip() for text in TEXTS]
    assert ("strong", "a & b.png") in found.texts and ("small", "log p -3") in found.texts
    assert all(source.startswith("data:image/") for source in found.sources)


def _shown(page, fragment=""):
    """The page as a browser has it when its scripts have run."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"file://{page}#{fragment}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def _masked_at(page, fragment, step):
    """Which tokens a browser shows as masked, where it says that it is at `step`."""
    dom = _shown(page, fragment)
    assert f"after {step} of 4 steps" in dom
    return [bool(masked) for masked in re.findall(r'<span class="token( masked)?"', dom)]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="not run: no Chromium on this machine")
def test_the_slider_masks_what_is_not_set_yet(page):
    seen = {}
    for step in (0, 2, 4):
        seen[step] = _masked_at(page, f"step={step}", step)
    assert [*seen.values()] == [
        [True, True, True, True],
        [False, False, True, True],
        [False, False, False, False],
    ]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="not run: no Chromium on this machine")
def test_moving_the_slider_masks_what_is_not_set_yet(page):
    move = "const s = document.querySelector('input'); s.value = 2; s.dispatchEvent(new Event('input'))"
    page.write_text(page.read_text().replace("</body>", f"<script>{move}</script></body>"))
    assert _masked_at(page, "step=4", 2) == [False, False, True, True]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="not run: no Chromium on this machine")
def test_pointing_at_a_word_shows_where_it_looked_until_the_pointer_leaves(page):
    point = """
    const canvas = document.querySelector('canvas'), token = document.querySelectorAll('.token')[1];
    for (const event of ['mouseenter', 'mouseleave', 'click']) {
      token.dispatchEvent(new Event(event));
      const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
      canvas.dataset[event] = [canvas.width, ...pixels.filter((_, at) => at % 4 == 3)].join(' ');
    }"""
    page.write_text(page.read_text().replace("</body>", f"<script>{point}</script></body>"))
    dom = _shown(page)
    side, *opacity = map(int, re.search(r'data-mouseenter="([\d ]+)"', dom)[1].split())
    assert side == 2 and 'data-mouseleave="2 0 0 0 0"' in dom
    # Row by row, the most looked at in full, which lets a quarter of the image through.
    np.testing.assert_allclose(opacity, 255 * 0.75 * np.roll(WEIGHTS, 1) / WEIGHTS.max(), atol=1)
    assert f'data-click="{" ".join(map(str, [side, *opacity]))}"' in dom
