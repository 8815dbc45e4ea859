"""What was measured, as tables: rows are entries, and cells means with their 95% interval over seeds."""

import math
from collections.abc import Iterable, Mapping

from mdc_jax.comparison import headlines
from mdc_jax.comparison.findings import Findings, Run
from mdc_jax.report import collect, probe_tables, tables
from mdc_jax.report.document import Table
from mdc_jax.report.intervals import mean_and_interval
from mdc_jax.scoring.blind import images_text

Cells = dict[tuple[str, str], list[float]]  # by row and column, the value of each seed


def of_tasks(findings: Findings) -> Table:
    """What each entry reached in each task: the first thing that a reader wants to know."""
    seeds = {entry: sum(run.entry == entry for run in findings.runs) for entry in findings.entries}
    cells = {(entry, "seeds"): str(count) for entry, count in seeds.items()}
    for task in headlines.decisive(findings):
        values = {
            (entry, task.name): list(found.values()) for entry, found in headlines.answers(findings, task).items()
        }
        for (entry, name), text in _over_seeds(values, most=1.0).items():
            fewer = len(values[entry, name]) < seeds[entry]
            cells[entry, name] = f"{text} (seeds: {len(values[entry, name])})" if fewer else text
    caption = (
        "Shares, higher is better: means, of a probe over the families of labels, of foils over their kinds. In "
        "brackets Student's 95% interval over seeds; of one seed, and where seeds do not differ, there is none."
    )
    return _table("tasks", caption, cells)


def of_results(findings: Findings) -> list[Table]:
    """The tables of everything that evaluators wrote."""
    measured = [
        (
            "captions.jsonl",
            "captions",
            "shares of captions, and under precision/ of claims of a kind, that are right; likeness to the references, "
            "and under shuffled/ to those of other images",
        ),
        ("perplexity.csv", "likelihood", _LIKELIHOOD),
        ("retrieval.csv", "retrieval", "how often what belongs together is among the first 1, 5, 10 of all"),
        ("position_signal.csv", "position", _POSITION),
    ]
    found = [*_probes(findings), *_foils(findings)]
    for file, name, caption in measured:
        for evaluator in findings.files(file):
            text = f"{evaluator}: {caption.format(blind_images=_blind_images(findings, evaluator) or 'some')}."
            found.append(_measured(findings, evaluator, file, f"{name}_{evaluator}", text))
    return [*found, *_losses(findings)]


_LIKELIHOOD = (
    "log-likelihood of held-out captions in nats, exact or a bound as each objective has it (perplexity.csv of a run "
    "says which): bounds of different tightness, and captions whose length is given or is not, do not rank objectives"
)

_POSITION = (
    "what the image is worth to a token, by thirds of a caption: signal in nats, beside the mean of p over "
    "{blind_images} training images, also where visible words contradict these, which depends on position and "
    "objective; gradient as mdc_jax/evaluators/README.md says. Words differ by position in what an image could say of "
    "them: compare objectives"
)


def _probes(findings: Findings) -> Iterable[Table]:
    """Rows that are no entry (chance, raw pixels, untrained encoders) are those of the first entry."""
    for evaluator, paths in findings.files("probe.csv").items():
        groups = [
            (entry, [tables.read_csv(path) for run, path in paths.items() if run.entry == entry])
            for entry in findings.entries
        ]
        rows = collect.collect([(entry, lines) for entry, lines in groups if lines])
        lines = [dict(zip(collect.HEADER, row, strict=True)) for row in rows]
        for bound, title in probe_tables.TITLES.items():
            cells = {
                (probe_tables.row_label(line), f"{line['family']} ({line['metric']})"): tables.interval(
                    float(line["value"]), float(line["low"]), float(line["high"])
                )
                for line in lines
                if int(line["bound"]) == bound and line["metric"] in probe_tables.MAIN_METRICS
            }
            caption = (
                f"{evaluator}: {title}. Intervals over seeds; over test examples where there is one run or no seed."
            )
            yield _table(f"probes_{evaluator}_{('free', 'bound')[bound]}", caption, cells)


def _foils(findings: Findings) -> Iterable[Table]:
    """By kind, how often the true caption wins: of the model, of what is blind, and of the model less that."""
    for evaluator, paths in findings.files("foils.csv").items():
        cells: Cells = {}
        for run, path in paths.items():
            for line in tables.read_csv(path):
                if line["metric"] == "accuracy" and line["per"] == "caption":
                    cells.setdefault((_foil_row(run, line), line["kind"]), []).append(float(line["value"]))
        count = _blind_images(findings, evaluator)
        bank = "training images" if count is None else images_text(count)
        caption = (
            f"{evaluator}: how often the true caption scores higher; a tie is wrong. blind: log p(caption) alone, by "
            f"the mean over {bank} or a decoder trained without; less a x: the score less a times that."
        )
        yield _table(f"foils_{evaluator}", caption, _over_seeds(cells, most=1.0))


def _blind_images(findings: Findings, evaluator: str) -> int | None:
    """Of the mean that says p(caption); None where the plan does not say it."""
    count: int | None = findings.plan.get("evaluators", {}).get(evaluator, {}).get("blind_images")
    return count


def _foil_row(run: Run, line: Mapping[str, str]) -> str:
    row = f"{run.entry} ({line['scorer']})"
    if line["row"] == "blind":
        return f"{row}, blind: {line['prior']}"
    return f"{row}, less {float(line['exponent']):g} x {line['prior']}" if line["prior"] else row


def _measured(findings: Findings, evaluator: str, file: str, name: str, caption: str) -> Table:
    cells: Cells = {}
    for measure in findings.measures(file):
        if measure.evaluator == evaluator and not measure.metric.startswith("recall/"):  # too many to read
            for entry, values in findings.last(measure).items():
                cells[entry, measure.metric] = list(values.values())
    ordered = {key: cells[key] for entry in findings.entries for key in cells if key[0] == entry}
    found = _over_seeds(ordered)
    if file in ("captions.jsonl", "retrieval.csv"):  # shares, but for CIDEr-D, which goes up to 10
        found |= _over_seeds({key: values for key, values in ordered.items() if "cider" not in key[1]}, most=1.0)
    return _table(name, caption, found)


def _losses(findings: Findings) -> Iterable[Table]:
    for evaluator, paths in findings.files("masked_share.csv").items():
        cells: Cells = {}
        for run, path in paths.items():
            for line in tables.read_csv(path):
                share = f"{float(line['masked_share']):.2f}"
                cells.setdefault((run.entry, share), []).append(float(line["nats_per_token"]))
        caption = f"{evaluator}: nats per masked token of held-out captions, by the mean share that is masked."
        yield _table(f"masked_share_{evaluator}", caption, _over_seeds(cells))


def _over_seeds(cells: Cells, most: float = math.inf) -> dict[tuple[str, str], str]:
    """Means and intervals; of what cannot be below 0 nor above `most`, as a share, no interval is either."""
    least = 0.0 if math.isfinite(most) else -math.inf
    found = {}
    for key, values in cells.items():
        mean, low, high = mean_and_interval(values)
        found[key] = tables.interval(mean, max(low, least), min(high, most))
    return found


def _table(name: str, caption: str, cells: Mapping[tuple[str, str], str]) -> Table:
    return Table(name, caption, *tables.arranged(cells))
