"""What the paper claims (Feng, Wei, Owens, arXiv 2510.26799), beside what was found here, whatever that is."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from mdc_jax.comparison import headlines, pairs
from mdc_jax.comparison.findings import Findings, Values, setting
from mdc_jax.comparison.significance import Difference
from mdc_jax.config import sections
from mdc_jax.report import tables
from mdc_jax.report.document import Table
from mdc_jax.report.intervals import mean_and_interval

NOT_MEASURED, NOT_YET = "not part of this comparison", "not measured yet"
_PAIRS = "data.train"
_TYPES = {
    "probe.csv": sections.LinearProbe.type,
    "position_signal.csv": sections.PositionSignal.type,
    "foils.csv": sections.Compositionality.type,
}


class _PaperClaim(NamedTuple):
    paper: str
    file: str  # that the evaluator writes which measures it here
    metrics: tuple[str, ...]  # (): the mean over the first task of that evaluator
    varies: str  # a setting of which entries have to have several values; "": none
    differs: str
    beside: tuple[str, ...] = ()  # objectives of which an entry has to be there; (): any


_CLAIMS = (
    _PaperClaim(
        "Features of masked diffusion captioning are competitive with those of autoregressive captioning and of CLIP "
        "(linear probing).",
        "probe.csv",
        (),
        "",
        "The paper probes ImageNet-1K and trains on CC3M, CC12M and Recap-DataComp; here the data and sizes below. "
        "Mean over families of labels.",
        (sections.Autoregressive.name, sections.Clip.name),
    ),
    _PaperClaim(
        "Unlike in autoregressive captioning, the strength of the visual learning signal does not depend on a token's "
        "position.",
        "position_signal.csv",
        ("signal/last_less_first", "gradient/last_less_first"),
        "",
        "What the image is worth to the last third of a caption, less what it is worth to the first. Words differ in "
        "what an image could say of them, so that differences between objectives count; one from right to left reads "
        "the last third first, and should differ the other way.",
    ),
    _PaperClaim(
        "One unified schedule: no masking ratio has to be tuned per data set, as image-conditioned BERT needs it.",
        "probe.csv",
        (),
        "objective.ratio",
        "One data set: the claim needs two, on each of which the best ratio of the other is worse (--beside).",
    ),
    _PaperClaim(
        "Linear probing improves with the number of pairs (5M to 30M of Recap-DataComp-1B).",
        "probe.csv",
        (),
        _PAIRS,
        "Numbers of pairs are smaller by orders of magnitude.",
    ),
    _PaperClaim(
        "ARO-Relation: CLIP 53.6, autoregressive 82.7, masked diffusion 84.6 (heuristic scorer) and 85.1 (Monte "
        "Carlo).",
        "foils.csv",
        ("replace_relation/accuracy",),
        "",
        "ARO's foils can be told from the text alone; here a relation is replaced by one that is true of another "
        "rendered scene, in both directions, so that text alone is right half of the time.",
    ),
)


def table(findings: Findings) -> Table:
    """A row for each claim, with what was found of the entries that are no controls."""
    rows = [[claim.paper, _found(findings, claim), claim.differs] for claim in _CLAIMS]
    caption = "The paper's claims; what is said of our numbers is made from these alone. In brackets 95% intervals."
    return Table("claims", caption, ["paper", "here", "what differs"], rows)


def _found(findings: Findings, claim: _PaperClaim) -> str:
    every = {
        name: {entry: seeds for entry, seeds in values.items() if entry not in findings.controls}
        for name, values in _values(findings, claim).items()
    }
    found = {name: values for name, values in every.items() if values}
    names = {entry["name"] for entry in findings.plan["entries"]}
    if not _is_of(findings, claim, names):
        return NOT_MEASURED
    if not found or not _is_of(findings, claim, set(findings.entries)):
        types = {section.get("type") for section in findings.plan.get("evaluators", {}).values()}
        return NOT_YET if _TYPES[claim.file] in types else NOT_MEASURED
    if claim.varies == _PAIRS:
        (values,) = found.values()
        return _listed(pairs.growth(findings, values)) or NOT_MEASURED
    return " ".join(
        (f"{name}: " if len(found) > 1 else "") + _beside(findings, values) for name, values in found.items()
    )


def _beside(findings: Findings, values: Values) -> str:
    """The mean of each entry, and the first one less those that it is held against."""
    means = [f"{entry} {tables.interval(*mean_and_interval(list(found.values())))}" for entry, found in values.items()]
    differences = headlines.to_first(findings, values).items()
    listed = _listed({f"{findings.entries[0]} less {other}": difference for other, difference in differences})
    return "; ".join(means) + "." + (f" {listed}" if listed else "")


def _listed(differences: Mapping[str, Difference]) -> str:
    text = "; ".join(f"{name} = {headlines.said(difference)}" for name, difference in differences.items())
    return f"{text}." if text else ""


def _values(findings: Findings, claim: _PaperClaim) -> Mapping[str, Values]:
    """By metric, or by the name of a task."""
    if claim.metrics:
        # Of several evaluators the first.
        measures = {measure.metric: measure for measure in reversed(findings.measures(claim.file))}
        return {metric: findings.last(measures[metric]) for metric in claim.metrics if metric in measures}
    tasks = [task for task in headlines.decisive(findings) if task.measures[0].file == claim.file]
    return {task.name: headlines.answers(findings, task) for task in tasks[:1]}


def _is_of(findings: Findings, claim: _PaperClaim, names: Collection[str]) -> bool:
    """Whether entries of these names are what the claim is about."""
    entries = [entry for entry in findings.plan["entries"] if entry["name"] in names and not entry["control"]]
    varies = not claim.varies or len({setting(entry, claim.varies) for entry in entries} - {""}) > 1
    return varies and (not claim.beside or any(entry["objective"] in claim.beside for entry in entries[1:]))
