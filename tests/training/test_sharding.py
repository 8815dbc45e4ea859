"""The mesh fits the devices or says what does; every parameter has a rule."""

from collections.abc import Callable

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mdc_jax import objectives
from mdc_jax.config import ConfigError, sections
from mdc_jax.training import sharding
from tests.objectives import tiny


def model_shapes(name: str = "masked_diffusion") -> dict:
    objective = objectives.build(
        tiny.section(name),
        model=sections.Model(encoder=sections.Encoder(variant="Ti/16", class_token=True)),
        image=sections.Image(size=32),
        vocab_size=64,
        max_tokens=8,
    )
    return jax.eval_shape(objective.init, jax.random.key(0))


def test_one_axis_takes_what_is_left() -> None:
    mesh = sharding.make_mesh(sections.Mesh(data=-1, fsdp=2, tensor=2))
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "tensor": 2}


@pytest.mark.parametrize(
    "section", [sections.Mesh(data=3), sections.Mesh(data=-1, fsdp=-1), sections.Mesh(data=-1, tensor=5)]
)
def test_a_mesh_that_does_not_fit(section: sections.Mesh) -> None:
    with pytest.raises(ConfigError, match=r"8 devices.*mesh\.data=8"):
        sharding.make_mesh(section)


@pytest.mark.parametrize(
    ("section", "numbers", "fitting"),
    [
        (sections.Mesh(data=4, tensor=4), "needs 16;", "mesh.data=2, mesh.fsdp=1, mesh.tensor=4"),
        (sections.Mesh(data=3, fsdp=4, tensor=2), "needs 24;", "mesh.data=1, mesh.fsdp=4, mesh.tensor=2"),
        (sections.Mesh(data=3, fsdp=-1), "needs a multiple of 3;", "mesh.data=1, mesh.fsdp=8, mesh.tensor=1"),
        (sections.Mesh(data=0), "needs positive numbers", "mesh.data=8, mesh.fsdp=1, mesh.tensor=1"),
        (sections.Mesh(data=-1, fsdp=-1), "-1 at most once", "mesh.data=8, mesh.fsdp=1, mesh.tensor=1"),
        (sections.Mesh(data=-1, fsdp=-2), "needs positive numbers", "mesh.data=8, mesh.fsdp=1, mesh.tensor=1"),
    ],
)
def test_the_mesh_that_is_proposed_keeps_what_it_can(section: sections.Mesh, numbers: str, fitting: str) -> None:
    with pytest.raises(ConfigError, match=numbers) as error:
        sharding.make_mesh(section)
    assert fitting in str(error.value)
    sharding.make_mesh(sections.Mesh(**{axis[5:-2]: int(axis[-1]) for axis in fitting.split(", ")}))


def test_without_a_setting_all_devices_share_the_batch() -> None:
    mesh = sharding.make_mesh(sections.Mesh())
    assert dict(mesh.shape) == {"data": jax.device_count(), "fsdp": 1, "tensor": 1}


def test_a_batch_that_does_not_fit() -> None:
    mesh = sharding.make_mesh(sections.Mesh())
    sharding.check_batch(48, 2, mesh)
    with pytest.raises(ConfigError, match=r"data\.batch_size=40.*multiple of 16.*32"):
        sharding.check_batch(40, 2, mesh)
    with pytest.raises(ConfigError, match="nearest that works: 16"):
        sharding.check_batch(15, 1, mesh)


def test_rows_on_devices_are_those_of_the_batch() -> None:
    """The batch is whole in one process, whatever the order of the devices, and each has the rows of its place."""
    devices = jax.devices()
    mesh = sharding.make_mesh(sections.Mesh(fsdp=2, tensor=2), [*devices[::2], *devices[1::2]])
    assert sharding.local_rows(16, mesh) == tuple(range(16))
    rows = np.arange(48).reshape(16, 3)
    placed = sharding.to_global({"rows": rows}, mesh, 16)["rows"]
    np.testing.assert_array_equal(placed, rows)
    for shard in placed.addressable_shards:
        np.testing.assert_array_equal(shard.data, rows[shard.index])


def test_rows_of_a_process_need_not_be_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a TPU slice, whose mesh follows the torus: here this process holds the second and the fourth quarter."""
    mesh = sharding.make_mesh(sections.Mesh(data=4), jax.devices()[:4])
    whole = NamedSharding.addressable_devices_indices_map

    def of_this_process(self: NamedSharding, shape: tuple[int, ...]) -> dict:
        return dict(list(whole(self, shape).items())[1::2])

    monkeypatch.setattr(NamedSharding, "addressable_devices_indices_map", of_this_process)
    monkeypatch.setattr(sharding, "local_rows", sharding.local_rows.__wrapped__)  # which keeps what was asked before
    assert sharding.local_rows(8, mesh) == (2, 3, 6, 7)
    placed = {}

    def place(shape: tuple[int, ...], sharding_: NamedSharding, rows_at: Callable) -> dict:
        for index in sharding_.addressable_devices_indices_map(shape).values():
            placed[index[0].start] = rows_at(index).tolist()

    monkeypatch.setattr(jax, "make_array_from_callback", place)
    sharding.to_global({"rows": np.array([20, 30, 60, 70])}, mesh, 8)
    assert placed == {2: [20, 30], 6: [60, 70]}


@pytest.mark.parametrize("name", sections.OBJECTIVES)
def test_every_parameter_is_covered_and_the_large_ones_are_split(name: str) -> None:
    mesh = sharding.make_mesh(sections.Mesh(data=2, fsdp=2, tensor=2))
    places = sharding.shardings(model_shapes(name), mesh)
    kernel = places["encoder"]["blocks"]["attention"]["query"]["kernel"]
    assert kernel.spec == PartitionSpec(None, "fsdp", "tensor")
    shapes = jax.tree.leaves(model_shapes(name))
    split = sum(x.size for x, place in zip(shapes, jax.tree.leaves(places), strict=True) if any(place.spec))
    assert split > 0.95 * sum(x.size for x in shapes)


def test_a_parameter_without_a_rule_fails() -> None:
    mesh = sharding.make_mesh(sections.Mesh())
    with pytest.raises(ValueError, match="encoder/novelty"):
        sharding.shardings({"encoder": {"novelty": np.zeros(3)}}, mesh)


def test_an_axis_that_does_not_divide_leaves_the_dimension_whole() -> None:
    mesh = sharding.make_mesh(sections.Mesh(data=2, fsdp=2, tensor=2))
    place = sharding.shardings({"decoder": {"head": {"kernel": np.zeros((6, 7))}}}, mesh)
    assert place["decoder"]["head"]["kernel"].spec == PartitionSpec("fsdp", None)
