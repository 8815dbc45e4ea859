"""Tars as img2dataset writes them: `python -m mdc_jax.data.prepare.webdataset --from=cc3m --out=data/cc3m`.

A key's files are KEY.jpg (or png, webp ...), KEY.txt and KEY.json, whose fields are kept as metadata. Every tar becomes
a shard. Where a parquet file lies beside a tar, what it lists as downloaded and the tar has not is counted. Several
columns of text are kept apart by name: --columns=caption,alt takes KEY.txt and the field "alt" of KEY.json.
"""

from absl import flags

from mdc_jax.data.prepare import arguments, samples, tar
from mdc_jax.data.prepare.lengths import CAPTION
from mdc_jax.data.prepare.records import TooManyDropped


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    columns = arguments.columns()
    paths = arguments.paths("from", ".tar")
    plans = [samples.TarPlan(path, arguments.split(), arguments.encoding(), columns) for path in paths]
    source = f"webdataset {' '.join(values['from'].value)}"
    try:
        arguments.write(argv, source, plans, columns=columns, unread=tar.UNREAD, unit="B")
    except TooManyDropped as error:
        raise TooManyDropped(f"{error}\n{samples.advice(error.dropped)}".strip(), error.dropped) from error


if __name__ == "__main__":
    arguments.define("Folders of tars, or globs of them.", "as stated by the owners of the images")
    arguments.define_split()
    flags.DEFINE_list("columns", [CAPTION], "Columns of text: caption is KEY.txt, others are fields of KEY.json.")
    arguments.run(main)
