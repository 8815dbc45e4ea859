"""Every relative link of a Markdown file leads to a file, or to a heading, that is there."""

import pathlib
import re

import pytest

from tests.commands import ROOT

DOCUMENTS = sorted(
    path
    for folder in ("", "colabs", "configs", "launch", "mdc_jax")
    for path in (ROOT / folder).glob("**/*.md" if folder else "*.md")
)


def links(path: pathlib.Path) -> list[str]:
    targets = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    return [target for target in targets if "://" not in target]


def anchors(path: pathlib.Path) -> set[str]:
    """Of headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: pathlib.Path) -> None:
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_a_row_of_a_table_is_a_line() -> None:
    lines = [line.strip() for document in DOCUMENTS for line in document.read_text().splitlines()]
    assert not [line for line in lines if "|---|" in line and not line.startswith("|---|")]


def test_every_result_is_named_somewhere() -> None:
    text = "".join(document.read_text() for document in DOCUMENTS)
    assert not [path.name for path in (ROOT / "configs" / "results").iterdir() if path.name not in text]
