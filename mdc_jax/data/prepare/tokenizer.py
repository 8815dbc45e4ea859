"""Trains a SentencePiece model on the captions of a source: `python -m mdc_jax.data.prepare.tokenizer`.

    python -m mdc_jax.data.prepare.tokenizer --source=pictures:data/pictures:train --out=data/tokenizer.model

Use it with --config.tokenizer.model=FILE. A run without that trains one on its own captions, the same where the
settings are the same; one made here is trained once for many runs, whatever data they train on.
"""

import itertools
import statistics
from collections.abc import Iterable, Iterator

import tqdm
from absl import app, flags
from etils import epath

from mdc_jax import command, files
from mdc_jax.config import sections
from mdc_jax.data import tokenizer
from mdc_jax.data.captions import read_captions
from mdc_jax.data.sources import open_source
from mdc_jax.data.tokenizer import Tokenizer

_DEFAULTS = sections.Tokenizer()
_MEASURED = 10_000  # captions whose length is stated
_NO_LIMIT = 1 << 30


def prepare(source: str, out: epath.PathLike, settings: sections.Tokenizer) -> Tokenizer:
    """Writes a model trained on captions spread evenly over a source, a mixture's at its weights.

    Raises:
      ValueError: the source cannot be opened, or has no captions to train on.
      OSError: a file cannot be read or written.
    """
    opened = open_source(source)
    captions = read_captions(opened, settings.train_captions)
    trained = tokenizer.train(_shown(captions, min(len(opened), settings.train_captions)), settings)
    out = epath.Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    files.write(out, trained.model_bytes)
    return trained


def summary(trained: Tokenizer, source: str) -> str:
    """What the model makes of captions: their length in tokens, EOS included."""
    captions = itertools.islice(read_captions(open_source(source), _MEASURED), _MEASURED)
    lengths = sorted(len(trained.encode(caption, _NO_LIMIT)) for caption in captions)
    quantiles = {"mean": statistics.mean(lengths), "median": statistics.median(lengths), "longest": lengths[-1]}
    return "\n".join(
        [
            f"  {'tokens':<12}{trained.vocab_size:>8}    sha256 {trained.hash[:16]}",
            *(f"  {name:<12}{value:>8.1f}    tokens a caption, of {len(lengths)}" for name, value in quantiles.items()),
        ]
    )


def _shown(captions: Iterable[str], total: int) -> Iterator[str]:
    """Shows how many captions were read, of one a record; training itself takes seconds to minutes after that."""
    with tqdm.tqdm(desc="reading", unit=" captions", total=total, mininterval=1) as bar:
        for caption in captions:
            yield caption
            bar.update()
    print("training", flush=True)


def main(_: list[str]) -> None:
    values = flags.FLAGS
    command.place("out", values.out)
    settings = sections.Tokenizer(
        algorithm=values.algorithm,
        vocab_size=values.vocab_size,
        lower_case=values.lower_case,
        byte_fallback=values.byte_fallback,
        train_captions=values.captions,
    )
    trained = prepare(values.source, values.out, settings)
    print(f"\n{values.out}: {values.algorithm}, trained on {values.source}\n{summary(trained, values.source)}")
    print(f"use it with --config.tokenizer.model={values.out}")


if __name__ == "__main__":
    flags.DEFINE_string("source", None, "Spec of the source, as in pictures:DIR:train.", required=True)
    flags.DEFINE_string("out", None, "File to write.", required=True)
    flags.DEFINE_enum("algorithm", _DEFAULTS.algorithm, ["unigram", "bpe"], "Kind of model.")
    flags.DEFINE_integer("vocab_size", _DEFAULTS.vocab_size, "Tokens at most.", lower_bound=3)
    flags.DEFINE_bool("lower_case", _DEFAULTS.lower_case, "Whether upper and lower case are the same.")
    flags.DEFINE_bool("byte_fallback", _DEFAULTS.byte_fallback, "Whether unknown characters are spelled in bytes.")
    flags.DEFINE_integer("captions", _DEFAULTS.train_captions, "Captions to train on, at most.", lower_bound=1)
    app.run(command.reported(main, OSError, ValueError), flags_parser=command.parse_flags)
