"""Recap-DataComp-1B: `python -m mdc_jax.data.prepare.recap --from=datacomp --captions=recap --out=data/recap`.

The data set gives captions (parquet: key, url, re_caption, org_caption, sha256); img2dataset downloads the images. They
are joined by key, and no pair is kept whose sha256 differs: img2dataset counts keys as it goes, so that another way
of downloading gives other ones. The hash is that of the image as it was downloaded. Where img2dataset made images
smaller or encoded them anew, which it does unless told otherwise, its own note of the hash is what can be checked:
--verify=download. Both captions are kept as columns, re_caption is the default one.
"""

from absl import flags

from mdc_jax.data.prepare import arguments, recaptions, samples, tar
from mdc_jax.data.prepare.records import TooManyDropped


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    captions = recaptions.Captions.open(arguments.paths("captions", ".parquet"))
    plans = [
        recaptions.RecapPlan(path, arguments.split(), arguments.encoding(), captions=captions, verify=values.verify)
        for path in arguments.paths("from", ".tar")
    ]
    try:
        arguments.write(
            argv,
            f"recap {' '.join(values['from'].value)}",
            plans,
            columns=recaptions.COLUMNS,
            settings={"verify": values.verify},
            unread=tar.UNREAD,
            unit="B",
        )
    except TooManyDropped as error:
        if recaptions.DIFFERS in str(error) and values.verify == "image":
            advice = "If img2dataset encoded these images anew, compare with its note of the hash: --verify=download"
        else:
            advice = samples.advice(error.dropped)
        raise TooManyDropped(f"{error}\n{advice}".strip(), error.dropped) from error


if __name__ == "__main__":
    arguments.define("Folders of tars, or globs of them.", "captions CC-BY-4.0; images as stated by their owners")
    flags.DEFINE_list("captions", None, "Folders of parquet files, or globs of them.", required=True)
    flags.DEFINE_enum("verify", "image", recaptions.VERIFY, "Whose sha256: of the tar's bytes, or noted at download.")
    arguments.define_split()
    arguments.run(main)
