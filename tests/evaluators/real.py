"""Pictures, collages of them, and real models of some thousand random parameters that read their captions."""

import dataclasses
import io
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import PIL.Image

from mdc_jax import objectives
from mdc_jax.config import sections
from mdc_jax.data.batch import padded_captions
from mdc_jax.data.collage import layout
from mdc_jax.data.prepare import records
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.prepare.manifest import Manifest
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import Family
from mdc_jax.evaluators import base
from mdc_jax.evaluators.base import Subject
from tests.evaluators import fakes
from tests.models.random_params import random_params

COUNT, SIZE, TOKENS = 24, 32, 40  # images; pixels; of a caption
KINDS = ("animals", "food")
TITLES = ("cat", "dog", "small cow", "old hen", "bread", "apple", "sweet pie", "hot soup")


def write(folder: pathlib.Path) -> None:
    """Prepares pictures and, beside them, their cut-outs; pictures share captions."""
    rng = np.random.default_rng(0)

    def example(index: int, *captions: str) -> Example:
        file = io.BytesIO()
        pixels = rng.integers(0, 256, (24, 24, 4), np.uint8) | np.uint8([0, 0, 0, 255])
        PIL.Image.fromarray(pixels).save(file, "WEBP", lossless=True)
        return Example(file.getvalue(), captions, {"kind": index // 4}, {})

    pictures = [example(index % 8, f"a {TITLES[index % 8]}", f"thing {index // 4}") for index in range(COUNT)]
    cutouts = [example(index, title) for index, title in enumerate(TITLES)]
    for where, examples in ((folder, pictures), (folder / layout.CUTOUTS, cutouts)):
        manifest = Manifest("test", "", "", {"kind": Family("class", KINDS)}, {})
        plan = records.ShardPlan("test-0.arrayrecord", "test", "1", len(examples), lambda examples=examples: examples)
        records.write_all(where, manifest, [plan])


def subject(out: pathlib.Path, objective: str, spec: str, others: Sequence[str] = ()) -> Subject:
    """A model of the objective, at its defaults, for the captions of a source and for other texts."""
    source = open_source(spec)
    texts = [*others, *(text for index in range(len(source)) for text in source[index].captions)]
    tokenizer = fakes.FakeTokenizer(("<pad>", "<eos>", "<unk>", *sorted({word for t in texts for word in t.split()})))
    encoder = sections.Encoder(patch=16, width=16, depth=1, heads=2, mlp_dim=32)
    image = sections.Image(size=SIZE)
    built = objectives.build(
        sections.OBJECTIVES[objective](),
        model=sections.Model(encoder=encoder, decoder=sections.Decoder(depth=1), scan="off"),
        image=image,
        vocab_size=tokenizer.vocab_size,
        max_tokens=TOKENS,
    )
    faked: Any = fakes.make_subject(out)
    data = dataclasses.replace(faked.config.data, train=spec, test=spec, max_tokens=TOKENS)
    config = dataclasses.replace(faked.config, data=data, image=image)
    return dataclasses.replace(
        faked, objective=built, params=random_params(built.init), tokenizer=tokenizer, config=config
    )


def scores(subject: Subject, spec: str, scorer: str, texts: Sequence[Sequence[int]]) -> tuple[list[int], np.ndarray]:
    """Ids of a source's images and the scores f64[N, T] of texts beside them, one image after the other."""
    found = base.extract(subject, spec, lambda batch, _: {"image": batch["image"]}, count=COUNT, batch_size=4)
    encode, score = jax.jit(subject.objective.encode), jax.jit(subject.objective.scorers[scorer])
    captions, key = padded_captions([texts], TOKENS), jax.random.key(0)
    rows = [score(subject.params, encode(subject.params, image[None]), captions, key) for image in found["image"]]
    return found["id"].tolist(), np.stack([np.asarray(row.value[0], np.float64) for row in rows])
