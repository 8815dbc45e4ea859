"""From a caption of a collage back to what it claims, and whether that holds."""

from collections.abc import Mapping

from mdc_jax.data.collage.grammar import RESERVED
from mdc_jax.data.collage.layout import Collage
from mdc_jax.data.scenes import parse as scenes
from mdc_jax.data.scenes.layout import SIZES, relation
from mdc_jax.data.scenes.parse import Parse, Statement
from mdc_jax.data.sources.base import Verdict

# The kinds of claims. "object": there is such a thing; "relation": the direction is clear and this one.
KINDS = ("count", "object", "size", "position", "relation")


def parse(caption: str, sentences: int, titles: Mapping[str, int]) -> Parse:
    """Reads a caption of that many sentences; `titles` are all that there are, with a number for each."""
    return _Reader(caption, titles).parse(sentences)


def judge(parsed: Parse, collage: Collage, titles: Mapping[str, int]) -> Verdict:
    """Holds what a caption says against a collage, as `scenes.parse.judge` does."""
    by_title = {titles[item.title]: item for item in collage.items}

    def holds(statement: Statement) -> bool:
        kind, values = statement.kind, statement.values
        if kind == "count":
            return values == (len(collage.items),)
        if kind == "relation":
            stated, *named = values
            return all(title in by_title for title in named) and relation(*(by_title[t] for t in named)) == stated
        title, *stated = values
        if title not in by_title:
            return False
        item = by_title[title]
        return {"object": [], "size": [item.size], "position": [item.row, item.column]}[kind] == stated

    return scenes.verdict(parsed, by_title, holds)


class _Reader(scenes.Reader):
    """The reader of scenes, where an object is a title and may have a size."""

    def __init__(self, caption: str, titles: Mapping[str, int]):
        super().__init__(caption.split())
        self._titles = titles

    def _object(self) -> None:
        start = self.at
        size = self._choose(SIZES) if self._next() in SIZES else None
        first = self.at
        while self._next() and self._next() not in RESERVED:
            self.at += 1
        title = self._titles.get(" ".join(self.words[first : self.at]))
        if title is None:
            raise scenes.Unfit
        self.named[-1].append(title)
        self.statements.append(Statement("object", first, self.at, (title,)))
        if size is not None:
            self.statements.append(Statement("size", start, first, (title, size)))
        self._position(title)

    def _background(self) -> None:
        raise scenes.Unfit  # captions of collages do not state it
