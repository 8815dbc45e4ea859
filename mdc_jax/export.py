"""Writes a trained model in a folder for others: `python -m mdc_jax.export --workdir=RUN --out=DIR [--format=timm]`.

`mdc_jax` is the whole model with its tokenizer; `timm` and `transformers` are the image encoder, as these libraries
load it. A README.md with data, licence, preprocessing and the run's probes is written along.
"""

from collections.abc import Callable, Mapping, Sequence

from absl import app, flags
from etils import epath

from mdc_jax import command
from mdc_jax.config import ConfigError
from mdc_jax.exchange import loading, model_card, own, timm, transformers
from mdc_jax.training import checkpoint

FORMATS: Mapping[str, Callable[[checkpoint.Loaded, epath.Path], None]] = {
    "mdc_jax": own.write,
    "timm": timm.write,
    "transformers": transformers.write,
}


def export(
    workdir: epath.PathLike,
    out: epath.PathLike,
    format_: str,
    *,
    step: int | None = None,
    licence: str = "",
    probes: Sequence[epath.PathLike] = (),
) -> None:
    """Exports a run at its latest checkpoint, or that of `step`; the format is one of `FORMATS`.

    Raises ConfigError for a folder that holds something, for a model that the format cannot express, and for a folder
    of `probes`, whose tables go on the card beside those of the run, that has none of these weights.
    """
    out = epath.Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out={out} is a file, or holds some already: name a new folder")
    loaded = loading.load(workdir, step=step)
    if loaded.tokenizer is None:
        raise ConfigError(f"{workdir} is an encoder of another library already: export a run")
    card = model_card.card(loaded, format_, out, epath.Path(workdir), licence, [epath.Path(probe) for probe in probes])
    out.mkdir(parents=True, exist_ok=True)
    FORMATS[format_](loaded, out)
    (out / "README.md").write_text(card + "\n")


def main(_: list[str]) -> None:
    values = flags.FLAGS
    export(values.workdir, values.out, values.format, step=values.step, licence=values.licence, probes=values.probe)
    print(f"{values.workdir} is in {values.out} as {values.format}:")
    print(
        "\n".join(
            f"  {file.name:<28}{file.stat().length:>14,} bytes" for file in sorted(epath.Path(values.out).iterdir())
        )
    )


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run, or an export of ours.", required=True)
    flags.DEFINE_string("out", None, "A new folder.", required=True)
    flags.DEFINE_enum("format", "mdc_jax", list(FORMATS), "Who is to load it.")
    flags.DEFINE_integer("step", None, "Step of the checkpoint; the latest if not given.")
    flags.DEFINE_string("licence", "", "Of the weights, for the README.md, as in cc-by-4.0.")
    flags.DEFINE_multi_string("probe", [], "Folder of a linear probe whose table the README.md gets too; repeatable.")
    app.run(command.reported(main), flags_parser=command.parse_flags)
