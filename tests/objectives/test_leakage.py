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


def fit(objective, loss, steps: int, learning_rate: float | optax.Schedule):
    """Parameters after that many steps on loss(params, key)."""
    optimizer = optax.adam(learning_rate)

    def step(carry, key):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, key), state)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def run(params):
        return jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(jax.random.key(1), steps))[0][0]

    return run(objective.init(jax.random.key(0)))


def loss_of_some(objective, data, params, key, count: int):
    """The loss of `count` examples drawn from the data."""
    batch_key, key = jax.random.split(key)
    rows = jax.random.randint(batch_key, (count,), 0, len(data["_mask"]))
    return objective.loss(params, objective.corrupt(jax.tree.map(lambda x: x[rows], data), key))[0]


@functools.cache
def train(padding: str):
    """The objective and its parameters after 800 steps of 64."""
    objective = tiny.build(sections.MaskedDiffusion(padding=padding))
    data = jax.tree.map(jnp.asarray, draw(4096, seed=0))
    return objective, fit(
        objective, lambda params, key: loss_of_some(objective, data, params, key, 64), steps=800, learning_rate=3e-3
    )


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


@pytest.mark.slow
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


LIMITS = (4, tiny.TOKENS)
WHOLE = 1 / 8  # of the captions of the first bucket, the share that stands on the canvas of the last


def draw_for_buckets(size: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Captions of 3, 4 tokens, and of 5, 6; the first word says if the length is odd, the second in which bucket."""
    rng = np.random.default_rng(seed)
    batch = draw(size, seed)
    length = 3 + np.arange(size)[:, None] % 4
    text = rng.integers(7, 11, (size, tiny.TOKENS))
    text[:, :2] = np.concatenate([3 + length % 2, 5 + (length > LIMITS[0])], axis=1)
    place = np.arange(tiny.TOKENS)[None]
    text = np.where(place < length - 1, text, np.where(place == length - 1, EOS_ID, PAD_ID))
    batch |= {"text": text[:, None].astype(np.int32), "length": length.astype(np.int32)}
    last = length[:, 0] > LIMITS[0]
    return [{key: value[rows] for key, value in batch.items()} for rows in (~last, last)]


def on_canvas(batch: dict[str, np.ndarray], canvas: int) -> dict[str, np.ndarray]:
    return batch | {"text": batch["text"][..., :canvas]}


@pytest.mark.slow
def test_length_buckets_give_away_the_bucket_and_nothing_within_it():
    """All is masked, pads are hidden, images say nothing; what is still told comes from the canvas."""
    objective = tiny.build(sections.MaskedDiffusion())
    short, long = draw_for_buckets(4096, seed=0)
    batches = [(1 - WHOLE, on_canvas(short, LIMITS[0])), (WHOLE, short), (1.0, long)]
    batches = [(share, jax.tree.map(jnp.asarray, batch)) for share, batch in batches]

    def loss(params, key):
        keys = jax.random.split(key, len(batches))
        return sum(
            share / 2 * loss_of_some(objective, batch, params, key, 32)
            for (share, batch), key in zip(batches, keys, strict=True)
        )

    # At a rate that stays high the law strays about its mean by as much as is allowed below.
    params = fit(objective, loss, steps=500, learning_rate=optax.cosine_decay_schedule(5e-3, 500))

    def accuracy(batch: dict[str, np.ndarray], word: int) -> float:
        corrupted = dict(objective.corrupt(batch, jax.random.key(2)))
        corrupted["inputs"] = np.full_like(batch["text"], objective.mask_id)
        corrupted["predicted"] = np.arange(batch["text"].shape[-1])[None, None] == np.full_like(batch["text"], word)
        return float(objective.loss(params, corrupted)[1]["accuracy"])

    short, long = draw_for_buckets(2000, seed=1)
    for batch in (on_canvas(short, LIMITS[0]), short, long):
        assert abs(accuracy(batch, word=0) - 0.5) < 0.08  # odd or even: nothing within a bucket
    assert accuracy(on_canvas(short, LIMITS[0]), word=1) > 0.95
    assert accuracy(long, word=1) > 0.95
    # At the length of evaluation a short caption is as unlikely as it was there in training, and no less.
    assert accuracy(short, word=1) < 0.05
    law = np.exp(objective.length_law(params, objective.encode(params, short["image"]))).mean(0)
    np.testing.assert_allclose(law[2:4].sum(), WHOLE / (1 + WHOLE), atol=0.05)
