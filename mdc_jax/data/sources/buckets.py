"""What goes wrong when a source in a bucket, gs://..., is opened, and what its user can do about it."""

import sys

_REFUSED = (401, 403)
_FORBIDDEN = "Forbidden: "  # how gcsfs's OSErrors tell a refusal
_HINT = (
    "The bucket is not open to you: log in with `gcloud auth application-default login` as somebody who may read it, "
    "or let its owner make it public"
)


def errors() -> tuple[type[Exception], ...]:
    """What gcsfs raises that is no OSError; nothing where it was not needed yet, since its import takes a second."""
    retry = sys.modules.get("gcsfs.retry")
    return (retry.HttpError, *retry.RETRIABLE_EXCEPTIONS) if retry else ()


def explained(error: Exception) -> str:
    """What an error says, with a hint where a bucket refused to be read."""
    refused = getattr(error, "code", None) in _REFUSED or (isinstance(error, OSError) and _FORBIDDEN in str(error))
    return f"{error}. {_HINT}" if refused else str(error)
