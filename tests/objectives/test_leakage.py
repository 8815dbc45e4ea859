"""How much of a caption's length the decoder can read, and so learn from instead of the image.

The first word of every caption is one of two labels, which its length gives away; images, shuffled,
say nothing. What a decoder trained for seconds predicts better than chance has leaked.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdc_jax.config import sections
from mdc_jax.data.batch import EOS_ID, PAD_ID
from tests.objectives import tiny

LABELS, WORDS = (3, 4), (5, 11)
PADDING = ("hidden", "target", "known")


def draw(size: int, seed: int) -> dict[str, np.ndarray]:
    """Captions "label word ... word EOS" of 4 tokens for one label, 5 for the other, equally often."""
    rng = np.random.default_rng(seed)
    label = np.arange(size) % 2
    length = 4 + label
    place = np.arange(tiny.TOKENS)[None]
    text = rng.integers(*WORDS, (size, tiny.TOKENS))
    text[:, 0] = np.asarray(LABELS)[label]
    text = np.where(place < length[:, None] - 1, text, np.where(place == length[:, None] - 1, EOS_ID, PAD_ID))
    image = rng.integers(0, 256, (size, tiny.SIZE, tiny.SIZE, 3)).astype(np.uint8)
    return {
        "image": image,
        "text": text[:, None].astype(np.int32),
        "length": length[:, None].astype(np.int32),
        "_mask": np.ones(size, bool),
    }


@functools.cache
def train(padding: str):
    """The objective and its parameters after 800 steps of 64."""
    objective = tiny.build(sections.MaskedDiffusion(padding=padding))
    data = jax.tree.map(jnp.asarray, draw(4096, seed=0))
    optimizer = optax.adam(3e-3)

    def step(carry, key):
        params, state = carry
        batch_key, key = jax.random.split(key)
        rows = jax.random.randint(batch_key, (64,), 0, 4096)
        corrupted = objective.corrupt(jax.tree.map(lambda x: x[rows], data), key)
        grads = jax.grad(lambda p: objective.loss(p, corrupted)[0])(params)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def run(params):
        return jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(jax.random.key(1), 800))[0][0]

    return objective, run(objective.init(jax.random.key(0)))


def label_accuracy(padding: str, share: float, eos: str) -> float:
    """How often the label is predicted, itself masked, with `share` of the other tokens masked and EOS as given."""
    objective, params = train(padding)
    batch = draw(1000, seed=1)
    corrupted = dict(objective.corrupt(batch, jax.random.key(2)))
    text = batch["text"]
    masked = np.random.default_rng(3).random(text.shape) < share
    masked[..., 0] = True
    masked[text == EOS_ID] = eos == "masked"
    masked |= (text == PAD_ID) & (padding != "target")
    corrupted["inputs"] = np.where(masked, objective.mask_id, text)
    corrupted["predicted"] = np.arange(tiny.TOKENS)[None, None] == np.zeros_like(text)
    return float(objective.loss(params, corrupted)[1]["accuracy"])


@pytest.mark.parametrize("padding", PADDING)
def test_only_a_known_length_gives_the_label_away_where_all_is_masked(padding):
    accuracy = label_accuracy(padding, share=1.0, eos="masked")
    if padding == "known":
        assert accuracy > 0.99
    else:
        assert abs(accuracy - 0.5) < 0.08  # 5 standard deviations of a coin


def test_what_leaks_where_less_is_masked(capsys):
    """A visible EOS, and visible words or pads near the end, say how long a caption is."""
    accuracy = {
        (padding, share, eos): label_accuracy(padding, share, eos)
        for padding in PADDING
        for share in (0.5, 0.9)
        for eos in ("visible", "masked")
    }
    with capsys.disabled():
        print("\nlabel read off the length (chance .5)")
        for (padding, share, eos), value in accuracy.items():
            print(f"  padding {padding:<6}  masked {share:.1f}  EOS {eos:<7}  {value:.3f}")
    assert all(value > 0.99 for (padding, _, _), value in accuracy.items() if padding == "known")
    # Elsewhere less is visible, and what is visible says less.
    for padding in ("hidden", "target"):
        for eos in ("visible", "masked"):
            assert accuracy[padding, 0.9, eos] < accuracy[padding, 0.5, eos] + 0.05
    assert accuracy["hidden", 0.5, "masked"] < accuracy["hidden", 0.5, "visible"]
