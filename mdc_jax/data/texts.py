"""Plain texts: compared, shown, and whether they say anything."""

import os

MAX_CAPTION = 10_000  # characters; longer ones are no captions


def words(text: str) -> str:
    """A text without case and punctuation, to compare titles."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())


def has_words(text: str) -> bool:
    """Whether there is a letter or digit in a text: what has none is no caption."""
    return any(map(str.isalnum, text))


def readable(name: str | os.PathLike[str]) -> str:
    r"""A name from the data as it may stand in a file or on a terminal.

    Bytes that are no UTF-8, as in archives from elsewhere, are spelled, "caf\xe9", and so are line breaks and what else
    a terminal would act on.
    """
    return "".join(c if c.isprintable() else _spelled(c) for c in os.fspath(name))


def _spelled(character: str) -> str:
    undecoded = ord(character) - 0xDC00  # how Python keeps a byte that it could not decode (PEP 383)
    return f"\\x{undecoded:02x}" if 0x80 <= undecoded <= 0xFF else character.encode("unicode_escape").decode()
