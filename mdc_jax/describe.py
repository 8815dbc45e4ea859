"""Says what a run holds: `python -m mdc_jax.describe WORKDIR`."""

import sys

import jax
from absl import app
from clu import parameter_overview
from etils import epath

from mdc_jax import command
from mdc_jax.config import ConfigError, dumps
from mdc_jax.exchange import loading
from mdc_jax.training import checkpoint


def describe(workdir: epath.PathLike) -> str:
    """The latest checkpoint of a run, or an export, as text: parameters, progress, hashes, config."""
    loaded = loading.load(workdir)
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
    return parameter_overview.get_parameter_overview(jax.device_get(loaded.params), include_stats=False)


def main(argv: list[str]) -> None:
    if len(argv) != 2:
        raise ConfigError("give one workdir: python -m mdc_jax.describe WORKDIR")
    print(describe(argv[1]))


if __name__ == "__main__":
    app.run(command.reported(main), argv=sys.argv)
