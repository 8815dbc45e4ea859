import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdc_jax.ops import contrastive

SCALE, BIAS, COUNT = 3.0, -1.5, 12
GROUPS = np.array([0, 1, 2, 1, 4, 5, 2, 1, 8, 0, 10, 11])
VALID = np.array([True] * 9 + [False, True, False])  # the copy of text 0 does not count
POLICIES = pytest.mark.parametrize("duplicates", contrastive.DUPLICATES)


def draw(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    images, texts = np.random.default_rng(seed).normal(size=(2, COUNT, 5))
    texts = texts[GROUPS]
    return tuple(x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts))


def rows() -> contrastive.Rows:
    return contrastive.Rows(jnp.arange(COUNT), jnp.asarray(GROUPS), jnp.asarray(VALID / VALID.sum(), jnp.float32))


def pairs(duplicates: str) -> list[tuple[int, int, bool]]:
    """Image, text, and whether they belong together, of all pairs that count."""
    kept = np.flatnonzero(VALID)
    return [
        (i, j, i == j or (duplicates == "positive" and GROUPS[i] == GROUPS[j]))
        for i in kept
        for j in kept
        if i == j or not (duplicates == "masked" and GROUPS[i] == GROUPS[j])
    ]


def softmax_in_numpy(images: np.ndarray, texts: np.ndarray, duplicates: str) -> float:
    counted, total = pairs(duplicates), 0.0
    for side in (0, 1):
        for row in np.flatnonzero(VALID):
            mine = [pair for pair in counted if pair[side] == row]
            logits = np.array([SCALE * images[i] @ texts[j] for i, j, _ in mine])
            logp = logits - np.log(np.exp(logits).sum())
            total -= np.mean([value for value, pair in zip(logp, mine, strict=True) if pair[2]])
    return total / 2 / VALID.sum()


def sigmoid_in_numpy(images: np.ndarray, texts: np.ndarray, duplicates: str) -> float:
    total = 0.0
    for i, j, positive in pairs(duplicates):
        logit = SCALE * images[i] @ texts[j] + BIAS
        total += np.log1p(np.exp(-logit if positive else logit))
    return total / VALID.sum()


def softmax(images: jax.Array, texts: jax.Array, scale: jax.Array, bias: jax.Array, duplicates: str, chunk: int):
    return contrastive.softmax_loss(images, texts, rows(), scale, duplicates)


def sigmoid(images: jax.Array, texts: jax.Array, scale: jax.Array, bias: jax.Array, duplicates: str, chunk: int):
    return contrastive.sigmoid_loss(images, texts, rows(), scale, bias, duplicates, chunk=chunk)


LOSSES = pytest.mark.parametrize(
    ("loss", "in_numpy"), [(softmax, softmax_in_numpy), (sigmoid, sigmoid_in_numpy)], ids=["softmax", "sigmoid"]
)


@POLICIES
@LOSSES
def test_equals_numpy_with_duplicates_and_masked_rows(loss, in_numpy, duplicates):
    images, texts = draw()
    expected = in_numpy(images, texts, duplicates)
    hits = []
    for row in np.flatnonzero(VALID):
        mine = [pair for pair in pairs(duplicates) if pair[0] == row]
        best = max(images[row] @ texts[j] for _, j, _ in mine)
        # Of equal texts the first is taken.
        hits.append(next(positive for _, j, positive in mine if images[row] @ texts[j] >= best - 1e-9))
    for chunk in (COUNT, 4, 5, 11):  # 5 and 11 do not divide 12: 4 and 6 are taken
        value, accuracy = jax.jit(loss, static_argnums=(4, 5))(images, texts, SCALE, BIAS, duplicates, chunk)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(accuracy, np.mean(hits), rtol=1e-5)


@POLICIES
@LOSSES
def test_gradients_are_finite_differences(loss, in_numpy, duplicates):
    images, texts = draw()
    grads = jax.jit(jax.grad(lambda *x: loss(*x, duplicates, 4)[0], argnums=(0, 1, 2, 3)))(images, texts, SCALE, BIAS)
    rng, step = np.random.default_rng(1), 1e-5
    for which in (0, 1):
        direction = rng.normal(size=images.shape)
        moved = [
            [x + sign * step * direction * (k == which) for k, x in enumerate((images, texts))] for sign in (1, -1)
        ]
        slope = (in_numpy(*moved[0], duplicates) - in_numpy(*moved[1], duplicates)) / (2 * step)
        np.testing.assert_allclose(np.sum(grads[which] * direction), slope, rtol=1e-3, atol=1e-6)
        assert not grads[which][~VALID].any()
    # A scale of s is like images that are s times as long.
    slope = np.sum(grads[0] * images) / SCALE
    np.testing.assert_allclose(grads[2], slope, rtol=1e-4)


def test_sums_over_pairs_of_all_rows_masked_are_zero():
    images, texts = draw()
    nobody = contrastive.Rows(jnp.arange(COUNT), jnp.asarray(GROUPS), jnp.zeros(COUNT))
    for loss in (
        lambda x: contrastive.softmax_loss(x, texts, nobody, SCALE, "positive")[0],
        lambda x: contrastive.sigmoid_loss(x, texts, nobody, SCALE, BIAS, "positive")[0],
    ):
        value, grad = jax.value_and_grad(loss)(jnp.asarray(images, jnp.float32))
        assert value == 0
        assert not grad.any()


def test_duplicates_are_counted_among_rows_that_count():
    np.testing.assert_array_equal(np.flatnonzero(contrastive.duplicated(rows())), [1, 2, 3, 6, 7])


def test_the_sigmoid_loss_never_has_all_similarities_of_a_device_at_once():
    batch, chunk = 64, 8
    every = contrastive.Rows(jnp.arange(batch), jnp.arange(batch), jnp.full(batch, 1 / batch))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.P("data"))

    def loss(images: jax.Array, texts: jax.Array) -> jax.Array:
        return contrastive.sigmoid_loss(images, texts, every, SCALE, BIAS, "masked", chunk=chunk)[0]

    embedding = jax.ShapeDtypeStruct((batch, 5), jnp.float32, sharding=split)
    text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(embedding, embedding).compile().as_text()
    for rows_ in (batch, batch // 8):
        assert f"[{rows_},{batch}]" not in text
        assert f"[{batch},{rows_}]" not in text


@POLICIES
def test_a_number_of_texts_that_nothing_divides_is_filled_up(duplicates):
    images, texts = (embedding[:11] for embedding in draw())
    some = jax.tree.map(lambda value: value[:11], rows())
    loss = jax.jit(contrastive.sigmoid_loss, static_argnums=5, static_argnames="chunk")
    whole = loss(images, texts, some, SCALE, BIAS, duplicates, chunk=11)
    np.testing.assert_allclose(loss(images, texts, some, SCALE, BIAS, duplicates, chunk=4), whole, rtol=1e-5)


def test_an_unknown_policy_is_named():
    with pytest.raises(ValueError, match='duplicates "kept": choose one of left, masked, positive'):
        contrastive.relation(rows(), rows(), "kept")
