"""Whether a workdir holds the run that is wanted there, since its numbers are reported as those of these settings."""

from collections.abc import Mapping
from typing import Any

from etils import epath

from mdc_jax.comparison import provenance
from mdc_jax.config import ConfigError, sections
from mdc_jax.data.sources import open_source
from mdc_jax.data.tokenizer import Tokenizer
from mdc_jax.training import checkpoint, compatibility, label_families

# The steps say how often is evaluated, and a decoder without images may lie elsewhere.
_OF_EVALUATORS = ("every", "blind_workdir")
# A resume has a tokenizer already, whatever these say; another run would have another one.
_OF_TOKENIZERS = ("tokenizer.model", "tokenizer.train_captions")


def check(workdir: epath.Path, stored: Mapping[str, Any], config: sections.Config) -> None:
    """Raises ConfigError where the run of a workdir has other settings, data or evaluators than `config`.

    `stored` is the config that it was last started with. Other steps are no difference, nor is the warm-up then, which
    they may decide.
    """
    config = label_families.filled(config, open_source(config.data.train))
    changed = compatibility.changes(stored, config)
    if "duration" in changed:
        changed.pop("optimizer.warmup", None)
    if _same_tokenizer(workdir, *changed.get("tokenizer.model", ("", ""))):
        changed.pop("tokenizer.model", None)
    different = _data(workdir, config) | {key: values for key, values in changed.items() if _matters(key, config)}
    if not different:
        return
    lines = "\n".join(f"  {key}: {old!r} → {new!r}" for key, (old, new) in sorted(different.items()))
    advice = "use another --workdir, or set these back"
    if rate := different.get("optimizer.lr"):
        advice += f"; in a comparison --config.entries.ENTRY.lr={rate[0]:g} keeps the learning rate"
    raise ConfigError(f"{workdir} holds another run:\n{lines}\n{advice}")


def _matters(key: str, config: sections.Config) -> bool:
    if key.startswith("evaluators."):  # any resume may change them, but not what is compared
        path, _, setting = key.rpartition(".")
        if setting == "untrained_seeds":
            own = config.evaluators.get(path.split(".")[1])
            return own is None or own.baselines  # else it is of a row that is not there
        return setting not in _OF_EVALUATORS
    return key in _OF_TOKENIZERS or not compatibility.is_free(key)


def _same_tokenizer(workdir: epath.Path, before: str, now: str) -> bool:
    """Whether a model file that lies elsewhere is the one that the run of a workdir has; false where none can say."""
    own = workdir / checkpoint.TOKENIZER
    if not (before and now and own.exists() and epath.Path(now).exists()):
        return False
    return Tokenizer.load(own).hash == Tokenizer.load(now).hash


def _data(workdir: epath.Path, config: sections.Config) -> dict[str, tuple[Any, Any]]:
    """Splits that hold something else than when the run was last started, as far as that was written down."""
    starts = provenance.read(workdir)
    if not starts:
        return {}
    then, now = starts[-1]["data"], provenance.data(config)
    return {
        f"data.{split}": (then.get(split), now.get(split))
        for split in {*then, *now}
        if then.get(split, {}).get("sha256") != now.get(split, {}).get("sha256")
    }
