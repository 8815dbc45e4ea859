"""The report of a comparison: `report.html`, `report.md`, tables as CSV and LaTeX, figures as SVG and PDF.

    python -m mdc_jax.comparison.report --workdir=runs/compare

reads WORKDIR and writes WORKDIR/report, of the runs that are finished, and WORKDIR/results.csv anew, with what
`mdc_jax.evaluate` measured since. --beside=OTHER,... holds comparisons on other data against it: the masking ratios of
one more, or the places of words of several.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence

import numpy as np
from absl import app, flags
from etils import epath

from mdc_jax import command
from mdc_jax.comparison import (
    claims,
    collect,
    findings,
    headlines,
    pairs,
    parts,
    positions,
    predictions,
    ratios,
    result_tables,
    terms,
)
from mdc_jax.comparison.findings import Findings, Point
from mdc_jax.comparison.headlines import Claim, Task
from mdc_jax.comparison.significance import LEVEL, MARGIN, clearest
from mdc_jax.config import ConfigError
from mdc_jax.report import document, panels, tables
from mdc_jax.report.document import Block, Heading, Paragraph, Picture, Table

FOLDER = "report"
_AXES = {"steps": 0, "examples": 1, "FLOPs of training": 2, "seconds of training": 3}


def write(workdir: epath.Path, beside: Sequence[epath.Path] = ()) -> epath.Path:
    """Writes the report of a comparison in place of an earlier one, and returns its folder.

    `beside` are the workdirs of the same comparison on other data. Raises ConfigError for a workdir of none, and for
    comparisons that cannot be held against each other.
    """
    found, others = findings.read(workdir), [findings.read(other) for other in beside]
    # Another folder first: what is no longer found would lie beside what is, and several processes may report.
    written = workdir / f".{FOLDER}.{os.getpid()}"
    written.rmtree(missing_ok=True)
    written.mkdir()
    try:
        results = _results(found, others, written) if found.runs else []
        document.write(written, "Objectives on equal terms", [*_introduction(found), *results])
        return _move(written, workdir / FOLDER)
    finally:
        written.rmtree(missing_ok=True)


def _move(written: epath.Path, folder: epath.Path) -> epath.Path:
    for _ in range(2):
        folder.rmtree(missing_ok=True)
        with contextlib.suppress(OSError):  # another process has put its own there at this moment
            return written.rename(folder)
    folder.rmtree(missing_ok=True)
    return written.rename(folder)


def _results(found: Findings, others: Sequence[Findings], folder: epath.Path) -> list[Block]:
    claimed = headlines.claims(found)
    return [
        Heading("What was found"),
        result_tables.of_tasks(found),
        Heading("Differences"),
        *_differences(found, claimed, folder),
        Heading("The paper's claims"),
        claims.table(found),
        *pairs.blocks(found, folder),
        *_on_other_data(found, others, folder),
        Heading("What was measured"),
        *result_tables.of_results(found),
        *parts.blocks(found, folder),
        _every_difference(found),
        Heading("On the way"),
        *(_course(found, number, task, folder) for number, task in enumerate(headlines.tasks(found))),
        Heading("Terms"),
        *terms.tables_of(found),
        terms.commands(found),
    ]


def _on_other_data(found: Findings, others: Sequence[Findings], folder: epath.Path) -> list[Block]:
    for other in others:
        different = findings.differ(found, other)
        if different:
            raise ConfigError(
                f"--beside: {found.plan['base']} and {other.plan['base']} differ in more than their data: "
                f"{', '.join(different)}; compare both on the same terms"
            )
    if others and positions.place(found):
        return positions.blocks([found, *others], folder)
    if len(others) > 1:
        raise ConfigError("--beside: masking ratios are held against those of one more comparison: give one folder")
    return ratios.blocks(found, others[0] if others else None, folder)


def _introduction(found: Findings) -> list[Block]:
    planned, done = len(found.plan["runs"]), len(found.runs)
    notes = map(Paragraph, found.plan.get("notes", ()))
    if not done:
        return [Paragraph(f"None of {planned} runs is finished yet."), *notes]
    first, *others = found.entries
    seeds = sorted({run.seed for run in found.runs if run.entry == first})
    text = f"{first}, and beside it {', '.join(others) or 'nothing'}. Seeds of {first}: {', '.join(map(str, seeds))}."
    if first != (planned_first := found.plan["entries"][0]["name"]):
        text += f" {planned_first}, which is to be the first, has no finished run: {first} stands in."
    if done < planned:
        text += f" {done} of {planned} runs are finished; others are left out, whatever they have measured already."
    diverged = [f"{run['entry']}/seed{run['seed']}" for run in found.plan["runs"] if run.get("diverged")]
    if diverged:  # those that are left may be the easier ones
        text += f" Given up, since they diverged: {', '.join(diverged)}; means are of the other seeds."
    if len(seeds) == 1:
        text += " With one seed there is no interval over seeds: what another seed would give is not known."
    return [Paragraph(text), *notes]


def _differences(found: Findings, claimed: list[Claim], folder: epath.Path) -> list[Block]:
    first = found.entries[0]
    rows = [
        [
            claim.task,
            f"{first} less {claim.other}",
            headlines.said(claim.difference),
            str(claim.difference.seeds),
            f"{claim.difference.p:.3g}",
            f"{claim.adjusted_p:.3g}",
            claim.verdict,
        ]
        for claim in claimed
    ]
    caption = (
        f"Differences of {first} to an entry of each other objective, or to its variants where there is none, paired "
        "by seed: mean and Student's 95% interval. p is adjusted by Holm over all lines of this table. better, worse: "
        f"adjusted p at most {LEVEL:g}. as good: at most {MARGIN:g} worse at the bound of the interval. not decided: "
        f"neither, which is not the same as no difference: {_how_clear(claimed)}. Other entries are further below, "
        "without claims."
    )
    header = ["task", "difference", "mean [95% interval]", "seeds", "p", "p, Holm", f"{first} is"]
    lines = [(f"{c.task}: {first} less {c.other}", *c.difference[:3]) for c in claimed]
    blocks: list[Block] = [Table("differences", caption, header, rows)]
    if lines:
        name = "differences_picture"
        svg = panels.save(
            panels.intervals(lines, "difference, with its 95% interval over seeds"), folder / f"{name}.svg"
        )
        blocks.append(Picture(name, svg, f"Differences of {first} to the others with their intervals"))
    return [*blocks, _over_examples(found)]


def _how_clear(claimed: Sequence[Claim]) -> str:
    """What better and worse take."""
    lines, seeds = len(claimed), max((claim.difference.seeds for claim in claimed), default=1)
    if seeds == 1:
        return "one seed decides nothing"
    return (
        f"the clearest of {lines} lines has to differ by {clearest(lines, seeds):.1f} standard errors of {seeds} seeds"
    )


def _over_examples(found: Findings) -> Table:
    first = found.entries[0]
    rows = [
        [where, asked, f"{first} less {other}", tables.interval(*interval), str(seeds), str(examples)]
        for where, asked, other, seeds, examples, interval in predictions.differences(found)
    ]
    caption = (
        "The same example by example: mean difference of what is right, over seeds, and its 95% bootstrap interval "
        "over examples, of these seeds: it does not say what other seeds would give."
    )
    return Table("differences_over_examples", caption, ["predictions", "", "difference", "", "seeds", "examples"], rows)


def _every_difference(found: Findings) -> Table:
    first = found.entries[0]
    rows = []
    for measure in found.curves:
        for other, difference in headlines.to_first(found, found.last(measure)).items():
            name = f"{measure.evaluator}: {measure.metric}"
            rows.append([name, f"{first} less {other}", headlines.said(difference), str(difference.seeds)])
    caption = "Every measure, paired by seed, without any claim: of so many intervals some exclude 0 by chance."
    return Table("differences_all", caption, ["measure", "difference", "mean [95% interval]", "seeds"], rows)


def _course(found: Findings, number: int, task: Task, folder: epath.Path) -> Picture:
    curves = headlines.curves(found, task)
    figure = panels.curves({axis: _lines(curves, place) for axis, place in _AXES.items()}, task.name)
    name = f"course_{number}"
    return Picture(name, panels.save(figure, folder / f"{name}.svg"), f"{task.name} against {', '.join(_AXES)}")


def _lines(curves: Mapping[str, Mapping[int, tuple[Point, ...]]], place: int) -> panels.Curves:
    return {
        entry: [np.array([[point[place], point.value] for point in points]) for points in seeds.values()]
        for entry, seeds in curves.items()
    }


def main(_: list[str]) -> None:
    workdir, *beside = map(epath.Path, [flags.FLAGS.workdir, *flags.FLAGS.beside])
    for comparison in (workdir, *beside):
        collect.write(comparison)
    folder = write(workdir, beside)
    print((folder / "report.md").read_text())
    print(f"files in {folder}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "That of a comparison.", required=True)
    flags.DEFINE_list("beside", [], "Those of the same comparison on other data, separated by commas.")
    app.run(command.reported(main), flags_parser=command.parse_flags)
