"""Nothing that should be split is whole on a device: neither parameters, optimizer state, activations nor logits."""

import functools
import re

import jax
import numpy as np
import pytest

from mdc_jax import objectives
from mdc_jax.config import sections
from mdc_jax.training import memory, sharding, state

ROWS, TOKENS, WIDTH, VOCAB, LENGTH = 32, 25, 48, 104, 8
MESHES = [sections.Mesh(data=2, fsdp=4), sections.Mesh(data=1, fsdp=4, tensor=2)]


@functools.cache
def program(section: sections.Mesh) -> tuple[jax.sharding.Mesh, state.Program]:
    mesh = sharding.make_mesh(section)
    encoder = sections.Encoder(patch=8, width=WIDTH, depth=2, heads=4, mlp_dim=4 * WIDTH)
    objective = objectives.build(
        sections.MaskedDiffusion(),
        model=sections.Model(encoder=encoder, decoder=sections.Decoder(depth=1)),
        image=sections.Image(size=40),
        vocab_size=VOCAB,
        max_tokens=LENGTH,
        split=sharding.split(mesh),
    )
    return mesh, state.program(objective, sections.Optimizer(ema=0.9), lambda _: 1e-3, mesh, seed=0)


@functools.cache
def compiled(section: sections.Mesh) -> jax.stages.Compiled:
    data = sections.Data(max_tokens=LENGTH)
    batch = memory.batch_shapes(sections.Config(image=sections.Image(size=40), data=data), ROWS)
    _, made = program(section)
    return made.step.lower(made.abstract, batch).compile({"xla_backend_optimization_level": 0})


each = pytest.mark.parametrize("section", MESHES, ids=lambda section: f"{section.data}x{section.fsdp}x{section.tensor}")


@pytest.mark.slow
@each
def test_every_activation_is_of_the_rows_of_a_device(section: sections.Mesh) -> None:
    text = compiled(section).as_text()
    rows = ROWS // (section.data * section.fsdp)
    # The residual stream of the encoder, also as layers keep it, and the hidden layer of its MLPs.
    stream = {int(found) for found in re.findall(rf"f32\[(?:2,)?(\d+),{TOKENS},{WIDTH}\]", text)}
    hidden = set(re.findall(rf"f32\[(?:2,)?(\d+),{TOKENS},({4 * WIDTH}|{2 * WIDTH})\]", text))
    assert stream == {rows}
    assert hidden == {(str(rows), str(4 * WIDTH // section.tensor))}
    assert not re.search(rf"f32\[(?:2,)?\d+,{TOKENS},{WIDTH // section.fsdp}\]", text)  # nor is the width split instead
    # Logits: chunks of a device's rows, and of its part of the vocabulary.
    chunks = {int(found) for found in re.findall(rf"f32\[(\d+),{VOCAB // section.tensor}\]", text)}
    assert chunks and max(chunks - {WIDTH}) <= max(rows * LENGTH, 32)
    if section.tensor > 1:
        assert not re.search(rf"f32\[\d+,{VOCAB}\]", text)


@pytest.mark.slow
@each
def test_the_state_is_made_and_kept_in_parts(section: sections.Mesh) -> None:
    mesh, made = program(section)
    total = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(made.abstract))
    own = memory.bytes_on_a_device(made.abstract)
    assert own < 1.5 * total / (section.fsdp * section.tensor)  # embeddings have no tensor axis
    init = made.init.lower().compile()
    sizes = init.memory_analysis()
    assert sizes.output_size_in_bytes < 1.1 * own
    assert sizes.output_size_in_bytes + sizes.temp_size_in_bytes < 2 * own  # no whole copy on the way

    before = made.init()
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(before))
    assert held == own
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (ROWS, 40, 40, 3), np.uint8),
        "text": rng.integers(3, VOCAB, (ROWS, 1, LENGTH)).astype(np.int32),
        "length": np.full((ROWS, 1), LENGTH, np.int32),
        "_mask": np.ones(ROWS, bool),
    }
    after, _ = compiled(section)(before, sharding.to_global(batch, mesh))
    for leaf, planned in zip(jax.tree.leaves(after), jax.tree.leaves(made.abstract), strict=True):
        assert leaf.sharding.is_equivalent_to(planned.sharding, leaf.ndim)


def test_the_start_says_where_the_bytes_are() -> None:
    _, made = program(MESHES[0])
    total = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(made.abstract))
    split, whole, own = (float(number) for number in re.findall(r"([\d.]+) MB", memory.describe(made.abstract)))
    assert split + whole == pytest.approx(total / 1e6, abs=0.11)
    assert own == pytest.approx(split / 4 + whole, abs=0.11)
