"""The flags that the converters share, and what they do with their plans."""

import collections
import glob
import os
import pathlib
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from absl import app, flags

from mdc_jax import command
from mdc_jax.data.prepare import records, runners
from mdc_jax.data.prepare.encode import Encoding
from mdc_jax.data.prepare.lengths import CAPTION, Lengths
from mdc_jax.data.prepare.manifest import Manifest
from mdc_jax.data.prepare.records import Plan
from mdc_jax.data.sources.base import Family
from mdc_jax.data.texts import readable

flags.disclaim_key_flags()  # they are listed by --help of the command that has them defined


def define(given: str, licence: str) -> None:
    """Defines the flags; `given` says what --from is."""
    flags.DEFINE_list("from", None, given, required=True)
    flags.DEFINE_string("out", None, "Folder to write to.", required=True)
    flags.DEFINE_integer("workers", os.cpu_count(), "Processes.", lower_bound=1)
    flags.DEFINE_integer("short_side", 0, "Bound of the shorter side in pixels; 0 keeps every image.", lower_bound=0)
    flags.DEFINE_integer("quality", Encoding.quality, "JPEG quality of images that are made smaller.", 1, 100)
    flags.DEFINE_string("tokenizer", "", "SentencePiece model that measures captions; without it words are counted.")
    flags.DEFINE_float("max_bad_share", 0.05, "Share of examples that may be dropped, and of tars cut short.", 0, 1)
    flags.DEFINE_bool("replace", False, "Whether shards of other data, or of other settings, may be replaced.")
    flags.DEFINE_string("licence", licence, "Noted in the manifest.")
    flags.DEFINE_string("attribution", "", "Noted in the manifest.")
    flags.DEFINE_string("runner", "", "Apache Beam runner, as DirectRunner; its options follow after --.")


def define_split() -> None:
    """Defines --split, for data that comes in splits."""
    flags.DEFINE_string("split", "train", "Name of the split.")


def split() -> str:
    """The name in --split, with which names of files begin; raises ValueError for one that could not."""
    name = flags.FLAGS.split
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f'--split="{name}": give a name of letters, digits, _ and -')
    return name


def encoding() -> Encoding:
    return Encoding(flags.FLAGS.short_side, flags.FLAGS.quality)


def columns() -> tuple[str, ...]:
    """The names in --columns; raises ValueError where there are none."""
    names = tuple(dict.fromkeys(name for name in flags.FLAGS.columns if name))
    if not names:
        raise ValueError("--columns is empty; name at least one column of text")
    return names


def folder() -> pathlib.Path:
    """The one folder in --from; raises FileNotFoundError where it is not there."""
    given = ",".join(_given("from"))
    if not pathlib.Path(given).is_dir():
        raise FileNotFoundError(f"--from={given}: there is no such folder")
    return pathlib.Path(given)


def _given(flag: str) -> list[str]:
    """The values of a flag of several; raises ValueError for an empty one, as of a shell's variable that is not set."""
    values = flags.FLAGS[flag].value
    if not values or not all(values):
        raise ValueError(f"--{flag}={','.join(values)}: a name is empty")
    return values


def paths(flag: str, suffix: str) -> list[pathlib.Path]:
    """The files that a flag names: files, globs, or folders with files of this suffix; in order, each once.

    Raises:
      FileNotFoundError: a name stands for no file.
    """
    found: dict[pathlib.Path, None] = {}
    for pattern in _given(flag):
        # Hidden files are none: macOS puts a ._NAME beside NAME.
        inside = sorted(pathlib.Path(pattern).glob(f"[!.]*{suffix}")) if pathlib.Path(pattern).is_dir() else None
        named = sorted(map(pathlib.Path, glob.glob(pattern))) if inside is None else inside
        if not named:
            deeper = next(pathlib.Path(pattern).glob(f"*/**/*{suffix}"), None) if inside is not None else None
            raise FileNotFoundError(
                f"--{flag}={pattern}: no {suffix} file is there; name files (unpacked where they end in .gz), globs, "
                f"or the folders that they lie in{f', as {deeper.parent}' if deeper else ''}"
            )
        found |= dict.fromkeys(named)
    return list(found)


