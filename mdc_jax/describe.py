"""Says what a run holds: `python -m mdc_jax.describe --workdir=RUN`."""

from absl import app, flags
from clu import parameter_overview
from etils import epath

from mdc_jax import command
from mdc_jax.config import dumps
from mdc_jax.exchange import loading
from mdc_jax.training import checkpoint


def describe(workdir: epath.PathLike, step: int | None = None) -> str:
    """A run at its latest checkpoint or that of `step`, or an export, as text: parameters, progress, hashes, config."""
    loaded = loading.load(workdir, step=step)
    if loaded.tokenizer is None:
        return _parameters(loaded) + "\n" + dumps(loaded.config)
    meta = loaded.meta
    steps = checkpoint.steps(workdir) if (epath.Path(workdir) / checkpoint.CHECKPOINTS).exists() else [loaded.step]
    config, image = loaded.config, loaded.config.image
    head = {
        "checkpoints": ", ".join(f"{step:,}" for step in steps),
        "format version": meta["format_version"],
        "examples seen": f"{meta['position']:,}",
        "training time": f"{meta['seconds']:,.0f} s",
        "objective": config.objective.name,
        "preprocessing": f"{image.size} px, {image.resize}, mean {image.mean}, std {image.std}",
        "tokenizer": f"{loaded.tokenizer.vocab_size:,} tokens, sha256 {loaded.tokenizer.hash[:16]}",
        "training data": f"{config.data.train}, fingerprint {meta['data'][:16]}",
    }
    lines = [f"{name:<16}{value}" for name, value in head.items()]
    return "\n".join([*lines, "", _parameters(loaded), "", dumps(config)])


def _parameters(loaded: checkpoint.Loaded) -> str:
    return parameter_overview.get_parameter_overview(loaded.params, include_stats=False)


def main(_: list[str]) -> None:
    print(describe(flags.FLAGS.workdir, flags.FLAGS.step))


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "A run, an export of one, or a released encoder.", required=True)
    flags.DEFINE_integer("step", None, "Step of the checkpoint; the latest if not given.")
    app.run(command.reported(main), flags_parser=command.parse_flags)
