"""Nothing that should be split is whole on a device: neither parameters, optimizer state, activations nor logits."""

import functools
import re

import jax
import numpy as np
import pytest

from mdc_jax import objectives
from mdc_jax.config import sections
from mdc_jax.training import memory, sharding, state
from tests.objectives import tiny

ROWS, TOKENS, WIDTH, VOCAB, CAPTIONS, LENGTH = 32, 25, 48, 104, 3, 7
# Those whose program is not that of masked diffusion at another interval.
PROGRAMS = [name for name in sections.OBJECTIVES if name not in ("masked_lm", "parallel")]
MESHES = [sections.Mesh(data=2, fsdp=4), sections.Mesh(data=1, fsdp=4, tensor=2)]


@functools.cache
def program(section: sections.Mesh, name: str = "masked_diffusion") -> tuple[jax.sharding.Mesh, state.Program]:
    mesh = sharding.make_mesh(section)
    encoder = sections.Encoder(patch=8, width=WIDTH, depth=2, heads=4, mlp_dim=4 * WIDTH)
    objective = objectives.build(
        tiny.section(name),
        model=sections.Model(encoder=encoder, decoder=sections.Decoder(depth=1)),
        image=sections.Image(size=40),
        vocab_size=VOCAB,
        max_tokens=LENGTH,
        split=sharding.split(mesh),
    )
    return mesh, state.program(objective, sections.Optimizer(ema=0.9), lambda _: 1e-3, mesh, seed=0)


@functools.cache
def compiled(section: sections.Mesh, name: str = "masked_diffusion") -> jax.stages.Compiled:
    data = sections.Data(max_tokens=LENGTH, captions_per_image=CAPTIONS)
    config = sections.Config(objective=tiny.section(name), image=sections.Image(size=40), data=data)
    _, made = program(section, name)
    step = made.step.lower(made.abstract, memory.batch_shapes(config, ROWS))
    return step.compile({"xla_backend_optimization_level": 0})


def named(section: sections.Mesh) -> str:
    return f"{section.data}x{section.fsdp}x{section.tensor}"


each = pytest.mark.parametrize("section", MESHES, ids=named)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "section"),
    [("masked_diffusion", MESHES[0]), *((name, MESHES[1]) for name in PROGRAMS)],
    ids=lambda value: value if isinstance(value, str) else named(value),
)
def test_every_activation_is_of_the_rows_of_a_device(name: str, section: sections.Mesh) -> None:
    text = compiled(section, name).as_text()
    params = program(section, name)[1].abstract.params
    rows = ROWS // (section.data * section.fsdp)

    def before(*last: int) -> set[str]:
        """Of the arrays that end in these sizes, the sizes before, without that of layers, which are kept together."""
        end = ",".join(map(str, last))
        return {re.sub(r"^[12],(?=\d)", "", found) for found in re.findall(rf"f32\[([\d,]+),{end}\]", text)}

    # The residual stream of each tower, and the hidden layer of its MLPs.
    towers = {"encoder": (TOKENS,), "decoder": (CAPTIONS, LENGTH), "text_encoder": (LENGTH,)}
    for lengths in (lengths for tower, lengths in towers.items() if tower in params):
        assert before(*lengths, 4 * WIDTH // section.tensor) == {f"{rows}"}
        assert section.tensor == 1 or not before(*lengths, 4 * WIDTH)
        assert before(*lengths, WIDTH) == {f"{rows}"}
        split = before(*lengths, WIDTH // section.fsdp)  # as are heads, which stand in an axis of their own
        assert not any(found.isdigit() for found in split)
    if "decoder" in params:
        # Logits: chunks of a device's rows, and of its part of the vocabulary.
        chunks = {int(found) for found in before(VOCAB // section.tensor) if found.isdigit()}
        assert chunks and max(chunks - {WIDTH}) <= rows * CAPTIONS * LENGTH
        assert section.tensor == 1 or not before(VOCAB)
    if "text_encoder" in params:
        # A device compares its images with all texts, or its texts with all images.
        assert f"{rows}" in before(ROWS) and f"{ROWS}" not in before(ROWS)


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
        "text": rng.integers(3, VOCAB, (ROWS, CAPTIONS, LENGTH)).astype(np.int32),
        "length": np.full((ROWS, CAPTIONS), LENGTH, np.int32),
        "_mask": np.ones(ROWS, bool),
    }
    after, _ = compiled(section)(before, sharding.to_global(batch, mesh, ROWS))
    for leaf, planned in zip(jax.tree.leaves(after), jax.tree.leaves(made.abstract), strict=True):
        assert leaf.sharding.is_equivalent_to(planned.sharding, leaf.ndim)


def test_the_start_says_where_the_bytes_are() -> None:
    _, made = program(MESHES[0])
    total = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(made.abstract))
    split, whole, own = (float(number) for number in re.findall(r"([\d.]+) MB", memory.describe(made.abstract)))
    assert split + whole == pytest.approx(total / 1e6, abs=0.11)
    assert own == pytest.approx(split / 4 + whole, abs=0.11)
