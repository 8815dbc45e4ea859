"""The data sets that encoders are probed on: where they lie, how they are split, and what is reported of them.

`linear_probe.dataset` names one: "cifar10", which TFDS holds, or "aircraft:DIR", a folder that holds its splits: as
TFDS or a `prepare` command wrote them, or as DIR/SPLIT/CLASS/image. Where a set has no validation split, a share of
train is held out, in a pseudorandom order that is always the same.
"""

import dataclasses
import pathlib
from collections.abc import Mapping

from absl import logging

from mdc_jax.config import ConfigError, sections
from mdc_jax.config.parse import did_you_mean
from mdc_jax.data.prepare.manifest import MANIFEST
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import Source

TOP_1, MEAN_PER_CLASS = "accuracy", "mean_per_class"
_TFDS_FILE = "dataset_info.json"
_LABEL = "label"  # the family's name in TFDS, where there are others too, as in Pets
_ALSO = {"validation": "val"}  # how folders are named, too


@dataclasses.dataclass(frozen=True)
class ProbeSet:
    """A data set as papers use it (arXiv 2103.00020, table 9); its numbers are of its authors."""

    tfds: str  # its name in TFDS; "" where TFDS does not have it
    classes: int
    licence: str  # as its authors state it; of the images, where they say nothing of the labels
    metric: str = TOP_1
    train: str = "train"
    validation: str = ""  # "": held out of train
    test: str = "test"
    held_out: int = 10  # percent of train


PROBE_SETS: Mapping[str, ProbeSet] = {
    # ImageNet's test labels were never published; its validation split is what everybody tests on. So is Food101's,
    # which TFDS calls so.
    "imagenet": ProbeSet("imagenet2012", 1000, "non-commercial research", test="validation", held_out=1),
    "food101": ProbeSet("food101", 101, "of the images' owners; scientific fair use", test="validation"),
    "cifar10": ProbeSet("cifar10", 10, "none stated"),
    "cifar100": ProbeSet("cifar100", 100, "none stated"),
    "pets": ProbeSet("oxford_iiit_pet", 37, "CC BY-SA 4.0", MEAN_PER_CLASS),
    "flowers102": ProbeSet("oxford_flowers102", 102, "none stated", MEAN_PER_CLASS, validation="validation"),
    "dtd": ProbeSet("dtd", 47, "research", validation="validation"),  # the first of its ten partitions
    "caltech101": ProbeSet("caltech101", 102, "CC BY 4.0", MEAN_PER_CLASS),
    "cars": ProbeSet("cars196", 196, "non-commercial research"),
    "sun397": ProbeSet("sun397/standard-part1-120k", 397, "of the images' owners; research"),
    "aircraft": ProbeSet("", 100, "non-commercial research", MEAN_PER_CLASS, validation="validation"),
}


def filled(section: sections.LinearProbe) -> sections.LinearProbe:
    """The section with the sources and the label family of its `dataset`; as it is where it names none.

    Raises ConfigError for an unknown set, files that are not there, another number of classes, or another metric.
    """
    if not section.dataset:
        return section
    if section.train or section.validation or section.test:
        raise ConfigError(f'linear probe: dataset="{section.dataset}" names its own train, validation and test')
    metric = named(section.dataset).metric
    if section.metric not in (TOP_1, metric):
        raise ConfigError(f'linear probe: metric="{section.metric}", but papers give "{metric}" of {section.dataset}')
    specs, family = resolve(section.dataset)
    sizes = {f"{split}_examples": len(open_source(spec)) for split, spec in specs.items()}
    fewer = [f"{name}={size}" for name, size in sizes.items() if getattr(section, name) < size]
    if fewer:
        logging.warning("linear probe: all of %s, as papers probe it, would be %s", section.dataset, ", ".join(fewer))
    return dataclasses.replace(section, **specs, families=section.families or (family,), metric=metric)


def named(dataset: str) -> ProbeSet:
    """The set of "NAME" or "NAME:DIR"; raises ConfigError for an unknown one."""
    name = dataset.partition(":")[0]
    if name not in PROBE_SETS:
        raise ConfigError(f'linear probe: dataset="{dataset}"{did_you_mean(name, PROBE_SETS)}')
    return PROBE_SETS[name]


def resolve(dataset: str) -> tuple[dict[str, str], str]:
    """Source specs by split, and the label family; raises as `filled`. Every split is in a pseudorandom order."""
    chosen = named(dataset)
    train = _spec(dataset, chosen.train)
    whole = "subset:0%-100%:{}".format
    specs = {"train": whole(train), "test": whole(_spec(dataset, chosen.test))}
    if chosen.validation:
        specs["validation"] = whole(_spec(dataset, chosen.validation))
    else:
        kept = 100 - chosen.held_out
        specs |= {"train": f"subset:0%-{kept}%:{train}", "validation": f"subset:{kept}%-100%:{train}"}
    return specs, _family(open_source(train), chosen)


def _spec(dataset: str, split: str) -> str:
    """The source of a split of "NAME" or "NAME:DIR"."""
    name, _, directory = dataset.partition(":")
    if not directory:
        known = PROBE_SETS[name].tfds
        if not known:
            raise ConfigError(f'linear probe: TFDS does not have {name}: give its folder, as in dataset="{name}:DIR"')
        return f"tfds:{known}:{split}"
    root = pathlib.Path(directory)
    if (root / _TFDS_FILE).exists():
        return f"tfds:{directory}:{split}"
    if (root / MANIFEST).exists():
        return f"array_record:{directory}:{split}"
    for folder in (split, _ALSO.get(split, split)):
        if (root / folder).is_dir():
            return f"folder:{root / folder}"
    raise ConfigError(
        f'linear probe: dataset="{dataset}" needs {root / split}/CLASS/image, or what TFDS or a prepare command wrote'
    )


def _family(source: Source, chosen: ProbeSet) -> str:
    families = {key: family for key, family in source.families.items() if family.kind == "class"}
    if len(families) > 1 and _LABEL in families:
        families = {_LABEL: families[_LABEL]}
    if len(families) != 1:
        raise ConfigError(f'linear probe: {source.spec} has the class families {sorted(families)}; name one "{_LABEL}"')
    ((name, family),) = families.items()
    if len(family.names) != chosen.classes:
        raise ConfigError(f"linear probe: {source.spec} has {len(family.names)} classes, not {chosen.classes}")
    return name
