import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from mdc_jax import command, files
from mdc_jax.config import ConfigError, parse, sections
from mdc_jax.evaluators import build, check, ratio
from mdc_jax.evaluators.base import Subject
from mdc_jax.evaluators.perplexity import by_share
from mdc_jax.exchange import own
from mdc_jax.report import tables
from mdc_jax.scoring.score import of_replicates
from mdc_jax.training import checkpoint, loop
from tests.evaluators.fakes import BAD, FakeObjective, FakeSource, make_subject

IDS = np.delete(np.arange(21), BAD)
SECTION = sections.Perplexity(examples=21, batch_size=8)


class Masking(FakeObjective):
    """Each masked token of ten costs twice the share that is masked."""

    def masked_losses(self, params, features, captions, key, *, draws):
        masked = jnp.broadcast_to(jnp.arange(1, draws + 1)[None, None], (*captions["length"].shape, draws))
        return 2 * masked**2 / 10, masked, jnp.full(captions["length"].shape, 10)


def test_values_per_caption_and_per_token_with_standard_errors(tmp_path, use_source):
    source = FakeSource(21)
    use_source(source)
    values = dict(build(SECTION).run(make_subject(tmp_path)))
    scores = -(3.0 + 4 + source.bits[IDS, 0])  # "a" and "cat" or "dog", by their token ids
    error = scores.std(ddof=1) / np.sqrt(len(IDS))
    perplexity = np.exp(-scores.mean() / 3)  # EOS is a token
    expected = {
        "ids/per_caption": scores.mean(),
        "ids/per_caption/standard_error": error,
        "ids/per_token": scores.mean() / 3,
        "ids/per_token/standard_error": error / 3,
        "ids/perplexity": perplexity,
        "ids/perplexity/standard_error": perplexity * error / 3,
    }
    assert values == pytest.approx(expected, rel=1e-5)
    (row,) = tables.read_csv(epath.Path(tmp_path) / "perplexity.csv")
    assert (row["sees"], row["scorer"], row["estimates"], int(row["captions"])) == ("image", "ids", "exact", len(IDS))
    assert int(row["tokens"]) == 3 * len(IDS)
    assert float(row["of_it_monte_carlo"]) == pytest.approx(0.5 / np.sqrt(len(IDS)), rel=1e-4)
    assert not (tmp_path / "masked_share.csv").exists()  # nothing is masked
    lines = files.read_json_lines(tmp_path / "predictions.jsonl")
    assert [line["id"] for line in lines] == list(IDS) and {line["tokens"] for line in lines} == {3}
    np.testing.assert_allclose([line["value"] for line in lines], scores, rtol=1e-6)


def test_the_standard_error_is_that_of_a_sample_and_unknown_of_one_image():
    rng = np.random.default_rng(0)
    claimed = [ratio.of_sums(rng.normal(size=4), np.ones(4))[1] ** 2 for _ in range(20_000)]
    assert np.mean(claimed) == pytest.approx(1 / 4, rel=0.02)
    value, error = ratio.of_sums(np.array([3.0, 0.0]), np.array([2, 0]))
    assert value == 1.5 and np.isnan(error)


@pytest.mark.parametrize("kind", ["similarity", "heuristic"])
def test_what_is_no_likelihood_is_left_out_unless_it_is_asked_for(tmp_path, use_source, monkeypatch, kind):
    use_source(FakeSource(21))
    score = FakeObjective().scorers["ids"]
    other = {"ids": score, "other": lambda *inputs: dataclasses.replace(score(*inputs), kind=kind)}
    monkeypatch.setattr(FakeObjective, "scorers", other)
    for scorers, names in (((), {"ids"}), (("other",), {"other"})):
        section = dataclasses.replace(SECTION, scorers=scorers)
        values = dict(build(section).run(make_subject(tmp_path)))
        assert {name.partition("/")[0] for name in values} == names
        assert ("ids/perplexity" in values) == ("ids" in names) and "other/perplexity" not in values
        (row,) = tables.read_csv(epath.Path(tmp_path) / "perplexity.csv")
        assert bool(row["perplexity"]) == bool(row["perplexity_standard_error"]) == ("ids" in names)


def test_the_loss_by_masked_share_is_a_table_and_a_picture(tmp_path, use_source):
    use_source(FakeSource(21))
    dict(build(SECTION).run(make_subject(tmp_path, Masking())))
    rows = tables.read_csv(epath.Path(tmp_path) / "masked_share.csv")
    share = np.arange(1, 11) / 10
    np.testing.assert_allclose([float(row["masked_share"]) for row in rows], share)
    np.testing.assert_allclose([float(row["nats_per_token"]) for row in rows], 2 * share, rtol=1e-5)
    np.testing.assert_allclose([float(row["standard_error"]) for row in rows], 0, atol=1e-6)
    assert (tmp_path / "masked_share.svg").read_text().startswith("<?xml")


def test_a_caption_that_an_image_lacks_is_no_part_of_the_curve(tmp_path, use_source):
    """Whatever an objective makes of it: where pads are targets it could mask all of them."""
    use_source(FakeSource(21))
    subject = make_subject(tmp_path, Masking())
    data = dataclasses.replace(subject.config.data, captions_per_image=2)
    subject = dataclasses.replace(subject, config=dataclasses.replace(subject.config, data=data))
    values = dict(build(SECTION).run(subject))
    assert len(files.read_json_lines(tmp_path / "predictions.jsonl")) == len(IDS) and values
    rows = tables.read_csv(epath.Path(tmp_path) / "masked_share.csv")
    (row,) = tables.read_csv(epath.Path(tmp_path) / "perplexity.csv")
    captions = int(row["captions"])
    assert [float(line["tokens"]) for line in rows] == [captions * masked for masked in range(1, 11)]


