"""Plain texts, compared."""


def words(text: str) -> str:
    """A text without case and punctuation, to compare titles."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())
