"""What fewer steps and other orders cost: the captions of a trained model, checked by the source's parser.

    python -m mdc_jax.benchmarks.decoding_quality --workdir=runs/scenes --examples=1000 --out=runs/scenes/decoding

Writes the captions of the test split once for every order and number of steps, 1, 2, 4 ... up to one token a step.
`quality.csv` has what the captioning evaluator finds each time, and in place of a precision its complement, the share
of wrong claims of a kind; `right.svg`, `wrong.svg` and `distinct.svg` draw the share of captions that are right, of
claims that are wrong, by kind, and of captions that differ. With --metrics also BLEU to CIDEr-D, where they can run,
and `cider.svg`, with those of shuffled images. The captions themselves are in a folder for each order and number of
steps.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
from absl import app, flags
from etils import epath

from mdc_jax import command
from mdc_jax.config import decoding as decoding_settings
from mdc_jax.config import sections
from mdc_jax.data.pipeline import DATA_ERRORS
from mdc_jax.evaluators.base import Subject
from mdc_jax.evaluators.captioning import Captioning
from mdc_jax.exchange import loading
from mdc_jax.report import plots, tables
from mdc_jax.training import compilation_cache

_DRAWN = {"right": "share of captions that are right", "distinct": "share of distinct captions", "cider": "CIDEr-D"}
_WRONG = "wrong/"  # and a kind of claim
ORDERS, _LENGTHS = (
    field.metadata["choices"] for field in dataclasses.fields(sections.Decoding) if field.name in ("order", "length")
)
Found = Mapping[str, Mapping[int, Mapping[str, float]]]  # order → steps → metric → value


def steps(words: int) -> list[int]:
    """1, 2, 4 ... below the number of words, and that."""
    return [2**i for i in range(words.bit_length()) if 2**i < words] + [words]


def measure(subject: Subject, section: sections.Captioning, order: str, count: int) -> dict[str, float]:
    """What the captioning evaluator finds, with wrong claims in place of right ones."""
    settings = dataclasses.replace(section.decoding, order=order, steps=count)
    decoding_settings.check(settings, subject.config.objective)
    section = dataclasses.replace(section, decoding=settings, shuffled=section.metrics, picture=0)
    out = subject.out / f"{order}_{count}"
    out.mkdir(parents=True, exist_ok=True)
    found = Captioning(section).run(dataclasses.replace(subject, out=out))
    return dict(_wrong(name, value) for name, value in found)


def _wrong(name: str, value: float) -> tuple[str, float]:
    kind = name.removeprefix("precision/")
    return (f"{_WRONG}{kind}", 1 - value) if kind != name else (name, value)


def write(out: epath.Path, found: Found) -> None:
    """Writes `quality.csv` and draws it."""
    rows = [
        [order, count, metric, value]
        for order, counts in found.items()
        for count, metrics in counts.items()
        for metric, value in metrics.items()
    ]
    tables.write_csv(out / "quality.csv", ["order", "steps", "metric", "value"], rows)
    draw(out, read(out / "quality.csv"))


def read(path: epath.Path) -> Found:
    """What `write` wrote to a `quality.csv`."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for row in tables.read_csv(path):
        metrics = found.setdefault(row["order"], {}).setdefault(int(row["steps"]), {})
        metrics[row["metric"]] = float(row["value"])
    return found


def draw(out: epath.Path, found: Found) -> None:
    """Draws a curve of each order, of what every source has, of what is right, and of what is wrong by kind."""
    for metric, label in _DRAWN.items():
        curves = {order: np.array([list(_points(counts, metric))]) for order, counts in found.items()}
        shuffled = {
            f"{order}, shuffled": list(_points(counts, f"shuffled/{metric}")) for order, counts in found.items()
        }
        curves |= {name: np.array([points]) for name, points in shuffled.items() if points and metric == "cider"}
        if all(points.size for points in curves.values()):
            (out / f"{metric}.svg").write_bytes(plots.bands(curves, "steps", label))
    measured = (metrics for counts in found.values() for metrics in counts.values())
    wrong = sorted({name for metrics in measured for name in metrics if name.startswith(_WRONG)})
    panels = {
        name.removeprefix(_WRONG): {
            order: np.array(points) for order, counts in found.items() if (points := list(_points(counts, name)))
        }
        for name in wrong
    }
    if panels:
        (out / "wrong.svg").write_bytes(plots.multiples(panels, "steps", "share of claims that are wrong"))


def _points(counts: Mapping[int, Mapping[str, float]], metric: str) -> Iterator[tuple[int, float]]:
    return ((count, metrics[metric]) for count, metrics in counts.items() if metric in metrics)


def main(_: list[str]) -> None:
    values = flags.FLAGS
    compilation_cache.enable()
    loaded = loading.load(values.workdir)
    out = epath.Path(values.out)
    out.mkdir(parents=True, exist_ok=True)
    subject = Subject.of(loaded, out)
    decoding = sections.Decoding(temperature=values.temperature, length=values.length)
    section = sections.Captioning(examples=values.examples, decoding=decoding, metrics=values.metrics)
    Captioning(section).check(loaded.config)
    found: dict[str, dict[int, dict[str, float]]] = {}
    for order in values.orders:
        for count in steps(loaded.config.data.max_tokens - 1):
            metrics = found.setdefault(order, {})[count] = measure(subject, section, order, count)
            shown = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items() if "/" not in name)
            print(f"{order:<10} {count:>3} steps  {shown}", flush=True)
    write(out, found)
    print(f"files in {out}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run whose latest checkpoint writes.", required=True)
    flags.DEFINE_string("out", None, "Folder for the table and the pictures.", required=True)
    flags.DEFINE_integer("examples", 1_000, "Images of the test split.", lower_bound=1)
    flags.DEFINE_list("orders", list(ORDERS), "In which positions are revealed.")
    flags.DEFINE_bool("metrics", False, "Also compare with references, see mdc_jax/evaluators/caption_metrics.py.")
    flags.DEFINE_enum("length", "model", _LENGTHS, "Where captions end; see Decoding in mdc_jax/config/sections.py.")
    flags.DEFINE_float("temperature", 0.0, "Of the draw of a token; 0: the likeliest.")
    app.run(command.reported(main, *DATA_ERRORS), flags_parser=command.parse_flags)
