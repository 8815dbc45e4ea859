"""From the verdicts on many captions to the numbers that are reported."""

import collections
from collections.abc import Mapping, Sequence

from mdc_jax.data.sources.base import Verdict


def summarize(verdicts: Sequence[Verdict], possible: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """Shares of captions, and precision and recall per kind of claim.

    Args:
        verdicts: on one generated caption per image.
        possible: of the same images, how many claims of each kind their own captions make.

    Returns:
        "grammatical", "right" (every claim too), "right_without_repeats": shares of the captions;
        "hallucinated": objects per caption that the image does not have;
        "precision/KIND": the share of the claims of that kind which hold, where any is made;
        "recall", of all kinds together, and "recall/KIND": right claims, at most as many of each kind
        per image as its own caption makes, as a share of those. Captions choose what to say, so that
        also true ones of the same images stay below 1; those that say little are sooner right,
        and recall less.

    Raises:
        ValueError: if there are no verdicts, or not as many counts as verdicts.
    """
    if not verdicts or len(verdicts) != len(possible):
        raise ValueError(
            f"got {len(verdicts)} verdicts and {len(possible)} counts of claims; need one of each per image"
        )
    made: collections.Counter[str] = collections.Counter()
    right: collections.Counter[str] = collections.Counter()
    recalled: collections.Counter[str] = collections.Counter()
    wanted: collections.Counter[str] = collections.Counter()
    for verdict, own in zip(verdicts, possible, strict=True):
        held = collections.Counter(claim.kind for claim in verdict.claims if claim.right)
        made.update(claim.kind for claim in verdict.claims)
        right.update(held)
        recalled.update({kind: min(held[kind], count) for kind, count in own.items()})
        wanted.update(own)

    total = len(verdicts)
    summary = {
        "grammatical": sum(v.grammatical for v in verdicts) / total,
        "right": sum(v.right for v in verdicts) / total,
        "right_without_repeats": sum(v.right and not v.repeated for v in verdicts) / total,
        "hallucinated": sum(v.hallucinated for v in verdicts) / total,
    }
    summary |= {f"precision/{kind}": right[kind] / count for kind, count in sorted(made.items())}
    summary |= {"recall": recalled.total() / wanted.total()} if wanted.total() else {}
    summary |= {f"recall/{kind}": recalled[kind] / count for kind, count in sorted(wanted.items()) if count}
    return summary
