"""Checkpoints keep the latest and the best, load on other meshes, and stay readable for ever."""

import contextlib
import json
import pathlib
import random
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore
from etils import epath

from mdc_jax import inference
from mdc_jax.config import ConfigError, sections
from mdc_jax.describe import describe
from mdc_jax.training import checkpoint, sharding
from mdc_jax.training.failures import Failure
from mdc_jax.training.state import State

FORMAT_1 = pathlib.Path(__file__).parents[1] / "testdata" / "checkpoint_format_1"


def make_state(step: int) -> State:
    kernel = {"decoder": {"head": {"kernel": jnp.full((4, 8), float(step))}}}
    return State(jnp.asarray(step), kernel, {"mu": kernel}, None)


@pytest.mark.parametrize("starts", [1, 5])
def test_the_latest_and_the_best_are_kept(tmp_path: pathlib.Path, starts: int) -> None:
    saves = [(1, 0.5), (2, 0.3), (3, 0.4), (4, None), (5, 0.9)]
    for saved in np.array_split(np.array(saves, object), starts):
        checkpointer = checkpoint.Checkpointer(epath.Path(tmp_path), keep_latest=2, keep_best=1)
        for step, loss in saved:
            checkpointer.save(step, make_state(step), {"position": step}, metric=loss)
        checkpointer.close()
    assert checkpoint.steps(tmp_path) == [2, 4, 5]


@pytest.mark.parametrize("changed", ["[1]", "{}", '{"best": "0.1"}', '{"best": NaN}'])
def test_a_metric_that_was_changed_is_the_worst(tmp_path: pathlib.Path, changed: str) -> None:
    for step, loss in ((1, 0.3), (2, 0.5), (3, 0.6), (4, 0.7)):
        checkpointer = checkpoint.Checkpointer(epath.Path(tmp_path), keep_latest=1, keep_best=1)
        checkpointer.save(step, make_state(step), {}, metric=loss)
        checkpointer.close()
        if step == 2:
            (tmp_path / checkpoint.CHECKPOINTS / "1" / "metrics" / "metrics").write_text(changed)
    assert checkpoint.steps(tmp_path) == [2, 4]


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


def test_a_disk_that_is_full_loses_nothing_that_was_saved(tmp_path: pathlib.Path) -> None:
    """Files that may not grow beyond a size fail as those on a full disk do, in background threads too."""
    checkpointer = checkpoint.Checkpointer(epath.Path(tmp_path))
    checkpointer.save(1, make_state(1), {"position": 4})
    checkpointer.wait()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
        with pytest.raises(Failure, match=r"could not be written to .*Free space.*same command continues"):
            checkpointer.save(2, make_state(2), {"position": 8})
            checkpointer.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    again = checkpoint.Checkpointer(epath.Path(tmp_path))
    assert again.steps() == [1] and again.meta(1)["position"] == 4
    again.save(2, make_state(2), {"position": 8})
    again.close()
    assert checkpoint.steps(tmp_path) == [2]


def test_a_newer_format_names_the_code_that_wrote_it(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpointer = checkpoint.Checkpointer(epath.Path(tmp_path))
    with monkeypatch.context() as later:
        later.setattr(checkpoint, "FORMAT_VERSION", 2)
        later.setattr(checkpoint.mdc_jax, "__version__", "7.0.0")
        checkpointer.save(3, make_state(3), {"position": 12})
        checkpointer.wait()
    with pytest.raises(ConfigError, match=r"format 2 of mdc_jax 7\.0\.0.*reads up to format 1"):
        checkpointer.meta(3)
    checkpointer.close()


@pytest.mark.usefixtures("no_pause")
def test_damage_at_random_is_noticed_or_does_not_matter(tmp_path: pathlib.Path) -> None:
    written = checkpoint.Checkpointer(epath.Path(tmp_path))
    meta = {"position": 12, "seconds": 1.25, "config": {"seed": 0, "image": {"mean": (1.5, 2.0)}}}
    written.save(3, make_state(3), meta)
    written.close()
    expected = checkpoint.Checkpointer(epath.Path(tmp_path)).meta(3)
    files = sorted(path for path in (tmp_path / checkpoint.CHECKPOINTS / "3").rglob("*") if path.is_file())
    file = tmp_path / checkpoint.CHECKPOINTS / "3" / "meta" / "metadata"
    abstract = jax.eval_shape(lambda: make_state(3))
    noticed, rng, checkpointer = 0, random.Random(0), checkpoint.Checkpointer(epath.Path(tmp_path))
    for number in range(220):
        anywhere = number % 11 == 0
        damaged = rng.choice(files) if anywhere else file
        content = damaged.read_bytes()
        damaged.write_bytes(damage(content, rng))
        try:
            if anywhere:
                checkpointer = checkpoint.Checkpointer(epath.Path(tmp_path))
                jax.tree.map(np.testing.assert_array_equal, checkpointer.restore(3, abstract), make_state(3))
            assert checkpointer.meta(3) == expected
        except checkpoint.DamagedCheckpoint:
            noticed += 1
        damaged.write_bytes(content)
    assert noticed > 190


def damage(content: bytes, rng: random.Random) -> bytes:
    """Cut off, one bit changed, one byte more, or another number, as writing, disks and people do it."""
    place = rng.randrange(len(content) or 1)
    before, after = content[:place], content[place + 1 :]
    kind = rng.randrange(4)
    if kind == 0 or not content:
        return before
    if kind == 1:
        return before + bytes([content[place] ^ (1 << rng.randrange(8))]) + after
    if kind == 2:
        return before + bytes([content[place], rng.randrange(256)]) + after
    return content.replace(b"1", b"2", 1)


def test_a_workdir_without_a_checkpoint(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="holds no checkpoint: give the --workdir of a run that has saved one"):
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
    # The decoder and its law of lengths, as the code of 29 November 2026 read them.
    model = inference.Model(loaded)
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8)
    score = model.score([noise], [["a red circle", "two in all"]], "one_pass")
    np.testing.assert_allclose(score.value, [[-24.98677, -24.990189]], rtol=1e-5)


