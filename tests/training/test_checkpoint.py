"""Checkpoints keep the latest and the best, load on other meshes, and stay readable for ever."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from mdc_jax.config import ConfigError, sections
from mdc_jax.describe import describe
from mdc_jax.training import checkpoint, sharding
from mdc_jax.training.state import State

FORMAT_1 = pathlib.Path(__file__).parents[1] / "testdata" / "checkpoint_format_1"


def make_state(step: int) -> State:
    kernel = {"decoder": {"head": {"kernel": jnp.full((4, 8), float(step))}}}
    return State(jnp.asarray(step), kernel, {"mu": kernel}, None)


def test_the_latest_and_the_best_are_kept(tmp_path: pathlib.Path) -> None:
    checkpointer = checkpoint.Checkpointer(epath.Path(tmp_path), keep_latest=2, keep_best=1)
    for step, loss in ((1, 0.5), (2, 0.3), (3, 0.4), (4, None), (5, 0.9)):
        checkpointer.save(step, make_state(step), {"position": step}, metric=loss)
    checkpointer.close()
    assert checkpoint.steps(tmp_path) == [2, 4, 5]


@pytest.mark.parametrize(
    "mesh", [sections.Mesh(data=2, fsdp=2, tensor=2), sections.Mesh(fsdp=2, data=1), sections.Mesh(data=1)]
)
def test_restores_on_any_mesh(tmp_path: pathlib.Path, mesh: sections.Mesh) -> None:
    devices = jax.devices()[: max(mesh.data, 1) * mesh.fsdp * mesh.tensor]
    checkpointer = checkpoint.Checkpointer(epath.Path(tmp_path))
    written_on = sharding.make_mesh(sections.Mesh(data=2, fsdp=4))
    state = jax.device_put(make_state(3), sharding.shardings(make_state(3), written_on))
    checkpointer.save(3, state, {"position": 12})
    checkpointer.wait()
    places = sharding.shardings(state, sharding.make_mesh(mesh, devices))
    abstract = jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), state, places)
    restored = checkpointer.restore(3, abstract)
    meta = checkpointer.meta(3)
    checkpointer.close()
    for leaf, place in zip(jax.tree.leaves(restored), jax.tree.leaves(places), strict=True):
        assert leaf.sharding == place
        np.testing.assert_array_equal(leaf, 3)
    assert meta["position"] == 12 and meta["format_version"] == checkpoint.FORMAT_VERSION


def test_a_workdir_without_a_checkpoint(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no checkpoint.*--workdir"):
        checkpoint.load(tmp_path)


def test_format_1_loads() -> None:
    """Must pass for ever: users have checkpoints of every format that was released."""
    loaded = checkpoint.load(FORMAT_1, mesh=sharding.make_mesh(sections.Mesh(), jax.devices()[:1]))
    assert loaded.step == 3 and loaded.meta["position"] == 12
    features = loaded.objective.encode(loaded.params, np.zeros((1, 48, 48, 3), np.uint8))
    caption = loaded.objective.generate(loaded.params, features, jax.random.key(0))
    # Written when the checkpoint was.
    np.testing.assert_allclose(features["pooled"][0, :4], np.load(FORMAT_1 / "pooled.npy"), atol=1e-4)
    assert isinstance(loaded.tokenizer.decode(np.asarray(caption.tokens)[0]), str)


def test_a_step_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"no checkpoint of step 2; it has those of \[3\]"):
        checkpoint.load(FORMAT_1, step=2)


def test_another_tokenizer_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="is missing"):
        checkpoint.load_tokenizer(epath.Path(tmp_path), "0" * 64)
    with pytest.raises(ConfigError, match=r"hash.*000000.*restore that file"):
        checkpoint.load_tokenizer(epath.Path(FORMAT_1), "0" * 64)


def test_describe() -> None:
    text = describe(FORMAT_1)
    for word in ("masked_diffusion", "format version  1", "encoder/patch/kernel", '"batch_size": 4', "48 px"):
        assert word in text
