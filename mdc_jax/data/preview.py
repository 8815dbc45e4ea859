"""A page that shows what training will see: `python -m mdc_jax.data.preview SPEC ... --out=page.html`.

For each source: images after augmentation with their captions in pieces, counts, speed, what cannot be used and why,
augmentations that can make captions false, the lengths of the captions in tokens, and what these give away of the
labels (CSV beside the page). Settings come from --config, as in training, but for the data; without one, they are the
defaults. Where no tokenizer.model is set, the tokenizer is trained on the first source. --checksums compares prepared
files with their manifests before.

    python -m mdc_jax.data.preview scenes:train scenes:test --config=configs/scenes.py --out=scenes.html
"""

import collections
import dataclasses
import itertools
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence

from absl import app, flags
from etils import epath

from mdc_jax import command, progress
from mdc_jax.config import ConfigError, parse, sections
from mdc_jax.data import caption_safety, checksums, leakage, length_buckets
from mdc_jax.data.batch import Batch
from mdc_jax.data.captions import make_tokenizer, read_captions
from mdc_jax.data.pipeline import TrainBatches
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import Source
from mdc_jax.data.tokenizer import Tokenizer
from mdc_jax.report import html, plots, tables

_BATCH = 32  # at most
_DEFAULTS = sections.Config(tokenizer=sections.Tokenizer(train_captions=10_000))  # where there is no config
_LONGEST = 1_000  # tokens; longer captions count as this long
LEAKAGE_HEADER = ("source", "family", "name", "features", "auc", "low", "high", "examples")


@dataclasses.dataclass(frozen=True)
class Preview:
    """What was seen of a source."""

    source: Source
    seen: int  # examples that were made as training does
    seconds: float  # that took
    bad: Mapping[str, int]  # of those, by reason
    cards: Sequence[html.Card]
    lengths: Sequence[int]  # of captions in tokens, EOS included, before truncation
    unsafe: Sequence[str]  # augmentations that can make its captions false, and why
    audit: leakage.Audit
    files: int  # whose checksums are known
    compared: bool  # these checksums, with the files