def local(out: str) -> pathlib.Path:
    """The folder in --out; raises ValueError for a file or a bucket, which would become a folder called "gs:"."""
    if not out:
        raise ValueError("--out= is empty: name a folder")
    if "://" in out:
        raise ValueError(f"--out={out}: shards are written to a folder of this machine; copy that one to the bucket")
    if pathlib.Path(out).is_file():
        raise ValueError(f"--out={out}: this is a file; name a folder")
    return pathlib.Path(out)


def write(
    argv: Sequence[str],
    source: str,
    plans: Sequence[Plan],
    *,
    columns: tuple[str, ...] = (CAPTION,),
    settings: Mapping[str, Any] | None = None,
    families: Mapping[str, Family] | None = None,
    dropped: Mapping[str, Sequence[str]] | None = None,
    unread: Collection[str] = (),
    unit: str = " examples",
    numbered: bool = False,
) -> None:
    """Writes what the flags ask for, and prints what was written.

    `dropped` are names of what is in none of the plans, by reason; `unread` is of `records.write_all`. With `numbered`
    shards are called by their number and how many there are, so that other names in a folder that was never complete
    are those of the same data.

    Raises:
      ValueError: two shards have one name; the folder has shards of something else, and --replace was not given; or
        --tokenizer names no model.
    """
    values, dropped = flags.FLAGS, dropped or {}
    out = local(values.out)
    if not 0 <= values.max_bad_share <= 1:  # the bounds of a flag let nan pass
        raise ValueError(f"--max_bad_share={values.max_bad_share}: give a share, from 0 to 1")
    for name, count in collections.Counter(plan.name for plan in plans).items():
        if count > 1:
            raise ValueError(
                f"{count} inputs would give {out / name}: rename them, or prepare them to different folders"
            )
    there = {} if values.replace else records.finished(out, complete=numbered)
    other = sorted(there.keys() - {plan.name for plan in plans})
    if other:
        raise ValueError(
            f"{out} holds what this run does not write, as {other[0]} (shards: {len(other)}): prepare to another "
            "folder, or replace what is there with --replace"
        )
    lengths = Lengths(values.tokenizer, columns)
    try:
        lengths.describe()
    except (OSError, ValueError) as error:
        raise ValueError(f"--tokenizer={values.tokenizer}: {error}") from error
    manifest = Manifest(
        source=source,
        licence=values.licence,
        attribution=values.attribution,
        families=families or {},
        settings={"short_side": values.short_side, "quality": values.quality} | (settings or {}),
        dropped={reason: len(names) for reason, names in dropped.items()},
        named={
            reason: [readable(name[: records.NAME_LENGTH]) for name in names[: records.NAMED_OF_A_REASON]]
            for reason, names in dropped.items()
        },
    )
    manifest = records.write_all(
        out,
        manifest,
        plans,
        lengths=lengths,
        max_dropped=values.max_bad_share,
        unread=unread,
        unit=unit,
        replace=values.replace,
        run=runners.runner(values.workers, values.runner, argv[1:]),
    )
    show(out, manifest)


def show(out: pathlib.Path, manifest: Manifest, source: str = "array_record") -> None:
    """Prints counts, and the specs by which a run reads them from the `source` of that name."""
    print(f"\n{out}: {manifest.source}, {manifest.licence}")
    for split, count in manifest.counts().items():
        print(f"  {split:<12}{count:>8}    {source}:{out}:{split}")
    for reason, count in manifest.all_dropped().items():
        print(f"  left out    {count:>8}    {reason}")


def run(main: Callable[[list[str]], None]) -> None:
    """Runs a command; what a user can mend ends without a traceback."""
    reported = command.reported(main, OSError, ValueError, records.TooManyDropped)

    def interruptible(argv: list[str]) -> None:
        try:
            reported(argv)
        except KeyboardInterrupt:
            sys.exit("interrupted; the same command goes on where this one stopped")

    app.run(interruptible, flags_parser=command.parse_arguments)
