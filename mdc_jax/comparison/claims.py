"""What the paper claims (Feng, Wei, Owens, arXiv 2510.26799), beside what was found here, whatever that is."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mdc_jax.comparison import headlines
from mdc_jax.comparison.findings import Findings, Values
from mdc_jax.report import tables
from mdc_jax.report.document import Table
from mdc_jax.report.intervals import mean_and_interval

NOT_MEASURED = "not part of this comparison"


class _PaperClaim(NamedTuple):
    paper: str
    file: str  # that the evaluator writes which measures it here
    metric: str  # "": the mean over the first task of that evaluator
    varies: str  # a setting that has to differ between entries; "": none
    differs: str


_CLAIMS = (
    _PaperClaim(
        "Features of masked diffusion captioning are competitive with those of autoregressive captioning and of CLIP "
        "(linear probing).",
        "probe.csv",
        "",
        "",
        "The paper probes ImageNet-1K and trains on CC3M, CC12M and Recap-DataComp; here the data and sizes below. "
        "Mean over families of labels.",
    ),
    _PaperClaim(
        "Unlike in autoregressive captioning, the strength of the visual learning signal does not depend on a token's "
        "position.",
        "position_signal.csv",
        "signal/last_third",
        "",
        "Nats that the image is worth to tokens in the last third of a caption; all thirds and positions are below.",
    ),
    _PaperClaim(
        "One unified schedule: no masking ratio has to be tuned per data set, as image-conditioned BERT needs it.",
        "probe.csv",
        "",
        "objective.ratio",
        "One data set: the claim needs two, on each of which the best ratio of the other is worse (--beside).",
    ),
    _PaperClaim(
        "Linear probing improves with the number of pairs (5M to 30M of Recap-DataComp-1B).",
        "probe.csv",
        "",
        "data.train",
        "Numbers of pairs are smaller by orders of magnitude.",
    ),
    _PaperClaim(
        "ARO-Relation: CLIP 53.6, autoregressive 82.7, masked diffusion 84.6 (heuristic scorer) and 85.1 (Monte "
        "Carlo).",
        "foils.csv",
        "replace_relation/accuracy",
        "",
        "ARO's foils can be told from the text alone; here a relation is replaced by one that is true of another "
        "rendered scene, in both directions, so that text alone is right half of the time.",
    ),
)


def table(findings: Findings) -> Table:
    """A row for each claim, with what was found of all entries."""
    rows = [[claim.paper, _found(findings, claim), claim.differs] for claim in _CLAIMS]
    caption = "The paper's claims; what is said of our numbers is made from these alone. In brackets 95% intervals."
    return Table("claims", caption, ["paper", "here", "what differs"], rows)


def _found(findings: Findings, claim: _PaperClaim) -> str:
    if claim.varies and not _varies(findings.plan["entries"], claim.varies):
        return NOT_MEASURED
    values = _values(findings, claim)
    if not values:
        return NOT_MEASURED
    means = [f"{entry} {tables.interval(*mean_and_interval(list(found.values())))}" for entry, found in values.items()]
    first = findings.entries[0]
    said = [
        f"{first} less {other} = {headlines.said(difference)}"
        for other, difference in headlines.to_first(findings, values).items()
    ]
    return "; ".join(means) + ". " + "; ".join(said) + "."


def _values(findings: Findings, claim: _PaperClaim) -> Values:
    if claim.metric:
        found = [m for m in findings.measures(claim.file) if m.metric == claim.metric]
        return findings.last(found[0]) if found else {}
    tasks = [task for task in headlines.decisive(findings) if task.measures[0].file == claim.file]
    return headlines.answers(findings, tasks[0]) if tasks else {}


def _varies(entries: Sequence[Mapping[str, Any]], key: str) -> bool:
    return any(setting.startswith(f"{key}=") for entry in entries for setting in entry["settings"])