def preview(
    source: Source, tokenizer: Tokenizer, config: sections.Config, records: int, images: int, compared: bool = False
) -> Preview:
    """Makes examples as training does, and reads captions and labels, of at most `records` records each.

    `compared` says whether `compare` was called before.
    """
    count = min(records, len(source))
    number = -(-count // _BATCH)
    batch_size = count // number  # no record is seen twice, and few are not seen: less than one of every batch
    data = dataclasses.replace(config.data, batch_size=batch_size, buckets=(), repeat_batch=False, max_bad_share=1.0)
    limits = config.data.buckets

    def bucket(captions: Sequence[str]) -> int:
        return int(length_buckets.bucket_of([tokenizer.longest(captions)], limits)[0])

    cards: list[html.Card] = []
    begin = time.perf_counter()
    with TrainBatches(source, tokenizer, dataclasses.replace(config, data=data), position=0) as batches:
        for batch in itertools.islice(batches, number):
            if len(cards) < images:
                cards += _cards(batch, tokenizer)
    return Preview(
        source=source,
        seen=number * batch_size,
        seconds=time.perf_counter() - begin,
        bad=collections.Counter(batches.bad),
        cards=cards[:images],
        lengths=[len(tokenizer.encode(caption, _LONGEST)) for caption in read_captions(source, count)],
        unsafe=list(caption_safety.unsafe_augmentations(source, config.image)),
        audit=leakage.audit(
            source,
            (index * len(source) // count for index in range(count if source.families else 0)),
            bucket if limits else None,
        ),
        files=len(checksums.written(source)),
        compared=compared,
    )


def compare(sources: Iterable[Source]) -> None:
    """Reads all files of these sources whose checksums are known; raises ConfigError where one differs."""
    files = {path: file for source in sources for path, file in checksums.written(source).items()}
    with progress.bar("checksums", sum(file.bytes for file in files.values()), unit="B") as shown:
        differing = checksums.differing(files, shown.update)
    if differing:
        raise ConfigError(
            f"{len(differing)} of {len(files)} files are not what their manifest says (sha256): "
            f"{', '.join(map(str, differing))}. Copy them again, or run the prepare command again, which rewrites them"
        )


def _cards(batch: Batch, tokenizer: Tokenizer) -> Iterable[html.Card]:
    for image, text, length, record, mask in zip(
        *(batch[key] for key in ("image", "text", "length", "id", "_mask")), strict=True
    ):
        if mask:
            captions = [tokenizer.pieces(ids[:size]) for ids, size in zip(text, length, strict=True) if size]
            pieces = [
                [*(html.Piece(piece) for piece in some[:-1]), html.Piece("EOS", special=True)] for some in captions
            ]
            yield html.Card(image, f"record {record}, {', '.join(str(size) for size in length)} tokens", pieces)


def truncated(lengths: Sequence[int], limit: int) -> float:
    """The share of captions that lose words at `limit` tokens."""
    return sum(length > limit for length in lengths) / max(len(lengths), 1)


def counts(found: Preview, config: sections.Config) -> list[tuple[str, str]]:
    """What a person wants to know first, as name and value."""
    limit, lengths = config.data.max_tokens, found.lengths or [0]
    lines = [
        ("records", f"{len(found.source):,}"),
        ("examples made", f"{found.seen:,}, {found.seen / found.seconds:,.0f}/s with {config.data.threads} threads"),
        ("not usable, of these", f"{sum(found.bad.values()):,}"),
        *((f"  {reason}", f"{number:,}") for reason, number in sorted(found.bad.items(), key=lambda item: -item[1])),
        ("captions read", f"{len(found.lengths):,}"),
        ("tokens of a caption", f"median {statistics.median(lengths):.0f}, longest {max(lengths):,}"),
        (f"longer than {limit} tokens", f"{100 * truncated(found.lengths, limit):.1f}%"),
    ]
    verdict = "unsafe augmentation" if config.image.unsafe_augmentation else "training refuses"
    lines += [(verdict, reason) for reason in found.unsafe]
    if found.files or found.compared:
        same = f"of {found.files:,} files as in the manifest" if found.files else "none are kept of this source"
        lines.append(("checksums", same if found.compared else "not compared with the manifest: --checksums does"))
    families = (f"{name} ({len(family.names)})" for name, family in found.source.families.items())
    return [*lines, ("labels", ", ".join(families) or "none")]


def leakage_rows(found: Iterable[Preview]) -> list[list[tables.Cell]]:
    """Rows of LEAKAGE_HEADER; "mean" is the name of a family's mean."""
    return [
        [one.source.spec, t.family, t.name or "mean", t.features, t.auc, t.low, t.high, t.examples]
        for one in found
        for t in one.audit.told
    ]


def write(path: epath.Path, found: Sequence[Preview], config: sections.Config) -> None:
    """Writes the page, and the CSV beside it where there are labels."""
    page = html.Page("Preview of " + ", ".join(one.source.spec for one in found))
    page.heading("Length of captions")
    page.drawing(
        plots.lengths({one.source.spec: one.lengths for one in found}, config.data.max_tokens), "histogram of lengths"
    )
    page.table(
        ["", "captions", "longer than data.max_tokens"],
        [
            [one.source.spec, f"{len(one.lengths):,}", f"{100 * truncated(one.lengths, config.data.max_tokens):.1f}%"]
            for one in found
        ],
    )
    for one in found:
        page.heading(one.source.spec)
        page.table([], counts(one, config))
        if one.cards:
            page.paragraph("Images as training sees them, each with its caption in the pieces of the tokenizer.")
            page.cards(one.cards)
        if one.audit.told:
            _audit(page, one)
    page.write(path)
    rows = leakage_rows(found)
    if rows:
        tables.write_csv(path.with_suffix(".csv"), LEAKAGE_HEADER, rows)


def _audit(page: html.Page, found: Preview) -> None:
    page.heading(f"What captions of {found.source.spec} give away of the labels")
    within = ", among images of equal count" if leakage.COUNT in found.source.families else ""
    page.paragraph(
        "How well the length of a caption alone, the kinds of its words alone, and with data.buckets the bucket of its "
        f"batch alone tell a label{within}: area under the ROC curve of a cross-validated ridge regression, with its "
        "95% interval; .500 is chance. What lies clearly above can be learned without understanding a word."
    )
    cells = {}
    for told in found.audit.told:
        if told.name == leakage.MEAN:
            cells[told.family, told.features] = tables.interval(told.auc, told.low, told.high)
            cells[told.family, "examples"] = f"{told.examples:,}"
    families = list(dict.fromkeys(family for family, _ in cells))
    columns = {"length": "length", "kinds": "kinds of words", "bucket": "bucket", "examples": "images"}
    if not any(features == "bucket" for _, features in cells):
        del columns["bucket"]
    page.table(
        ["label", *columns.values()],
        [[family, *(cells.get((family, column), "") for column in columns)] for family in families],
    )


def main(argv: list[str]) -> None:
    specs = argv[1:]
    if not specs:
        raise ConfigError(
            "name at least one source, as in: python -m mdc_jax.data.preview scenes:train --out=page.html"
        )
    out = command.place("out", flags.FLAGS.out)
    config = parse(flags.FLAGS.config) if flags.FLAGS.config is not None else _DEFAULTS
    sources = [open_source(spec) for spec in specs]
    if flags.FLAGS.checksums:
        compare(sources)
    tokenizer = make_tokenizer(config, sources[0])
    found = []
    for source in sources:
        values = flags.FLAGS
        found.append(preview(source, tokenizer, config, values.records, values.images, values.checksums))
        print(source.spec)
        for name, value in counts(found[-1], config):
            print(f"  {name:<26}{value}")
    write(out, found, config)
    print(f"\npage: {out}")
    if leakage_rows(found):
        print(f"what captions give away: {out.with_suffix('.csv')}")


if __name__ == "__main__":
    flags.DEFINE_string("out", "preview.html", "The page to write; what captions give away lies beside it as CSV.")
    flags.DEFINE_integer("records", 4_000, "Records of each source that are looked at.", lower_bound=1)
    flags.DEFINE_integer("images", 24, "Images of each source on the page.", lower_bound=0)
    flags.DEFINE_bool("checksums", False, "First compare all files of prepared data with their manifest (sha256).")
    command.define_config()
    app.run(command.reported(main, OSError), flags_parser=command.parse_arguments)
