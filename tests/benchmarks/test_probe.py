import numpy as np
import pytest
from etils import epath

from mdc_jax.benchmarks import probe, probe_of_run
from mdc_jax.data.sources.base import Family
from mdc_jax.evaluators import probes
from mdc_jax.report import tables


def test_ours_is_as_low_as_scikit_learn_at_the_same_penalty_and_labels_are_not_separable():
    data = probe.make_data({"train": 600, "validation": 1000}, classes=5, noise=0.2, width=32, depth=1, seed=0)
    assert data.x["train"].shape == (600, 32)
    l2s = [1.0, 1e-1, 1e-2]
    ours, _ = probe.path(data, l2s, 1e-8)
    theirs = {l2: probe.scikit_learn(data, l2) for l2 in l2s}
    assert all(m.gradient < 2e-3 for m in theirs.values())
    for l2 in l2s:
        assert ours[l2].objective < theirs[l2].objective + 1e-5
        assert ours[l2].gradient < 2e-3
        assert abs(ours[l2].accuracy - theirs[l2].accuracy) <= 0.003
    assert ours[1e-2].objective > 0.5
    result = probe.report(ours, theirs, (1.0, 1.0))
    assert set(result["ours"]) == set(result["scikit_learn"])


def test_a_probe_of_the_size_of_imagenet_costs_in_proportion_to_its_gradients():
    ten = probe.imagenet(10, 200)
    assert ten["hours"] > 0
    assert 3.6 < ten["GiB"] < 5
    assert probe.copies_of_layers(20_000, 48, 2) < 1.6
    assert np.isclose(probe.imagenet(20, 200)["GiB"], ten["GiB"])


@pytest.mark.parametrize("kind", ["class", "presence"])
def test_the_probe_of_a_run_is_that_of_scikit_learn_also_where_labels_are_missing(kind, tmp_path):
    rng = np.random.default_rng(0)
    x, labels = {}, {}
    for split, count in {"train": 500, "validation": 200, "test": 400}.items():
        x[split] = rng.standard_normal((count, 6)).astype(np.float32) * 3 + 1
        scores = x[split][:, :3] + rng.gumbel(size=(count, 3)) * 3
        y = np.where(rng.random(count) < 0.3, -1, scores.argmax(1)).astype(np.int32)
        labels[split] = y if kind == "class" else (scores > 1).astype(np.uint8)
    # The last name is of no training example.
    task = probes.make_task(Family(kind, tuple("abcd" if kind == "class" else "abc")), labels)
    found = probe_of_run.compare("family", x, task)
    assert abs(found.points) < 0.3
    assert 0.5 < found.ours < 0.95
    probe_of_run.write_csv(epath.Path(tmp_path / "probe.csv"), [found])
    (row,) = tables.read_csv(epath.Path(tmp_path / "probe.csv"))
    assert (row["family"], float(row["points"])) == ("family", pytest.approx(found.points, abs=1e-3))
