"""What a model of tokens may make of a text: bounds far above those of any real one, so that none fills the memory."""

import base64
from collections.abc import Iterator, Mapping
from typing import Any

MAX_BYTES = 2**27  # of a model, several times the largest
_MAX_PIECE = 4_096  # characters
_MAX_PATTERN = 2**14  # characters of a regular expression, which takes some hundred bytes for each
_MAX_GROWTH = 64  # times as many characters as a text has, by all rules together; CLIP has 2, ALBERT 4
_MAX_REPLACEMENT = 256  # bytes of what a table gives for a character; Unicode's own go up to 33


def check_size(size: int) -> None:
    """Raises ValueError for a model of too many bytes, before it is read."""
    if size > MAX_BYTES:
        raise ValueError(f"it has {size:,} bytes; at most {MAX_BYTES:,} are read")


def check_pieces(longest: int) -> None:
    """Raises ValueError where the longest piece has too many characters: a text may hold it many times."""
    if longest > _MAX_PIECE:
        raise ValueError(f"a piece has {longest:,} characters; at most {_MAX_PIECE:,} are read")


def check_table(table: bytes) -> None:
    """Raises ValueError for a table of characters, as SentencePiece writes it, that makes too much of one of them.

    It holds the bytes of a trie, their number before it, and then all replacements, each with a zero at its end.
    """
    trie = int.from_bytes(table[:4], "little")
    longest = max(map(len, table[4 + trie :].split(b"\0")))
    if longest > _MAX_REPLACEMENT:
        raise ValueError(f"its normalizer makes {longest:,} bytes of a character; at most {_MAX_REPLACEMENT} are read")


def check_rules(rules: Any) -> None:
    """Raises ValueError for a part of a tokenizer.json, its normalizer for instance, that makes too much of a text."""
    growth = 1
    for rule in _nested(rules):
        pattern = rule.get("pattern")
        regex = pattern.get("Regex") if isinstance(pattern, Mapping) else None
        if isinstance(regex, str) and len(regex) > _MAX_PATTERN:
            raise ValueError(f"a regular expression has {len(regex):,} characters; at most {_MAX_PATTERN:,} are read")
        if rule.get("type") == "Replace":
            growth *= _growth(pattern, str(rule.get("content")))
        if rule.get("type") == "Prepend":
            growth *= 1 + len(str(rule.get("prepend")))
        if rule.get("type") == "Precompiled":
            check_table(base64.b64decode(str(rule.get("precompiled_charsmap"))))
    if growth > _MAX_GROWTH:
        raise ValueError(f"its rules make up to {growth:,} characters of one; at most {_MAX_GROWTH} are read")


def _growth(pattern: Any, content: str) -> int:
    literal = pattern.get("String") if isinstance(pattern, Mapping) else None
    if isinstance(literal, str) and literal:
        return max(-(-len(content) // len(literal)), 1)
    return 1 + len(content)  # a regular expression may match between any two characters


def _nested(node: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, Mapping):
        yield node
    children = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
    for child in children:
        yield from _nested(child)
