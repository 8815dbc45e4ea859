"""A checkpoint that cannot be read costs the steps since the one before, and nothing else."""

import collections
import contextlib
import dataclasses
import itertools
import json
import pathlib
import random
import shutil
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from etils import epath

from mdc_jax import lock
from mdc_jax.config import ConfigError, sections
from mdc_jax.report import metrics_file
from mdc_jax.training import checkpoint, loop
from tests import tampering
from tests.training.test_checkpoint import FORMAT_1, make_state
from tests.training.test_loop import losses, tiny

# Orbax gives up on reads that nobody waits for any more.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("one_device", "no_pause"),
]


def cut(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def largest(folder: pathlib.Path) -> pathlib.Path:
    return max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


DAMAGE = {
    "array cut": lambda step: cut(largest(step / "params")),
    "array gone": lambda step: largest(step / "optimizer").unlink(),
    "item gone": lambda step: shutil.rmtree(step / "params"),
    "meta cut": lambda step: cut(step / "meta" / "metadata"),
    "meta empty": lambda step: (step / "meta" / "metadata").write_bytes(b""),
}
OF_ITEMS = ("_METADATA", "_sharding", "array_metadatas/process_0")  # the JSON files that Orbax writes for each
CONFIG = {"duration": "6 steps", "checkpoint": sections.Checkpoint(every="2 steps", keep_latest=3)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        make_mesh = loop.sharding.make_mesh
        patch.setattr(loop.sharding, "make_mesh", lambda section: make_mesh(section, loop.jax.devices()[:1]))
        loop.train(tiny(**CONFIG), workdir)
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("kind", DAMAGE)
def test_the_checkpoint_before_is_used_and_the_run_ends_as_it_would_have(
    undisturbed: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    workdir = shutil.copytree(undisturbed, tmp_path / "run")
    (workdir / metrics_file.RESULTS_FILE).unlink()
    DAMAGE[kind](workdir / checkpoint.CHECKPOINTS / "6")
    loop.train(tiny(**CONFIG), workdir)
    said = capsys.readouterr().out
    assert "warning: checkpoint 6" in said and "step 4 used instead" in said
    assert (workdir / checkpoint.DAMAGED / "6").is_dir()
    assert checkpoint.steps(workdir) == [2, 4, 6]
    assert losses(workdir) == losses(undisturbed)
    ended, expected = (checkpoint.load(run).params["decoder"]["head"]["kernel"] for run in (workdir, undisturbed))
    np.testing.assert_array_equal(ended, expected)


def test_where_none_can_be_read_nothing_is_touched(undisturbed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    workdir = shutil.copytree(undisturbed, tmp_path / "run")
    for step in (2, 4, 6):
        cut(largest(workdir / checkpoint.CHECKPOINTS / str(step)))
    longer = tiny(**{**CONFIG, "duration": "8 steps"})
    with pytest.raises(ConfigError, match=r"checkpoint 6 (?s:.*)checkpoint 2 (?s:.*)from a copy"):
        loop.train(longer, workdir)
    assert checkpoint.steps(workdir) == [2, 4, 6]


def test_inference_names_the_others(undisturbed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    workdir = shutil.copytree(undisturbed, tmp_path / "run")
    cut(largest(workdir / checkpoint.CHECKPOINTS / "6" / "params"))
    with pytest.raises(ConfigError, match=r"checkpoint 6 cannot be read.*(?s:.*)--step; there are \[2, 4\]"):
        checkpoint.load(workdir)
    assert checkpoint.load(workdir, step=4).step == 4
    for step in (2, 4):
        shutil.rmtree(workdir / checkpoint.CHECKPOINTS / str(step))
    with pytest.raises(ConfigError, match=r"(?s:checkpoint 6 cannot be read.*)It is the only one: restore it"):
        checkpoint.load(workdir)


def test_a_run_of_the_first_format_goes_on(tmp_path: pathlib.Path) -> None:
    workdir = pathlib.Path(shutil.copytree(FORMAT_1, tmp_path / "run"))
    config = dataclasses.replace(checkpoint.load(workdir).config, duration="5 steps")
    loop.train(config, workdir)
    assert checkpoint.steps(workdir) == [5] and len(losses(workdir)) == 2
    assert checkpoint.load(workdir).meta["position"] == 20


def test_a_run_of_a_stranger_does_not_go_on(tmp_path: pathlib.Path) -> None:
    """Who can write its `meta` can seal it."""
    workdir = pathlib.Path(shutil.copytree(FORMAT_1, tmp_path / "run"))
    config = checkpoint.load(workdir).config
    file = workdir / checkpoint.CHECKPOINTS / "3" / "meta" / "metadata"
    meta = json.loads(file.read_text()) | {"version": "1.0", "position": [12]}
    file.write_text(json.dumps(checkpoint._sealed(meta)))
    with pytest.raises(ConfigError, match=r"checkpoint 3 cannot be read: its meta has position: \[12\]"):
        loop.train(config, workdir)


def test_a_read_that_fails_once_is_no_damage(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a bucket is away for a moment: a checkpoint that is whole would be set aside."""

    def failing(read: Callable[..., Any], times: int) -> Callable[..., Any]:
        calls = itertools.count()

        def reading(*args: Any, **kwargs: Any) -> Any:
            if next(calls) < times:
                raise ValueError("UNAVAILABLE: the bucket does not answer")
            return read(*args, **kwargs)

        return reading

    with contextlib.closing(checkpoint.Checkpointer(epath.Path(tmp_path))) as checkpointer:
        checkpointer.save(3, make_state(3), {"position": 12})
        checkpointer.wait()
        manager, handler = checkpoint.ocp.CheckpointManager, checkpoint.ocp.StandardCheckpointHandler
        restore, metadata = manager.restore, handler.metadata
        monkeypatch.setattr(manager, "restore", failing(restore, 1))
        assert checkpointer.meta(3)["position"] == 12
        monkeypatch.setattr(manager, "restore", failing(restore, 1))
        monkeypatch.setattr(handler, "metadata", failing(metadata, 1))
        restored = checkpointer.restore(3, jax.eval_shape(lambda: make_state(3)))
        jax.tree.map(np.testing.assert_array_equal, restored, make_state(3))
        monkeypatch.setattr(manager, "restore", failing(restore, 2))
        with pytest.raises(checkpoint.DamagedCheckpoint, match="checkpoint 3 cannot be read: UNAVAILABLE"):
            checkpointer.meta(3)


def test_json_of_a_stranger_is_read_or_refused(tmp_path: pathlib.Path) -> None:
    """All of a checkpoint but `meta`: that has a seal, and a test of its own."""
    written, abstract = epath.Path(tmp_path), jax.eval_shape(lambda: make_state(3))
    with contextlib.closing(checkpoint.Checkpointer(written)) as checkpointer:
        checkpointer.save(3, make_state(3), {})
    step = tmp_path / checkpoint.CHECKPOINTS / "3"
    names = ("_CHECKPOINT_METADATA", *(f"{item}/{name}" for item in ("params", "optimizer") for name in OF_ITEMS))
    refused: collections.Counter[str] = collections.Counter()
    for seed in range(140):
        rng = random.Random(seed)
        file = step / names[seed % len(names)]
        content = file.read_bytes()
        file.write_bytes(tampering.text(json.loads(content), rng))
        try:
            with contextlib.closing(checkpoint.Checkpointer(written)) as checkpointer:
                assert checkpointer.meta(3)["step"] == 3
                assert checkpointer.restore(3, abstract).params.keys() == abstract.params.keys()
        except (ConfigError, checkpoint.DamagedCheckpoint) as error:
            refused[type(error).__name__] += 1
        file.write_bytes(content)
    assert refused["ConfigError"] > 4 and refused["DamagedCheckpoint"] > 40


def test_metadata_that_orbax_does_not_read_may_be_deleted(tmp_path: pathlib.Path) -> None:
    workdir = pathlib.Path(shutil.copytree(FORMAT_1, tmp_path / "run"))
    file = workdir / checkpoint.CHECKPOINTS / "3" / "_CHECKPOINT_METADATA"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"init_timestamp_nsecs": 1.5}))
    with pytest.raises(ConfigError, match=r"checkpoints cannot be read: .*_CHECKPOINT_METADATA .*delete the file"):
        checkpoint.load(workdir)
    file.unlink()
    assert checkpoint.load(workdir).step == 3


def test_another_model_is_still_refused_and_not_taken_for_damage(undisturbed: pathlib.Path) -> None:
    model = tiny().model
    wider = dataclasses.replace(model, decoder=dataclasses.replace(model.decoder, mlp_dim=48))
    with pytest.raises(ConfigError, match=r"model\.decoder\.mlp_dim"):
        loop.train(tiny(**CONFIG, model=wider), undisturbed)


def test_a_workdir_that_another_run_holds_is_refused(undisturbed: pathlib.Path) -> None:
    with lock.hold(loop.epath.Path(undisturbed)), pytest.raises(ConfigError, match="another run is at work"):
        loop.train(tiny(**CONFIG), undisturbed)
