"""Files as strangers may make them: bytes at random, and JSON whose structure holds and whose content does not."""

import copy
import json
import random
import resource
import sys
from typing import Any

VALUES = (
    *(None, True, False, -1, 0, 1, 3, 2**31, 2**63, 10**30, -0.5, 0.25, 1e308, float("nan"), float("inf")),
    *("", "x", "../../../x", "/dev/zero", "a\0b", "\ud800", "9" * 60, [], [[]], [1, 2], {}, {"x": 1}),
)
_DEEP = b"[" * 200_000


def content(whole: bytes, rng: random.Random) -> bytes:
    """Cut off, bytes of it changed, moved in or left out; or something else altogether."""
    start, length = rng.randrange(len(whole) or 1), rng.choice((1, 1, 4, 40))
    before, middle, after = whole[:start], whole[start : start + length], whole[start + length :]
    return rng.choice(
        (
            before,
            before + after,
            before + rng.randbytes(len(middle)) + after,
            before + rng.randbytes(length) + middle + after,
            before + bytes([255]) * len(middle) + after,
            before + _DEEP + after,
            rng.randbytes(length),
        )
    )


def tree(whole: Any, rng: random.Random) -> Any:
    """JSON with one to three of its values replaced, left out, or taken twice."""
    changed = {"": copy.deepcopy(whole)}
    for _ in range(rng.randint(1, 3)):
        places = list(_places(changed))
        parent, key = rng.choice(places[1:] or places)
        if len(places) > 1 and rng.random() < 0.15:
            del parent[key]
        elif isinstance(parent, dict) and rng.random() < 0.1:
            parent[rng.choice(("x", "../../x", "/x"))] = copy.deepcopy(parent[key])
        else:
            parent[key] = copy.deepcopy(rng.choice(VALUES))
    return changed[""]


def text(whole: Any, rng: random.Random) -> bytes:
    """JSON as a stranger may write it."""
    changed = json.dumps(tree(whole, rng)).encode()
    return content(changed, rng) if rng.random() < 0.2 else changed


def _places(node: Any) -> Any:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield node, key
        yield from _places(value)


def peak_memory() -> int:
    """Bytes that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
