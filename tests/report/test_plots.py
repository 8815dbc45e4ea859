import numpy as np
import PIL.Image
from etils import epath

from mdc_jax.report import plots

GREY = np.full((16, 16, 3), 128, np.uint8)


def red_pixels(path) -> int:
    pixels = np.asarray(PIL.Image.open(path).convert("RGB")).astype(int)
    return int(((pixels[..., 0] > 150) & (pixels[..., 1:].max(-1) < 90)).sum())


def test_only_wrong_claims_are_red(tmp_path):
    for name, wrong in (("right", False), ("wrong", True)):
        example = plots.Captioned(GREY, "a red circle", [("a", False), ("blue", wrong), ("$square", wrong)])
        plots.captions(epath.Path(tmp_path) / f"{name}.png", [example] * 3)
    assert red_pixels(tmp_path / "right.png") == 0 < red_pixels(tmp_path / "wrong.png")


def test_lines_are_broken_before_they_leave_the_cell():
    words = [("x" * 10, "", "")] * 30
    lines = list(plots._wrap(words))
    assert sum(len(line) for line in lines) == 30
    assert all(column + 10 <= plots._TEXT / plots._ADVANCE for line in lines for column, _ in line)


def test_lengths_are_drawn_with_their_limit_and_names():
    svg = plots.lengths({"short <ones>": [3, 4, 4], "long ones": [900], "none": []}, 64).decode()
    assert svg.startswith("<?xml") and svg.rstrip().endswith("</svg>")
    with_more = plots.lengths({"short <ones>": [3, 4, 4], "long ones": [900], "more": [5]}, 64).decode()
    assert svg != with_more


def test_small_multiples_have_a_panel_for_each_name_and_a_line_where_there_is_one():
    line = np.array([[1.0, 0.2], [2.0, 0.1]])
    panels = {f"kind {number}": {"random": line, "entropy": line} for number in range(5)} | {"rare": {"random": line}}
    text = plots.multiples(panels, "steps", "share").decode()
    assert all(f"<!-- {name} -->" in text for name in (*panels, "random", "entropy", "steps", "share"))


def test_the_same_numbers_are_the_same_bytes():
    for draw in (lambda: plots.lengths({"a": [3, 4]}, 64), lambda: plots.bands({"a": np.zeros((2, 3, 2))}, "x", "y")):
        assert draw() == draw()
