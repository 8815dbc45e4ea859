import numpy as np

from mdc_jax.benchmarks import probe


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
    assert 7 < ten["GiB"] < 16
    assert np.isclose(probe.imagenet(20, 200)["GiB"], ten["GiB"])
