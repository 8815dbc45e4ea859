"""A resume with another model is refused with a diff; another learning rate is a warning."""

import dataclasses
import json

import pytest
import tokenizers

from mdc_jax.config import ConfigError, defaults, dumps, parse, sections
from mdc_jax.data.tokenizer import Tokenizer
from mdc_jax.training.compatibility import check_resume, check_tokenizer


def example() -> sections.Config:
    tree = defaults().to_dict()
    tree["data"]["train"] = "scenes:train"
    return parse(tree)


STORED = json.loads(dumps(example()))


def test_the_same_config_resumes_without_a_word() -> None:
    assert check_resume(STORED, example()) == []


def test_a_config_of_older_code_which_lacks_a_key_resumes() -> None:
    stored = json.loads(dumps(example()))
    del stored["image"]["random_crop"]
    assert check_resume(stored, example()) == []


def test_data_and_tokenizer_may_lie_elsewhere() -> None:
    data = dataclasses.replace(example().data, train="scenes:train,size=48")
    tokenizer = sections.Tokenizer(model="elsewhere/tokenizer.model")
    assert check_resume(STORED, dataclasses.replace(example(), data=data, tokenizer=tokenizer)) == []


def test_what_may_change_is_a_warning_or_nothing() -> None:
    config = dataclasses.replace(example(), duration="5 steps", optimizer=sections.Optimizer(lr=5e-4))
    warnings = check_resume(STORED, config)
    assert len(warnings) == 1 and "optimizer.lr" in warnings[0] and "0.0005" in warnings[0]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"model": sections.Model(encoder=sections.Encoder(variant="S/16"))}, "model.encoder.variant: 'B/16' → 'S/16'"),
        ({"objective": sections.Autoregressive()}, "objective.name: 'masked_diffusion' → 'autoregressive'"),
        ({"seed": 1}, "seed: 0 → 1"),
        ({"optimizer": sections.Optimizer(name="adafactor")}, "optimizer.name: 'adamw' → 'adafactor'"),
        ({"optimizer": sections.Optimizer(ema=0.99)}, "optimizer.ema: 0.0 → 0.99"),
        ({"image": sections.Image(size=112)}, "image.size: 224 → 112"),
    ],
)
def test_another_run_is_refused_with_a_diff(change: dict, key: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_resume(STORED, dataclasses.replace(example(), **change))
    assert key in str(error.value) and "--workdir" in str(error.value)


def words(text: str) -> bytes:
    """A tokenizer.json of these words."""
    vocabulary = {word: id_ for id_, word in enumerate(["[UNK]", *text.split()])}
    return tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]")).to_str().encode()


@pytest.mark.parametrize(
    ("now", "diff"),
    [
        (
            words("a cat blue new"),
            "6 → 7 tokens, of which 2 differ\n  token 5: 'red' → 'blue'\n  token 6: None → 'new'\n",
        ),
        (words("a cat"), "6 → 5 tokens, of which 1 differ\n  token 5: 'red' → None\n"),
        (words("a b c d e f g"), "of which 6 differ\n(  token .*\n){5}"),
        (words("a cat red") + b"\n", "6 → 6 tokens, of which 0 differ\n  the pieces are the same; "),
    ],
)
def test_another_tokenizer_is_refused_with_a_diff(now: bytes, diff: str) -> None:
    stored = Tokenizer.from_bytes(words("a cat red"))
    check_tokenizer(stored, Tokenizer.from_bytes(stored.model_bytes))
    with pytest.raises(ConfigError, match=rf"{diff}(?s:.*)give the file .* --workdir"):
        check_tokenizer(stored, Tokenizer.from_bytes(now))
