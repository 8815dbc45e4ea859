"""The learning rate of an entry: the one whose probe is best on the validation split, over seeds that are not reported.

Where the best rate is the largest or the smallest that was tried, the grid is widened by its own step.
"""

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from mdc_jax import files
from mdc_jax.comparison import entries, sequence
from mdc_jax.comparison.settings import Comparison
from mdc_jax.config import ConfigError, sections
from mdc_jax.evaluators.base import spec_of
from mdc_jax.report import metrics_file, tables
from mdc_jax.training.train_log import NonFiniteError

CHOICE_FILE = "choice.json"
PROBE = "probe"


def choose(comparison: Comparison, workdir: epath.Path, name: str, *, steps: int) -> Mapping[str, Any] | None:
    """Tries the grid of an entry, prints and writes it, and returns what `choice.json` holds; None on a signal.

    The file has the rate that is `chosen`, the mean probe of every rate of the `grid` (null: it diverged), and whether
    the best is still `at_edge` after all widenings. Raises ConfigError where every rate diverged.
    """
    folder, tuning = workdir / "tuning" / name, comparison.tuning
    rates = sorted(tuning.learning_rates)
    scores: dict[float, float] = {}
    for left in range(tuning.widenings, -1, -1):
        for rate in rates:
            if rate not in scores:
                found = _score(comparison, folder / f"lr{rate:g}", name, rate, tuning.steps or steps)
                if found is None:
                    return None
                scores[rate] = found
        wider = beyond(rates, scores)
        if wider is None or not left:
            break
        print(f"{name}: the best learning rate is at the edge of the grid, which is widened to {wider:g}")
        rates = sorted([*rates, wider])
    if not any(map(math.isfinite, scores.values())):
        tried = ", ".join(f"{rate:g}" for rate in rates)
        raise ConfigError(
            f"{name} diverges at every learning rate that was tried, {tried}: give lower ones, as "
            f'--config.tuning.learning_rates="({rates[0] / 10:g},)"'
        )
    choice = {
        "chosen": max(rates, key=lambda rate: scores[rate]),
        "grid": {f"{rate:g}": scores[rate] if math.isfinite(scores[rate]) else None for rate in rates},
        "at_edge": beyond(rates, scores) is not None,
        "seeds": list(tuning.seeds),
        "steps": tuning.steps or steps,
    }
    folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / CHOICE_FILE, json.dumps(choice, indent=2) + "\n")
    print(f"\n{name}: mean probe of the validation split by learning rate\n\n{table(choice)}", flush=True)
    return choice


def beyond(rates: Sequence[float], scores: Mapping[float, float]) -> float | None:
    """The rate to try next where the best of `rates`, ascending, is the first or the last; None where it is neither.

    Rates are spaced as the two at that edge; a single one has no neighbours, and gets one three times as large.
    """
    best = max(rates, key=lambda rate: scores[rate])
    if not math.isfinite(scores[best]):
        return _rounded(rates[0] / (rates[1] / rates[0] if len(rates) > 1 else 3))  # all diverged: too large
    if best == rates[-1]:
        return _rounded(best * (best / rates[-2] if len(rates) > 1 else 3))
    if best == rates[0]:
        return _rounded(best / (rates[1] / best))
    return None


def table(choice: Mapping[str, Any]) -> str:
    """The grid as Markdown."""
    rows = [
        [f"**{rate}**" if float(rate) == choice["chosen"] else rate, "diverged" if score is None else f"{score:.4f}"]
        for rate, score in choice["grid"].items()
    ]
    return tables.markdown(["learning rate", "probe"], rows)


def _rounded(rate: float) -> float:
    return float(f"{rate:.3g}")


def _score(comparison: Comparison, folder: epath.Path, name: str, rate: float, steps: int) -> float | None:
    """The mean probe over families and seeds; -inf where training diverged; None where a signal stopped it."""
    found = []
    for seed in comparison.tuning.seeds:
        workdir = folder / f"seed{seed}"
        config = entries.config_of(comparison, name, seed=seed, steps=steps, lr=rate, evaluators={})
        config = _probed_on_validation(config, comparison.tuning.probe)
        try:
            if not sequence.train({workdir: config}):
                return None
        except NonFiniteError as error:
            print(f"{name} diverges at learning rate {rate:g}: {error}", flush=True)
            return -math.inf
        ended = metrics_file.read_results(workdir)
        if ended is None:
            raise ConfigError(f"{workdir / metrics_file.RESULTS_FILE} is gone, which this run had written: start again")
        _, results = ended
        found.append(statistics.fmean(value for key, value in results.items() if key.startswith(f"{PROBE}/")))
    score = statistics.fmean(found)
    if math.isnan(score):
        raise ConfigError(f"{folder}: a probe has no number, so that no rate can be chosen: give it more examples")
    return score


def _probed_on_validation(config: sections.Config, probe: sections.LinearProbe) -> sections.Config:
    """With a probe at the end that measures where others choose: no test example decides anything."""
    probe = dataclasses.replace(probe, every="end", baselines=False, test=spec_of(config, "validation"))
    return dataclasses.replace(
        config,
        evaluators={PROBE: probe},
        checkpoint=dataclasses.replace(config.checkpoint, keep_latest=1, keep_best=0),
    )