HUGE = {"width": 8192, "depth": 1000, "heads": 8, "mlp_dim": 2**15}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda meta: meta.pop("config"), "its meta has config: None"),
        (lambda meta: meta.update(tokenizer=["x"]), r"its meta has tokenizer: \['x'\]"),
        (lambda meta: meta.update(format_version="1"), "its meta is not what was written"),
        (lambda meta: meta["config"]["model"]["encoder"].update(width=10**12), r"model\.encoder\.width"),
        (lambda meta: meta["config"]["evaluators"].update({"../x": {"type": "linear_probe"}}), "evaluators='../x'"),
        (
            lambda meta: meta["config"]["model"].update(scan="on", encoder=meta["config"]["model"]["encoder"] | HUGE),
            r"its config asks for 3,[0-9,]{15} bytes of ema, and [0-9,]{6,7} are there",
        ),
    ],
)
def test_a_checkpoint_from_a_stranger(tmp_path: pathlib.Path, change, complaint: str) -> None:
    """Who can write it can seal it."""
    workdir = pathlib.Path(shutil.copytree(FORMAT_1, tmp_path / "run"))
    file = workdir / checkpoint.CHECKPOINTS / "3" / "meta" / "metadata"
    meta = json.loads(file.read_text()) | {"version": "1.0"}
    change(meta)
    file.write_text(json.dumps(checkpoint._sealed(meta)))
    with pytest.raises(ConfigError, match=complaint):
        checkpoint.load(workdir)


def test_a_chunk_that_is_larger_than_its_array_is_not_unpacked(tmp_path: pathlib.Path) -> None:
    """Here of 16 MiB, and some bytes on disk; as easily of more than the memory has."""
    checkpointer = checkpoint.Checkpointer(epath.Path(tmp_path))
    checkpointer.save(3, make_state(3), {})
    checkpointer.wait()
    params = tmp_path / checkpoint.CHECKPOINTS / "3" / "params"
    place = {"driver": "ocdbt", "base": f"file://{params}/", "path": "decoder.head.kernel/"}
    layout = {"shape": [4, 8], "chunks": [2**11, 2**11], "dtype": "<f4", "compressor": {"id": "zstd"}}
    spec = {"driver": "zarr", "kvstore": place, "metadata": layout}
    tensorstore.open(spec, create=True, delete_existing=True).result().write(np.zeros((4, 8), np.float32)).result()
    abstract = jax.eval_shape(lambda: make_state(3))
    for restore in (
        lambda: checkpointer.restore(3, abstract),
        lambda: checkpointer.restore_params(3, "params", abstract.params),
    ):
        with pytest.raises(checkpoint.DamagedCheckpoint, match=r"kernel of params is \(4, 8\), in chunks of \(2048, "):
            restore()
    checkpointer.close()


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize("change", [{"value_type": "scalar"}, {"value_type": "string"}, {"skip_deserialize": True}])
def test_what_is_said_to_be_no_array_is_not_read(tmp_path: pathlib.Path, change: dict[str, object]) -> None:
    with contextlib.closing(checkpoint.Checkpointer(epath.Path(tmp_path))) as checkpointer:
        checkpointer.save(3, make_state(3), {})
        checkpointer.wait()
        file = tmp_path / checkpoint.CHECKPOINTS / "3" / "params" / "_METADATA"
        content = json.loads(file.read_text())
        for leaf in content["tree_metadata"].values():
            leaf["value_metadata"].update(change)
        file.write_text(json.dumps(content))
        with pytest.raises(checkpoint.DamagedCheckpoint, match="checkpoint 3 cannot be read"):
            checkpointer.restore(3, jax.eval_shape(lambda: make_state(3)))


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
