"""Real pictures with captions, as ArrayRecord files: `python -m mdc_jax.data.prepare.pictures --out=DIR`.

    --source=tuxpaint                         868 photo cut-outs and drawings, GPL-2 (161 MB to fetch)
    --source=openclipart                      3,600 drawings, public domain (156 MB)
    --source=emoji                            14,800 emoji in four styles, one of them held out (14 MB)
    --source=tuxpaint,openclipart,emoji       several together

Packages are fetched by apt-get and npm; --from names a folder that has them already, as --from=SOURCE=PATH, once for
each source, where there are several. Pictures of one concept and near duplicates come into the same split. Train on the
result with --config.data.train=pictures:DIR:train, or on collages of its cut-outs with collage:DIR:train. A second run
goes on where the first one stopped.
"""

import collections
import concurrent.futures
import contextlib
import functools
import multiprocessing
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from absl import app, flags

from mdc_jax import command
from mdc_jax.config.parse import did_you_mean
from mdc_jax.data.collage.layout import CUTOUTS, FAMILY
from mdc_jax.data.prepare import (
    arguments,
    audit,
    collection,
    cutouts,
    emoji,
    near_duplicates,
    openclipart,
    records,
    runners,
    tuxpaint,
)
from mdc_jax.data.prepare.collection import Collection, Map, Picture
from mdc_jax.data.prepare.manifest import MANIFEST, Manifest
from mdc_jax.data.sources.base import Family

SOURCES: dict[str, Callable[[str], contextlib.AbstractContextManager[Collection]]] = {
    "tuxpaint": tuxpaint.collect,
    "openclipart": openclipart.collect,
    "emoji": emoji.collect,
}
# The stamps alone stay what they have always been: no near duplicates are joined, no blank picture is left out.
_UNCHANGED = ("tuxpaint",)


def prepare(
    out: pathlib.Path,
    sources: Sequence[str] = ("tuxpaint",),
    given: Mapping[str, str] | None = None,
    join: bool | None = None,
    map_: Map = map,
) -> Manifest:
    """Writes the shards and manifests of the pictures and of their cut-outs; the same input gives the same bytes.

    Args:
      out: folder to write to; the cut-outs for collages are in its folder "cutouts".
      sources: names in SOURCES.
      given: by source, a path that the user names instead of fetching it.
      join: whether near duplicates come into the same split; None: unless the source is tuxpaint alone.
      map_: renders pictures.

    Raises:
      FileNotFoundError: a source cannot be had; says what to do.
    """
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(SOURCES[source]((given or {}).get(source, ""))) for source in sources]
        pictures = [picture for each in found for picture in each.pictures]
        unchanged = tuple(sources) == _UNCHANGED
        join = not unchanged if join is None else join
        near = near_duplicates.pairs(pictures, out, map_)
        duplicates = near_duplicates.report(pictures, near) | {"joined": join}
        if join:
            pictures = near_duplicates.join(pictures, near)
            after = near_duplicates.report(pictures, near)
            duplicates |= {f"{key}_after": after[key] for key in ("across_splits", "groups", "largest_group")}
        splits, labels = collection.split_by_concept(pictures), collection.families(pictures)
        manifest = Manifest(
            source=", ".join(each.source for each in found),
            licence="; ".join(dict.fromkeys(each.licence for each in found)),
            attribution="; ".join(each.attribution for each in found if each.attribution),
            families=labels,
            settings=collection.SETTINGS,
            dropped=dict(sum((collections.Counter(each.dropped) for each in found), collections.Counter())),
            parts=[
                {
                    "source": each.source,
                    "licence": each.licence,
                    "attribution": each.attribution,
                    "pictures": len(each.pictures),
                    "dropped": dict(each.dropped),
                }
                for each in found
            ],
            audit={"near_duplicates": duplicates, "label_words": audit.label_words(splits, labels)},
        )
        settings = collection.SETTINGS | {"families": sorted(labels.items()), "may_be_blank": unchanged}
        plans = collection.shards(splits, settings, collection.Rendered(labels, may_be_blank=unchanged), map_)
        done = records.write_all(out, manifest, plans)
        _write_cutouts(out / CUTOUTS, done, splits, map_)
        return done


