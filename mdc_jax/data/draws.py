"""Random integers that stay the same in later versions of Python, which promises that of `random()` alone."""

import random


def below(rng: random.Random, n: int) -> int:
    """A uniform integer in [0, n)."""
    return int(n * rng.random())


def sample(rng: random.Random, n: int, k: int) -> list[int]:
    """k different numbers below n, in a uniformly random order."""
    items = list(range(n))
    for i in range(k):
        j = i + int((n - i) * rng.random())
        items[i], items[j] = items[j], items[i]
    return items[:k]
