"""Writes captions for a held-out split, checks every claim where the source can parse them, and compares references.

Shapes: B images, L tokens.
"""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from mdc_jax import files
from mdc_jax.config import ConfigError, decoding, sections
from mdc_jax.data import images
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import BadRecord, Source, Verdict, captions_of
from mdc_jax.data.sources.verdicts import summarize
from mdc_jax.data.texts import has_words
from mdc_jax.decoding import sampling
from mdc_jax.evaluators import caption_metrics
from mdc_jax.evaluators.base import GlobalBatch, Subject, extract, spec_of
from mdc_jax.evaluators.lengths import training_law
from mdc_jax.objectives.base import Caption, Objective, Params
from mdc_jax.report import plots, tables

_SEED = 23


class Captioning:
    """Yields "distinct", and for sources with `check` what `verdicts.summarize` finds, of the images
    themselves and, as "shuffled/...", of the same captions held against other images. With `metrics` also those of
    `caption_metrics`, "bleu_1" to "cider", against all captions of the image.

    Writes `captions.jsonl` (one line per image), `coco.json` (COCO's format of results, see
    `image_ids`), `captions.png` and, with
    `metrics`, `metrics.md`, which says what was not run and why.
    """

    def __init__(self, section: sections.Captioning) -> None:
        self._section = section

    def check(self, config: sections.Config) -> None:
        """See `Evaluator`."""
        decoding.check(self._section.decoding, config.objective)
        if self._section.decoding.length == "model":  # others are drawn here
            decoding.check_length(self._section.decoding, config.objective)
        spec = spec_of(config, self._section.split)
        source = open_source(spec)
        if self._section.decoding.length == "caption" and not _captioned(source, self._section.examples):
            raise ConfigError(f'decoding.length="caption": no image of "{spec}" has a caption; choose another length')

    def run(self, subject: Subject) -> Iterator[tuple[str, float]]:
        section = self._section
        spec = subject.spec(section.split)
        source = open_source(spec)
        law = training_law(subject) if section.decoding.length == "training" else None

        def write(batch: GlobalBatch, index: int) -> dict[str, jax.Array]:
            # Rows that are left out, as what fills up the last batch, have no length.
            own = jnp.maximum(batch["length"][:, 0], 1) if section.decoding.length == "caption" else None
            caption = _generate(subject.objective, section.decoding, subject.params, batch["image"], own, law, index)
            if caption is None:
                raise ConfigError("the objective writes no captions: leave the captioning evaluator out")
            return {"tokens": caption.tokens}

        rows = extract(subject, spec, write, count=section.examples, batch_size=section.batch_size)
        ids = [int(i) for i in rows["id"]]
        captions = [subject.tokenizer.decode(tokens.tolist()) for tokens in rows["tokens"]]
        verdicts: list[Verdict] | None = None
        yield "distinct", len(set(captions)) / len(captions)
        if hasattr(source, "check"):
            verdicts = [source.check(i, caption) for i, caption in zip(ids, captions, strict=True)]
            yield from summarize(verdicts, [source.claims(i) for i in ids]).items()
            if section.shuffled and len(ids) > 1:
                others = np.roll(ids, len(ids) // 2).tolist()
                shuffled = [source.check(i, caption) for i, caption in zip(others, captions, strict=True)]
                found = summarize(shuffled, [source.claims(i) for i in others])
                yield from (
                    (f"shuffled/{name}", value) for name, value in found.items() if not name.startswith("recall")
                )
        if section.metrics:
            references = [[text for text in captions_of(source, i) if has_words(text)] for i in ids]
            yield from _compare(subject.out, captions, references, section.shuffled).items()
        if jax.process_index() == 0:
            _write_lines(subject, source, ids, captions, verdicts)
            _draw(subject, source, ids[: section.picture], captions, verdicts)


def _captioned(source: Source, count: int) -> bool:
    """Whether one of the first `count` images has a caption."""
    for index in range(min(count, len(source))):
        with contextlib.suppress(BadRecord):
            if captions_of(source, index):
                return True
    return False


def _compare(
    out: epath.Path, captions: Sequence[str], references: Sequence[Sequence[str]], shuffled: bool
) -> dict[str, float]:
    """`caption_metrics` of the images; writes `metrics.md`."""
    reason = caption_metrics.missing()
    found: dict[str, dict[str, float]] = {}
    if not reason:
        try:
            found = _metrics(captions, references, shuffled)
        except (OSError, ValueError) as error:  # what its Java programs end in where they fail
            reason = f"{type(error).__name__}: {error}"
    if jax.process_index() == 0:
        columns = {"": "of the images", "shuffled/": "of shuffled images"}
        cells = {(m, columns[prefix]): f"{v:.4f}" for prefix, values in found.items() for m, v in values.items()}
        not_run = {m: reason for m in caption_metrics.METRICS if reason} | {"spice": caption_metrics.NO_SPICE}
        cells |= {(metric, columns[""]): f"not run: {why}" for metric, why in not_run.items()}
        alone = "; CIDEr-D says nothing of one, whose words it gives no weight" if len(captions) == 1 else ""
        (out / "metrics.md").write_text(f"{tables.grid(cells)}\n{len(captions):,} images with references{alone}\n")
    return {prefix + metric: value for prefix, values in found.items() for metric, value in values.items()}


def _metrics(
    captions: Sequence[str], references: Sequence[Sequence[str]], shuffled: bool
) -> dict[str, dict[str, float]]:
    """By prefix, "" and "shuffled/", the metrics of the images."""
    found = {"": caption_metrics.compute(captions, references)}
    if shuffled and len(captions) > 1:
        half = len(captions) // 2
        found["shuffled/"] = caption_metrics.compute(captions, [*references[half:], *references[:half]])
    return found


@functools.partial(jax.jit, static_argnums=(0, 1))
def _generate(
    objective: Objective,
    settings: sections.Decoding,
    params: Params,
    images: jax.Array,
    length: jax.Array | None,
    law: jax.Array | None,
    index: jax.Array,
) -> Caption | None:
    """Lengths i32[B] are given, or drawn from `law`, their log-probabilities f32[L]; without both the objective
    finds them."""
    length_key, key = jax.random.split(jax.random.fold_in(jax.random.key(_SEED), index))
    if law is not None:
        rows = jnp.broadcast_to(law[None], (len(images), *law.shape))
        length = 1 + sampling.choose(rows, jax.random.split(length_key, len(images)), 1.0)
    return objective.generate(params, objective.encode(params, images), key, settings, length=length)


def _write_lines(
    subject: Subject, source: Source, ids: Sequence[int], captions: Sequence[str], verdicts: Sequence[Verdict] | None
) -> None:
    lines, published = [], []
    for row, (i, caption) in enumerate(zip(ids, captions, strict=True)):
        record = source[i]
        published.append(record.published_id)
        line = {"id": i, "truth": record.captions, "generated": caption}
        if verdicts is not None:
            line |= {"right": verdicts[row].right, "verdict": dataclasses.asdict(verdicts[row])}
        lines.append(line)
    files.write_json_lines(subject.out / "captions.jsonl", lines)
    named = zip(image_ids(ids, published), captions, strict=True)
    results = [{"image_id": image, "caption": caption} for image, caption in named]
    files.write(subject.out / "coco.json", json.dumps(results))


def image_ids(places: Sequence[int], published: Sequence[int | None]) -> Sequence[int]:
    """The images as `coco.json` names them: the numbers under which they were published where each has one of its own,
    as `pycocotools` looks them up in the annotations; else their places in the source."""
    known = [number for number in published if number is not None]
    return known if len(set(known)) == len(places) else places


def _draw(
    subject: Subject, source: Source, ids: Sequence[int], captions: Sequence[str], verdicts: Sequence[Verdict] | None
) -> None:
    examples = []
    for row, i in enumerate(ids):
        record = source[i]
        claims = verdicts[row].claims if verdicts is not None else ()
        wrong = {word for claim in claims if not claim.right for word in range(claim.start, claim.end)}
        examples.append(
            plots.Captioned(
                image=images.prepare(record.image, subject.config.image, None),
                truth=record.captions[0] if record.captions else "",
                generated=[(word, position in wrong) for position, word in enumerate(captions[row].split())],
            )
        )
    if examples:
        plots.captions(subject.out / "captions.png", examples)