def _write_cutouts(out: pathlib.Path, pictures: Manifest, splits: Mapping[str, Sequence[Picture]], map_: Map) -> None:
    """Writes the cut-outs for collages, or removes those of an earlier run where the pictures have too few."""
    choice = cutouts.choose(splits)
    if len(choice.kinds) < 2:
        if (out / MANIFEST).exists():
            shutil.rmtree(out)
        return
    labels = {FAMILY: Family("class", choice.kinds)}
    manifest = Manifest(
        source=pictures.source,
        licence=pictures.licence,
        attribution=pictures.attribution,
        families=labels,
        settings=cutouts.SETTINGS,
        dropped=choice.dropped,
        parts=pictures.parts,
        audit={"label_words": audit.label_words(choice.splits, labels)},
    )
    settings = cutouts.SETTINGS | {"kinds": choice.kinds}
    records.write_all(out, manifest, collection.shards(choice.splits, settings, cutouts.CutOut(choice.kinds), map_))


@contextlib.contextmanager
def _workers(count: int) -> Iterator[Map]:
    """A `map` over that many processes."""
    if count == 1:
        yield map
        return
    pool = concurrent.futures.ProcessPoolExecutor(
        count,
        multiprocessing.get_context("spawn"),
        initializer=runners.begin,
    )
    try:
        yield functools.partial(pool.map, chunksize=8)
    finally:
        pool.shutdown(cancel_futures=True)


def _given(sources: Sequence[str], texts: Sequence[str]) -> dict[str, str]:
    """--from by source."""
    given = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if equals and name in SOURCES:
            if name not in sources:
                raise ValueError(f"--from={text}: --source={','.join(sources)} does not name {name}")
            given[name] = path
        elif len(sources) == 1:
            given[sources[0]] = text
        else:
            raise ValueError(f"--from={text}: say of which source, as in --from={sources[0]}={text}")
    return given


def _sources(texts: Sequence[str]) -> tuple[str, ...]:
    for name in texts:
        if name not in SOURCES:
            raise ValueError(f'--source: "{name}" is unknown{did_you_mean(name, SOURCES)}')
    if not texts or len(set(texts)) < len(texts):
        raise ValueError(f"--source={','.join(texts)}: name each source once, as in --source=tuxpaint,emoji")
    return tuple(texts)


def main(_: list[str]) -> None:
    out = arguments.local(flags.FLAGS.out)
    try:
        sources = _sources(flags.FLAGS.source)
        given = _given(sources, flags.FLAGS["from"].value)
        with _workers(flags.FLAGS.workers) as map_:
            manifest = prepare(out, sources, given, flags.FLAGS.join_near_duplicates, map_)
    except concurrent.futures.BrokenExecutor:
        sys.exit("error: a rendering process was killed, perhaps for memory; the same command goes on from here")
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on from here")
    _print(out, manifest)


def _print(out: pathlib.Path, manifest: Manifest) -> None:
    arguments.show(out, manifest, "pictures")
    _print_label_words(manifest)
    duplicates = manifest.audit["near_duplicates"]
    after = f", {duplicates['across_splits_after']} after joining" if duplicates["joined"] else ", left as they are"
    print(
        f"  near duplicates: {duplicates['pairs']} pairs, {duplicates['between_groups']} of them between concepts and "
        f"{duplicates['across_splits']} of those across splits{after}"
    )
    if (out / CUTOUTS).exists():
        of_collages = Manifest.read(out / CUTOUTS)
        print("\ncut-outs for collages", end="")
        arguments.show(out, of_collages, "collage")
        _print_label_words(of_collages)
    else:
        print("\nno collages: they need cut-outs of two kinds, with titles of one and of two words, in all splits")


def _print_label_words(manifest: Manifest) -> None:
    for family, shares in manifest.audit["label_words"].items():
        share = ", ".join(f"{split} {s['with_own_word'] / s['captions']:.1%}" for split, s in shares.items())
        print(f"  captions with a word of their own label, {family}: {share}")


if __name__ == "__main__":
    flags.DEFINE_string("out", None, "Folder to write to.", required=True)
    flags.DEFINE_list("source", ["tuxpaint"], f"Where the pictures come from: {', '.join(SOURCES)}, or several.")
    flags.DEFINE_multi_string("from", [], "A folder (or .deb) that you have, instead of fetching: PATH or SOURCE=PATH.")
    flags.DEFINE_integer("workers", os.cpu_count() or 1, "Processes that render.", lower_bound=1)
    flags.DEFINE_bool(
        "join_near_duplicates",
        None,
        "Put near duplicates into the same split. Unless said, this is done but for tuxpaint alone.",
    )
    app.run(command.reported(main, OSError, ValueError, records.TooManyDropped), flags_parser=command.parse_flags)
