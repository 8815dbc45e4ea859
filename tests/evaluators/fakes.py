"""A source, a tokenizer and an objective of a few lines, whose every answer is known.

The image of record i holds the bits of `CODES[i]` as bright and dark quarters; its caption names the
object that the first bit stands for.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from mdc_jax.config import defaults, parse
from mdc_jax.data.sources.base import BadRecord, Claim, Family, Record, Verdict
from mdc_jax.evaluators.base import Subject
from mdc_jax.objectives.base import Caption, Objective, Score
from mdc_jax.training import sharding

SIZE, TOKENS = 16, 4  # pixels; length of a caption
WORDS = ("<pad>", "<eos>", "<unk>", "a", "cat", "dog")
BAD = 3  # the record that cannot be read


class FakeTokenizer:
    def __init__(self, words: Sequence[str] = WORDS) -> None:
        self._words, self.vocab_size = words, len(words)

    def encode(self, caption: str, max_tokens: int) -> list[int]:
        return [*(self._words.index(word) for word in caption.split()[: max_tokens - 1]), 1]

    def encode_whole(self, caption: str, max_tokens: int) -> list[int]:
        if (length := self.longest([caption])) > max_tokens:
            raise ValueError(f"a caption has {length} tokens, and the model reads {max_tokens}")
        return self.encode(caption, max_tokens)

    def longest(self, captions: Sequence[str]) -> int:
        return max(len(caption.split()) + 1 for caption in captions)

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(self._words[i] for i in ids if i > 1)


class FakeSource:
    """Two quarters of each image are bits; "bits" can be read off them, "noise" cannot, "constant" never varies."""

    spec, fingerprint = "fake", "fake"

    def __init__(self, count: int, *, seed: int = 0, checks: bool = False) -> None:
        rng = np.random.default_rng(seed)
        self.bits = rng.integers(0, 2, (count, 2))
        self._noise = rng.integers(0, 2, count)
        self._grain = rng.integers(0, 30, (count, SIZE, SIZE, 3))
        self.families = {
            "bits": Family("presence", ("first", "second")),
            "noise": Family("class", ("no", "yes")),
            "both": Family("class", ("neither", "first", "second", "both"), bound=True),
            "constant": Family("presence", ("never",)),
        }
        if checks:
            self.check, self.claims = self._check, lambda index: {"animal": 1}

    def __len__(self) -> int:
        return len(self.bits)

    def __getitem__(self, index: int) -> Record:
        if index == BAD:
            raise BadRecord("damaged")
        image = self._grain[index].astype(np.uint8)
        image[: SIZE // 2, : SIZE // 2] += np.uint8(200 * self.bits[index, 0])
        image[SIZE // 2 :, SIZE // 2 :] += np.uint8(200 * self.bits[index, 1])
        labels = {
            "bits": self.bits[index].astype(np.uint8),
            "noise": np.int32(self._noise[index]),
            "both": np.int32(self.bits[index] @ [1, 2]),
            "constant": np.zeros(1, np.uint8),
        }
        return Record(image, (f"a {self.animal(index)}",), labels)

    def animal(self, index: int) -> str:
        return "dog" if self.bits[index, 0] else "cat"

    def _check(self, index: int, caption: str) -> Verdict:
        words = caption.split()
        claims = tuple(
            Claim("animal", i, i + 1, word == self.animal(index)) for i, word in enumerate(words) if word in WORDS[4:]
        )
        return Verdict(
            words[:1] == ["a"], claims, repeated=False, hallucinated=sum(not claim.right for claim in claims)
        )


class FakeObjective(Objective):
    """Features are the means of the image's quarters; captions name the first bit, always "cat" if `blind`."""

    def __init__(self, *, blind: bool = False) -> None:
        self._blind = blind

    def init(self, key: jax.Array) -> Mapping[str, Any]:
        kernel = jax.random.normal(key, (3, 5))
        return {"encoder": {"patch": {"kernel": kernel}}, "decoder": {"head": {"kernel": jnp.ones((1, 1))}}}

    def corrupt(self, batch: Mapping[str, jax.Array], key: jax.Array) -> Mapping[str, jax.Array]:
        weight = batch["_mask"] / jnp.maximum(batch["_mask"].sum(), 1)
        return {"id": batch["id"], "weight": weight, "noise": jax.random.normal(key, batch["id"].shape)}

    def loss(self, params: Any, corrupted: Mapping[str, jax.Array]) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        weight = corrupted["weight"]
        metrics = {"square": jnp.sum(weight * corrupted["id"] ** 2), "noise": jnp.sum(weight * corrupted["noise"])}
        return jnp.sum(weight * corrupted["id"]), metrics

    def encode(self, params: Any, images: jax.Array) -> Mapping[str, jax.Array]:
        half = SIZE // 2
        quarters = images.astype(jnp.float32).reshape(-1, 2, half, 2, half, 3).mean((2, 4)).reshape(-1, 4, 3)
        tokens = quarters @ params["encoder"]["patch"]["kernel"]
        return {
            "tokens": tokens,
            "pooled": tokens.mean(1),
            "blocks": jnp.stack([-tokens, tokens]),
            "quarters": quarters,
        }

    @property
    def scorers(self) -> Mapping[str, Any]:
        def score(params: Any, features: Any, captions: Mapping[str, jax.Array], key: jax.Array) -> Score:
            value = -(captions["text"] * (captions["text"] > 1)).sum(-1).astype(jnp.float32)
            return Score(value, jnp.full_like(value, 0.5), "exact")

        return {"ids": score}

    def generate(
        self,
        params: Any,
        features: Mapping[str, jax.Array],
        key: jax.Array,
        settings: Any = None,
        *,
        length: Any = None,
    ) -> Caption:
        bright = (features["quarters"][:, 0, 0] > 100) & (not self._blind)
        animal = jnp.where(bright, WORDS.index("dog"), WORDS.index("cat"))
        words = [jnp.full_like(animal, 3), animal, jnp.full_like(animal, 1), jnp.zeros_like(animal)]
        tokens = jnp.stack(words, axis=1)
        if length is not None:
            tokens = jnp.where(jnp.arange(TOKENS)[None] < length[:, None], tokens, 0)
        return Caption(tokens, jnp.zeros(tokens.shape), jnp.broadcast_to(jnp.arange(TOKENS)[None], tokens.shape))

    def flops(self, captions_per_image: int = 1) -> Mapping[str, float]:
        return {"forward": 0.0, "train": 0.0}


def make_subject(out: Any, objective: Objective | None = None, should_stop: Any = lambda: False) -> Subject:
    config = defaults()
    config.image.size, config.data.max_tokens = SIZE, TOKENS
    config.data.max_bad_share = 1.0  # one record of a fake source is damaged
    config.data.train, config.data.validation, config.data.test = "fake:train", "fake:validation", "fake:test"
    config = parse(config)
    mesh = sharding.make_mesh(config.mesh)
    objective = objective or FakeObjective()
    params = jax.device_put(objective.init(jax.random.key(0)), sharding.replicated(mesh))
    return Subject(objective, params, config, FakeTokenizer(), mesh, 7, epath.Path(out), should_stop)
