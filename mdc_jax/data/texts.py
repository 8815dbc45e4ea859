"""Plain texts: compared, and whether they say anything."""

MAX_CAPTION = 10_000  # characters; longer ones are no captions


def words(text: str) -> str:
    """A text without case and punctuation, to compare titles."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())


def has_words(text: str) -> bool:
    """Whether there is a letter or digit in a text: what has none is no caption."""
    return any(map(str.isalnum, text))
