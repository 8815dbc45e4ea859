"""The report of a comparison: `report.html`, `report.md`, tables as CSV and LaTeX, figures as SVG and PDF.

    python -m mdc_jax.comparison.report --workdir=runs/compare

reads WORKDIR and writes WORKDIR/report, also of what is not finished yet. --beside=OTHER holds the masking ratios of
two comparisons on different data sets against each other.
"""

from collections.abc import Mapping

import numpy as np
from absl import app, flags
from etils import epath

from mdc_jax import command
from mdc_jax.comparison import claims, findings, headlines, predictions, ratios, result_tables, terms
from mdc_jax.comparison.findings import Findings, Point
from mdc_jax.comparison.headlines import Claim, Task
from mdc_jax.comparison.significance import MARGIN
from mdc_jax.report import document, panels, tables
from mdc_jax.report.document import Block, Heading, Paragraph, Picture, Table

FOLDER = "report"
# Tables whose lines are parts of the tokens: the file, the column that names a part, and those that are drawn.
_PARTS = (
    ("masked_share.csv", "masked_share", ("nats_per_token",)),
    ("position_signal.csv", "position", ("signal", "gradient")),
)
_AXES = {"steps": 0, "examples": 1, "FLOPs of training": 2, "seconds of training": 3}


def write(workdir: epath.Path, beside: epath.Path | None = None) -> epath.Path:
    """Writes the report of a comparison and returns its folder; raises ConfigError where there is nothing to report.

    `beside` is the workdir of a comparison of the same masking ratios on another data set.
    """
    found, folder = findings.read(workdir), workdir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    other = findings.read(beside) if beside else None
    claimed = headlines.claims(found)
    blocks: list[Block] = [
        *_introduction(found),
        Heading("Differences"),
        *_differences(found, claimed, folder),
        Heading("The paper's claims"),
        claims.table(found),
        *ratios.blocks(found, other, folder),
        Heading("What was measured"),
        *result_tables.of_results(found),
        *_by_part(found, folder),
        _every_difference(found),
        Heading("On the way"),
        *(_course(found, number, task, folder) for number, task in enumerate(headlines.tasks(found))),
        Heading("Terms"),
        *terms.tables_of(found),
        terms.commands(found),
    ]
    document.write(folder, "Objectives on equal terms", blocks)
    return folder


def _introduction(found: Findings) -> list[Block]:
    first, *others = found.entries
    seeds = sorted({run.seed for run in found.runs if run.entry == first})
    planned, done = len(found.plan["runs"]), len(found.runs)
    text = f"{first}, and beside it {', '.join(others) or 'nothing'}. Seeds of {first}: {', '.join(map(str, seeds))}."
    if done < planned:
        text += f" {done} of {planned} runs have results yet."
    if len(seeds) == 1:
        text += " With one seed there is no interval over seeds: what another seed would give is not known."
    return [Paragraph(text), *map(Paragraph, found.plan.get("notes", ()))]


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
        f"Differences of {first} to the others, paired by seed: mean and Student's 95% interval. p is adjusted by Holm "
        f"over all lines of this table. better, worse: adjusted p at most .05. as good: at most {MARGIN:g} worse at "
        "the bound of the interval. not decided: neither."
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


def _over_examples(found: Findings) -> Table:
    first = found.entries[0]
    rows = [
        [where, asked, f"{first} less {other}", tables.interval(*interval), str(seeds), str(examples)]
        for where, asked, other, seeds, examples, interval in predictions.differences(found)
    ]
    caption = (
        "The same example by example: mean difference of what is right, and its 95% bootstrap interval over examples "
        "and, where there are several, seeds. No p value here is adjusted."
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


def _by_part(found: Findings, folder: epath.Path) -> list[Block]:
    """What evaluators measured by the share that is masked, and by the position of a token: a line for each run."""
    blocks: list[Block] = []
    for file, x, columns in _PARTS:
        for evaluator, paths in found.files(file).items():
            for y in columns:
                curves: dict[str, list[np.ndarray]] = {}
                for run, path in paths.items():
                    lines = [line for line in tables.read_csv(path) if x != "position" or line["masked_share"] == "all"]
                    curves.setdefault(run.entry, []).append(
                        np.array([[float(line[x]), float(line[y])] for line in lines])
                    )
                name = f"{evaluator}_{y}_by_{x}"
                figure = panels.curves({x.replace("_", " "): curves}, y.replace("_", " "))
                svg = panels.save(figure, folder / f"{name}.svg")
                blocks.append(Picture(name, svg, f"{evaluator}: {y} by {x}".replace("_", " ")))
    return blocks


def main(_: list[str]) -> None:
    beside = flags.FLAGS.beside
    folder = write(epath.Path(flags.FLAGS.workdir), epath.Path(beside) if beside else None)
    print((folder / "report.md").read_text())
    print(f"files in {folder}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "That of a comparison.", required=True)
    flags.DEFINE_string("beside", None, "That of the same ratios on another data set.")
    app.run(command.reported(main), flags_parser=command.parse_flags)
