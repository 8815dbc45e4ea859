"""The probe of a run against scikit-learn's on the same features.

    python -m mdc_jax.benchmarks.probe_of_run --workdir=runs/drawings [--probe=probe] [--csv=FILE]

Takes a linear probe of the run's config, its sources and label families, and the mean of the encoder's tokens. Ours
chooses the L2 by validation; scikit-learn's `LogisticRegression` (L-BFGS, from zero) is fitted at the same one on the
same standardised features. The table has the test metric of both, and their difference in points.
"""

import dataclasses
import pathlib
import tempfile

import numpy as np
from absl import app, flags
from etils import epath

from mdc_jax import command
from mdc_jax.config import ConfigError, sections
from mdc_jax.data.batch import LABEL_PREFIX
from mdc_jax.data.pipeline import DATA_ERRORS
from mdc_jax.data.sources import open_source
from mdc_jax.evaluators import probe_features, probe_sets, probes
from mdc_jax.evaluators.base import Subject, spec_of
from mdc_jax.evaluators.logistic import Logistic
from mdc_jax.evaluators.probe_features import POOLED, TRAINED
from mdc_jax.evaluators.scaling import Split, scale
from mdc_jax.report import tables
from mdc_jax.training import checkpoint


@dataclasses.dataclass(frozen=True)
class Compared:
    """Test metrics of a family at one L2."""

    family: str
    metric: str
    examples: int  # of the test split
    l2: float
    ours: float
    scikit_learn: float

    @property
    def points(self) -> float:
        return 100 * (self.ours - self.scikit_learn)


def compare(name: str, features: Split, task: probes.Task) -> Compared:
    """Probes features f32[N, D] by both."""
    tried = probes.attempt(scale(features, "standardised", turned=True), task, Logistic())
    l2 = tried.settings["l2"]
    theirs = dataclasses.replace(tried, logits=_scikit_learn(scale(features, "standardised"), task, l2))
    ours, other = (probes.read(attempt, task).interval(task.metric)[0] for attempt in (tried, theirs))
    return Compared(name, task.metric, len(task.rows["test"]), l2, ours, other)


def _scikit_learn(x: Split, task: probes.Task, l2: float) -> np.ndarray:
    """Logits f64[N, K] of the test examples."""
    from sklearn.linear_model import LogisticRegression  # slow to import

    train, test = (x[split][task.rows[split]] for split in ("train", "test"))
    labels = task.labels["train"]

    def fitted(y: np.ndarray) -> LogisticRegression:
        return LogisticRegression(C=1 / (len(train) * l2), max_iter=10_000, tol=1e-6).fit(train, y)

    if task.kind == "presence":
        return np.stack([fitted(y).decision_function(test) for y in labels.T], axis=1)
    model, logits = fitted(labels), np.full((len(test), len(task.names)), -np.inf)
    logits[:, model.classes_] = model.predict_log_proba(test)
    return logits


def measure(loaded: checkpoint.Loaded, section: sections.LinearProbe) -> list[Compared]:
    """Reads the splits of a probe and compares every family that can be probed."""
    section = dataclasses.replace(probe_sets.filled(section), baselines=False)
    specs = {split: getattr(section, split) or spec_of(loaded.config, split) for split in probes.SPLITS}
    counts = {split: section.read_factor * getattr(section, f"{split}_examples") for split in probes.SPLITS}
    most = {split: getattr(section, f"{split}_examples") for split in probes.SPLITS}
    families = open_source(specs["train"]).families
    names = section.families or tuple(families)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        rows = [probe_features.Row(TRAINED, POOLED, (TRAINED,))]
        subject = Subject.of(loaded, epath.Path(folder))
        cached = probe_features.extract(subject, {}, section, specs, counts, names, rows, pathlib.Path(folder))
        (features,) = rows[0].spaces(cached, TRAINED)
        for name in names:
            labels = {split: arrays[LABEL_PREFIX + name] for split, arrays in cached.items()}
            try:
                task = probes.make_task(families[name], labels, most, metric=section.metric)
            except probes.TooFew as reason:
                print(f"{name} is left out: {reason}")
                continue
            found.append(compare(name, features, task))
    return found


def write_csv(path: epath.Path, found: list[Compared]) -> None:
    """One line for each family."""
    names = [field.name for field in dataclasses.fields(Compared)]
    tables.write_csv(path, [*names, "points"], [[*dataclasses.astuple(c), round(c.points, 3)] for c in found])


def main(_: list[str]) -> None:
    options = flags.FLAGS
    csv = command.place("csv", options.csv)
    loaded = checkpoint.load(options.workdir)
    section = loaded.config.evaluators.get(options.probe)
    if not isinstance(section, sections.LinearProbe):
        raise ConfigError(f"--probe={options.probe}: the run's config has no linear probe of that name")
    found = measure(loaded, section)
    header = ("family", "metric", "test examples", "L2", "ours", "scikit-learn", "points")
    rows = [
        (c.family, c.metric, str(c.examples), f"{c.l2:g}", f"{c.ours:.4f}", f"{c.scikit_learn:.4f}", f"{c.points:+.2f}")
        for c in found
    ]
    print(tables.markdown(header, rows))
    if csv:
        write_csv(csv, found)


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run.", required=True)
    flags.DEFINE_string("probe", "probe", "Name of the linear probe in its config.")
    flags.DEFINE_string("csv", None, "File for every number.")
    app.run(command.reported(main, *DATA_ERRORS), flags_parser=command.parse_flags)
