"""The README.md of an export: what the model is, what it saw, how images must come, and how good its features are."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from mdc_jax.config import ConfigError, sections
from mdc_jax.data.prepare.manifest import MANIFEST
from mdc_jax.data.sources import buckets
from mdc_jax.exchange import trees
from mdc_jax.report import evaluations
from mdc_jax.training import checkpoint

_USE = {
    "mdc_jax": 'import mdc_jax\n\nmodel = mdc_jax.load("{folder}")\nfeatures = model(["cat.png"])',
    "timm": (
        "import timm\n\n"
        'model = timm.create_model("local-dir:{folder}", pretrained=True).eval()\n'
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))\n"
        "features = model(transform(image)[None])  # the mean of model.forward_features(...)"
    ),
    "transformers": (
        "import transformers\n\n"
        'model = transformers.SiglipVisionModel.from_pretrained("{folder}").eval()\n'
        'processor = transformers.AutoImageProcessor.from_pretrained("{folder}")\n'
        'tokens = model(**processor(image, return_tensors="pt")).last_hidden_state\n'
        "features = tokens.mean(1)"
    ),
}
_RESIZED = {
    "resize": "is squashed to",
    "crop": "is cut to its central square, which is resized to",
}


def card(
    loaded: checkpoint.Loaded,
    format_: str,
    folder: epath.Path,
    workdir: epath.Path,
    licence: str,
    probes: Sequence[epath.Path] = (),
) -> str:
    """The card of an export as `format_` into `folder`.

    Probe tables are those of the same step in `workdir`, and those of the folders `probes`; raises ConfigError where
    one of these holds none, or one of other weights.
    """
    config, encoder = loaded.config, loaded.objective.encoder_sizes
    taught = "on labels" if isinstance(config.objective, sections.Supervised) else "through captions"
    return "\n\n".join(
        part
        for part in (
            _front_matter(format_, licence),
            f"# {folder.name}",
            f"A vision transformer of depth {encoder.depth} and width {encoder.width} on patches of {encoder.patch} "
            f"pixels, trained {taught} by mdc_jax with the objective `{config.objective.name}`: "
            f"{loaded.step:,} steps, {loaded.meta['position']:,} examples.",
            f"```python\n{_USE[format_].format(folder=folder.name)}\n```",
            "## Preprocessing",
            _preprocessing(config.image),
            "## Data",
            f"Trained on `{config.data.train}` (fingerprint {loaded.meta['data'][:16]}).",
            *_data(config.data.train),
            *_origin(config.init_from),
            "## Licence",
            licence or "Not stated. It may depend on that of the training data.",
            *_probes(evaluations.of_step(workdir, loaded.step), [_checked(folder, loaded) for folder in probes]),
        )
    )


def _front_matter(format_: str, licence: str) -> str:
    """What Hugging Face's pages read."""
    entries = {
        "license": json.dumps(licence or "unknown"),
        "library_name": format_,
        "pipeline_tag": "image-feature-extraction",
    }
    return "\n".join(["---", *(f"{key}: {value}" for key, value in entries.items()), "---"])


def _preprocessing(image: sections.Image) -> str:
    return (
        f"An image {_RESIZED[image.resize]} {image.size} x {image.size} pixels (bilinear, antialiased). Its "
        f"pixels, from 0 to 255, become (pixel - {_numbers(image.mean)}) / {_numbers(image.std)}."
    )


def _numbers(values: tuple[float, ...]) -> str:
    """One number where all channels have the same."""
    return " / ".join(f"{value:g}" for value in (values[:1] if len(set(values)) == 1 else values))


def _data(spec: str) -> list[str]:
    """What the manifests of prepared records say, where the folders of a source spec are still there."""
    lines = []
    for folder in re.split(r":(?!//)|[+,]", spec):
        manifest = _json(epath.Path(folder) / MANIFEST) if folder else {}
        said = {key: manifest[key] for key in ("source", "licence", "attribution") if manifest.get(key)}
        if said:
            lines.append("\n".join(f"- {key}: {value}" for key, value in said.items()))
    return lines


def _origin(init_from: str) -> list[str]:
    if not init_from:
        return []
    return [f"Training started from the weights of `{init_from}`, whose data and licence bind these weights too."]


def _probes(evaluated: epath.Path, others: Sequence[epath.Path]) -> list[str]:
    """The tables of all probes of the run at this step, those that its config does not name among them, and others."""
    folders = [file.parent for file in sorted(evaluated.glob("*/probe.md"))]
    tables = [part for folder in (*folders, *others) for part in _table(folder)]
    return ["## Features", *tables] if tables else []


def _table(folder: epath.Path) -> list[str]:
    """A table, which starts with a title of its own, and the data that it is of."""
    text = re.sub("^#", "###", (folder / "probe.md").read_text().strip(), flags=re.MULTILINE)
    about = _json(folder / "probe.json")
    if not about:
        return [text]
    dataset = about["settings"]["dataset"]
    splits = ", ".join(f"{split} `{said['source']}`" for split, said in about["splits"].items())
    return [text, f"Probed on {f'`{dataset}`: ' if dataset else ''}{splits}."]


def _checked(folder: epath.Path, loaded: checkpoint.Loaded) -> epath.Path:
    about = _json(folder / "probe.json")
    if not about or not (folder / "probe.md").exists():
        raise ConfigError(
            f"--probe={folder} holds no probe.md with its probe.json: name DIR/linear_probe, as "
            "`python -m mdc_jax.evaluate --evaluator=linear_probe --out=DIR` writes it"
        )
    if about["weights"] != trees.sha256(trees.on_host(loaded.params["encoder"])):
        raise ConfigError(
            f"--probe={folder} is of other weights, those of step {about['step']}: probe step {loaded.step} of this "
            "run, or export with --step as it was probed"
        )
    return folder


def _json(path: epath.Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError, *buckets.errors()):
        return {}
    return found if isinstance(found, dict) else {}