def test_short_captions_have_few_shares_and_empty_ones_none():
    masked = np.array([[1, 1, 2], [1, 3, 3], [0, 0, 0]])
    nats = np.array([[1.0, 3.0, 8.0], [1.0, 3.0, 6.0], [0, 0, 0]])
    found = by_share(nats[:, None], masked[:, None], np.array([[2], [3], [0]]))
    np.testing.assert_allclose(found[:, 0], [1 / 3, 1 / 2, 1])
    np.testing.assert_allclose(found[:, 1], [1, 4 / 2, 17 / 8])
    np.testing.assert_allclose(found[:, 3], [1, 2, 8])
    np.testing.assert_allclose(found[2, 2], 2**0.5 * np.hypot(8 - 2 * 17 / 8, 9 - 6 * 17 / 8) / 8)


def test_captions_of_an_image_are_one_observation_of_it():
    """With five equal captions an image says no more than with one."""
    rng = np.random.default_rng(0)
    masked, nats = rng.integers(1, 5, (40, 1, 3)), rng.normal(size=(40, 1, 3))
    once, often = (
        by_share(*(np.repeat(x, times, axis=1) for x in (nats, masked, np.full((40, 1), 4)))) for times in (1, 5)
    )
    np.testing.assert_allclose(often[:, :3], once[:, :3])
    score = of_replicates(jnp.asarray(rng.normal(size=(8, 40, 2))), "bound")
    present = jnp.arange(80).reshape(40, 2) % 3 > 0
    value, error = score.total(present)
    sums = np.where(present, score.replicates, 0).sum(-1)
    np.testing.assert_allclose(value, sums.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(error, sums.std(0, ddof=1) / 8**0.5, rtol=1e-5)


def test_settings_that_cannot_work_are_refused_before_training(tmp_path, use_source):
    use_source(FakeSource(21))
    config = dataclasses.replace(
        make_subject(tmp_path).config, data=sections.Data(train="scenes:train", test="scenes:test")
    )
    build(dataclasses.replace(SECTION, scorers=("elbo", "one_pass"))).check(config)
    with pytest.raises(ConfigError, match='perplexity: the objective has no scorer "autoregressive"; known: elbo'):
        build(dataclasses.replace(SECTION, scorers=("autoregressive",))).check(config)
    with pytest.raises(ConfigError, match="holds no checkpoint"):
        build(dataclasses.replace(SECTION, blind_workdir=str(tmp_path))).check(config)
    with pytest.raises(ConfigError, match='"clip" writes no captions: leave the evaluator mine out'):
        check(dataclasses.replace(config, objective=sections.Clip(), evaluators={"mine": SECTION}))


@pytest.mark.slow
def test_rows_without_images_beside_the_null_memory(tmp_path, monkeypatch):
    """Two runs of some steps: one with a null memory, and a decoder trained without images."""
    one = jax.devices()[:1]
    make_mesh = loop.sharding.make_mesh
    monkeypatch.setattr(loop.sharding, "make_mesh", lambda section, devices=one: make_mesh(section, one))
    root = pathlib.Path(__file__).parents[2]
    config = parse(command.load(str(root / "tests" / "end_to_end" / "tiny.py")))
    config = dataclasses.replace(config, duration="4 steps", evaluators={}, mesh=sections.Mesh(data=1))

    def train(name, rate, **evaluators):
        objective = sections.MaskedDiffusion(null_image_rate=rate)
        run = dataclasses.replace(config, objective=objective, evaluators=evaluators)
        return loop.train(run, tmp_path / name)

    train("blind", 1.0)
    assert checkpoint.load(tmp_path / "blind").step == 4
    section = sections.Perplexity(examples=16, batch_size=8, blind_workdir=str(tmp_path / "blind"))
    found = train("seeing", 0.3, perplexity=section)
    views = {name.split("/")[1] for name in found if name.endswith("/elbo/per_token")}
    assert views == {"elbo", "null_memory", "trained_without_images"}
    null, blind = (found[f"perplexity/{view}/elbo/per_token"] for view in ("null_memory", "trained_without_images"))
    assert found["perplexity/null_memory/elbo/counts_as_blind"] == float(-null <= 1.02 * -blind)
    seeing = checkpoint.load(tmp_path / "seeing")
    subject = Subject(
        seeing.objective, seeing.params, config, seeing.tokenizer, seeing.mesh, seeing.step, epath.Path(tmp_path)
    )
    export = epath.Path(tmp_path / "blind_export")
    export.mkdir()
    own.write(checkpoint.load(tmp_path / "blind"), export)
    exported = dict(build(dataclasses.replace(section, blind_workdir=str(export))).run(subject))
    assert exported["trained_without_images/elbo/per_token"] == pytest.approx(blind)
    with pytest.raises(ConfigError, match=r"it saw images; train one with objective\.null_image_rate=1\.0"):
        list(build(dataclasses.replace(section, blind_workdir=str(tmp_path / "seeing"))).run(subject))
    other = dataclasses.replace(config, objective=sections.Autoregressive())
    misfit = r"has objective\.name='masked_diffusion' where this run has"
    with pytest.raises(ConfigError, match=misfit):
        list(build(section).run(dataclasses.replace(subject, config=other)))
    # Also before a run is trained that could not be scored in the end.
    every = dataclasses.replace(sections.Compositionality(), blind_workdir=section.blind_workdir)
    of_export = dataclasses.replace(every, blind_workdir=str(export))
    for evaluator in (build(section), build(every), build(of_export)):
        evaluator.check(config)
        with pytest.raises(ConfigError, match=misfit):
            evaluator.check(other)
