import html.parser
import re

import numpy as np
from etils import epath

from mdc_jax.report import html as pages


class Reader(html.parser.HTMLParser):
    """The text of a page by tag, and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.sources = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "input", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] != "style":
            self.texts.append((self.open[-1], data.strip()))


def test_a_page_shows_what_it_was_given_and_nothing_from_elsewhere(tmp_path):
    page = pages.Page("A <title> & more")
    page.heading("Counts")
    page.paragraph("5 < 6")
    page.table(["name", "value"], [["<script>", "1"]])
    page.drawing(b"<svg></svg>", "a drawing")
    pieces = [pages.Piece("▁<s>"), pages.Piece("EOS", special=True)]
    page.cards([pages.Card(np.zeros((4, 4, 3), np.uint8), "record 7", [pieces])])
    path = epath.Path(tmp_path) / "new" / "page.html"
    page.write(path)
    found = Reader(path.read_text())
    assert not found.open
    assert [text for tag, text in found.texts if tag == "h1"] == ["A <title> & more"]
    assert [text for tag, text in found.texts if tag in ("th", "td")] == ["name", "value", "<script>", "1"]
    assert [text for tag, text in found.texts if tag == "span"] == ["▁<s>", "EOS"]
    assert ("p", "5 < 6") in found.texts and ("small", "record 7") in found.texts
    assert len(found.sources) == 2
    assert all(source.startswith("data:image/") for source in found.sources)
    assert not re.search(r"https?://", path.read_text())


def test_a_frame_holds_the_whole_page():
    page = pages.Page("A & B", script="if (1 < 2) {}")
    page.paragraph('"quoted"')
    [held] = re.findall(r'srcdoc="([^"]*)"', page.frame(height=300))
    assert html.unescape(held) == page.text()
