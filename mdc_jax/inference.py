"""A trained model as an object, for notebooks and commands: images in; features, captions and scores out.

    model = mdc_jax.load("runs/scenes")
    model(["cat.png"])                                      # f32[1, D]
    model.caption(["cat.png"])[0].text
    model.score(["cat.png"], [["a cat", "a dog"]]).value    # f32[1, 2]

Shapes: B images, C captions of an image, L tokens, N image tokens, P patches, D width.
"""

import dataclasses
import functools
import itertools
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mdc_jax.batching import Image, OnFault, raising
from mdc_jax.config import ConfigError, decoding, parse_as, sections, to_dict
from mdc_jax.data.batch import EOS_ID, padded_captions
from mdc_jax.features import Encoder, check_list, is_list
from mdc_jax.objectives.base import Features, Objective, Params, Score
from mdc_jax.objectives.tokens import lengths
from mdc_jax.report.denoising import Token

_DEFAULT = sections.Decoding()
_GIVE_TOKENS = (
    "lengths of captions are not at hand here; say how long captions are, with `tokens=` or --tokens, EOS included"
)


@dataclasses.dataclass(frozen=True)
class Written:
    """A caption that the model wrote, token by token without EOS; see `objectives.base.Caption`.

    `texts` are what the tokens add to the text. `attention` f32[L, P]: where in the image each looked, of no patch
    where that was not asked for; so is the `score` None, and its kind "".
    """

    text: str
    texts: tuple[str, ...]
    steps: np.ndarray
    log_probs: np.ndarray
    attention: np.ndarray
    score: float | None  # by the first of the model's scorers
    standard_error: float | None
    kind: str

    @property
    def tokens(self) -> tuple[Token, ...]:
        """As the page of emerging captions takes them."""
        each = zip(self.texts, self.steps, self.log_probs, self.attention, strict=True)
        return tuple(Token(text, int(step), float(log_prob), looked) for text, step, log_prob, looked in each)


class Model(Encoder):
    """An encoder that also captions and scores; everything takes lists of images, as that does."""

    @property
    def scorers(self) -> tuple[str, ...]:
        """The names of the ways to score."""
        return tuple(self.loaded.objective.scorers)

    def caption(
        self,
        images: Sequence[Image],
        settings: sections.Decoding = _DEFAULT,
        *,
        tokens: int | None = None,
        seed: int = 0,
        with_attention: bool = False,
        with_score: bool = False,
    ) -> list[Written]:
        """Writes a caption for each image, of so many `tokens` with EOS where that is given.

        Attention and score, which cost as much as the caption and more, are found where they are asked for. Raises
        ConfigError for a model without a decoder, and for settings that it cannot use.
        """
        more = {"with_attention": with_attention, "with_score": with_score}
        results = self.stream_captions(images, settings, tokens=tokens, seed=seed, **more)
        return [written for batch in results for written in batch]

    def stream_captions(
        self,
        images: Sequence[Image],
        settings: sections.Decoding = _DEFAULT,
        *,
        tokens: int | None = None,
        seed: int = 0,
        with_attention: bool = False,
        with_score: bool = False,
        on_fault: OnFault = raising,
    ) -> Iterator[list[Written]]:
        """As `caption`, a batch after the other; `on_fault` as in `batching.stream`."""
        section, most = self.loaded.config.objective, self.loaded.config.data.max_tokens
        if not section.writes_captions:
            what = (
                "scores captions, but writes none"
                if self.scorers
                else "is an image encoder alone and writes no captions"
            )
            raise ConfigError(f'the objective "{section.name}" has no decoder: it {what}')
        if tokens is not None and not (isinstance(tokens, numbers.Integral) and 2 <= tokens <= most):
            raise ConfigError(f"tokens={tokens!r}: the model writes 2 to {most}, EOS included")
        if not isinstance(settings, sections.Decoding):
            raise ConfigError(f"settings={settings!r}: give a `Decoding`, as in sections.Decoding(steps=8)")
        values = {name: x.item() if isinstance(x, np.generic) else x for name, x in to_dict(settings).items()}
        settings = parse_as(sections.Decoding, values, "decoding")
        decoding.check(settings, section)
        if tokens is None:
            decoding.check_length(settings, section, _GIVE_TOKENS)
        write = functools.partial(
            _caption, settings=settings, tokens=tokens, with_attention=with_attention, with_score=with_score
        )
        for found, score in self._batches(write, images, seed, on_fault=on_fault):
            captions = (jax.tree.map(lambda rows, row=row: rows[row], found) for row in range(len(found["tokens"])))
            yield [self._written(caption, score, row) for row, caption in enumerate(captions)]

    def score(
        self, images: Sequence[Image], captions: Sequence[Sequence[str]], scorer: str = "", *, seed: int = 0
    ) -> Score:
        """Scores captions[i] of images[i]; all have equally many.

        `scorer` is one of `scorers`; the first if not given. Values and standard errors are f32[B, C], in nats unless
        the kind is "similarity". Raises ConfigError for an unknown scorer, and ValueError for a caption that is longer
        than the model reads, or numbers that do not fit each other.
        """
        check_list(images)
        known = self.loaded.objective.scorers
        if not known:
            raise ConfigError("an image encoder alone knows no captions, so it scores none")
        scorer = scorer or next(iter(known))
        if not isinstance(scorer, str) or scorer not in known:
            raise ConfigError(f'scorer "{scorer}": choose one of {", ".join(known)}')
        _check_captions(captions, len(images))
        encode, most = self.loaded.tokenizer.encode_whole, self.loaded.config.data.max_tokens
        padded = padded_captions([[encode(caption, most) for caption in row] for row in captions], most)
        score = self._run(functools.partial(_score, scorer=scorer), images, seed, padded)
        return _replicates_at(score, 1, 0)

    def _written(self, found: Mapping[str, np.ndarray], score: Score | None, row: int) -> Written:
        decode, ids = self.loaded.tokenizer.decode, found["tokens"].tolist()
        length = ids.index(EOS_ID)
        return Written(
            text=decode(ids),
            texts=tuple(additions(decode, ids[:length])),
            steps=found["step"][:length],
            log_probs=found["log_prob"][:length],
            attention=found["attention"][:length],
            score=score and float(score.value[row, 0]),
            standard_error=score and float(score.standard_error[row, 0]),
            kind=score.kind if score else "",
        )


