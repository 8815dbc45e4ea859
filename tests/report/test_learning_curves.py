import numpy as np
import scipy.stats

from mdc_jax.report import learning_curves
from mdc_jax.report.learning_curves import MEAN


def run(seconds: list[float], values: list[float]) -> dict[str, np.ndarray]:
    return {MEAN: np.stack([[100.0, 200.0], seconds, values], axis=1)}


def test_differences_are_paired_by_seed():
    first = {seed: run([10, 20], [0.5, 0.6 + 0.1 * seed]) for seed in range(3)}
    # Half as fast: when the first one ends, it is at its own first probe.
    slow = {seed: run([20, 40], [0.5, 0.65 + 0.1 * seed + 0.01 * seed]) for seed in range(3)}
    cells = [cell.strip() for cell in learning_curves.table({"a": first, "b": slow}).splitlines()[-1].split("|")[1:-1]]
    assert cells[:4] == ["b", "3", "40", "0.7600"]
    low, high = scipy.stats.t.interval(0.95, 2, loc=0.06, scale=scipy.stats.sem([0.05, 0.06, 0.07]))
    assert cells[5] == f"+0.0600 [{low:+.4f}, {high:+.4f}]"
    assert cells[4].startswith("-0.2000 [")  # 0.5 against 0.6, 0.7 and 0.8