load = Model.load


def _check_captions(captions: Sequence[Sequence[str]], images: int) -> None:
    """Raises ValueError unless there is a list of captions for each image, all equally long."""
    rows = list(captions) if is_list(captions) else ()
    if len(rows) != images or not all(map(is_list, rows)):
        raise ValueError(f"{images} images need as many lists of captions")
    if len(set(map(len, rows))) != 1 or not len(rows[0]):
        raise ValueError(f"images have {[len(row) for row in rows][:8]} captions: give each equally many")
    for caption in itertools.chain(*rows):
        if not isinstance(caption, str):
            raise ValueError(f"a caption is a text, not {caption!r}")


@functools.partial(jax.jit, static_argnums=0, static_argnames=("settings", "tokens", "with_attention", "with_score"))
def _caption(
    objective: Objective,
    params: Params,
    batch: Features,
    key: jax.Array,
    settings: sections.Decoding,
    tokens: int | None,
    with_attention: bool,
    with_score: bool,
) -> tuple[dict[str, jax.Array], Score | None]:
    features = objective.encode(params, batch["image"])
    length = None if tokens is None else jnp.full(len(batch["image"]), tokens)
    caption = objective.generate(params, features, key, settings, length=length)
    unasked = jnp.zeros((*caption.tokens.shape, 0))
    attention = objective.attention(params, features, caption) if with_attention else unasked
    written = {"tokens": caption.tokens, "log_prob": caption.log_prob, "step": caption.step, "attention": attention}
    if not with_score:
        return written, None
    text = {"text": caption.tokens[:, None], "length": lengths(caption.tokens)[:, None]}
    score = next(iter(objective.scorers.values()))(params, features, text, jax.random.fold_in(key, 1))
    return written, _replicates_at(score, 0, 1)


@functools.partial(jax.jit, static_argnums=0, static_argnames="scorer")
def _score(objective: Objective, params: Params, batch: Features, key: jax.Array, scorer: str) -> Score:
    captions = {name: batch[name] for name in ("text", "length")}
    score = objective.scorers[scorer](params, objective.encode(params, batch["image"]), captions, key)
    return _replicates_at(score, 0, 1)


def _replicates_at(score: Score, axis: int, to: int) -> Score:
    """The axis of the replicates at another place: behind that of the images, batches can be joined."""
    moved = None if score.replicates is None else np.moveaxis(score.replicates, axis, to)
    return dataclasses.replace(score, replicates=moved)


def additions(decode: Callable[[Sequence[int]], str], ids: Sequence[int]) -> Iterator[str]:
    """What each token adds to the text; of a character in several tokens, the last one adds it."""
    before = ""
    for end in range(1, len(ids) + 1):
        text = decode(ids[:end])
        if not text.startswith(before) or text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield ""
            continue
        yield text[len(before) :]
        before = text
