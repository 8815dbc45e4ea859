"""What configs of comparisons share; each says what differs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from mdc_jax.comparison.settings import Comparison, Entry, Tuning
from mdc_jax.config import ConfigError, evaluator, sections, to_dict

# The baseline rows of probes are the same for all entries: the first one has them.
_NO_BASELINES = "evaluators.probe.baselines=False"
THREE = ("masked_diffusion", "autoregressive", "clip")
SEVEN = ("masked_diffusion", "autoregressive", "parallel", "cappa", "masked_lm_40", "clip", "siglip")
LEARNING_RATES = (5e-4, 1.5e-3, 4.5e-3)
TUNING_SEEDS = (1000, 1001)  # with one the choice was that seed's, and the best of two another rate
# Of entries whose objective learns no law of lengths: the captions that they write have lengths of training captions.
GIVEN_LENGTHS = "evaluators.captions.decoding.length=training"
NO_CONTROLS = "no controls: no permuted captions, no decoders without images"
NO_BLIND = "no decoders that were trained without images"


def comparison(
    *, entries: Mapping[str, Entry], evaluators: Mapping[str, Any], tuning: Tuning | None = None, **settings: Any
) -> ml_collections.ConfigDict:
    """A complete config of a comparison; `settings` are other fields of `Comparison`."""
    first, *others = entries.items()
    others = [(name, dataclasses.replace(entry, settings=(*entry.settings, _NO_BASELINES))) for name, entry in others]
    found = Comparison(
        entries=dict([first, *others]), order=tuple(entries), evaluators={}, tuning=tuning or Tuning(), **settings
    )
    return ml_collections.ConfigDict({**to_dict(found), "evaluators": dict(evaluators)}).lock()


def of_size(
    size: str, *, probe: Mapping[str, Any], evaluators: Mapping[str, Any], **settings: Any
) -> ml_collections.ConfigDict:
    """A comparison of the size "quick", three objectives of one seed; "cpu", the same with controls; or "full", seven
    objectives of three seeds with controls and tuned learning rates. `probe` are settings of the probe that tunes."""
    if size == "quick":
        return comparison(entries=entries_of(THREE), evaluators=evaluators, notes=(NO_CONTROLS,), **settings)
    if size == "cpu":
        entries = with_controls(entries_of(THREE))
        return comparison(entries=entries, evaluators=evaluators, notes=(NO_BLIND,), **settings)
    return comparison(
        entries=with_controls(entries_of(SEVEN), blind=SEVEN[:2]),
        seeds=(0, 1, 2),
        evaluators=evaluators,
        tuning=Tuning(learning_rates=LEARNING_RATES, seeds=TUNING_SEEDS, probe=sections.LinearProbe(**probe)),
        **settings,
    )


def size_of(arg: ml_collections.ConfigDict, sizes: Sequence[str]) -> str:
    """The one of the switches `sizes` that is on, the first where none is; raises ConfigError for several."""
    on = [size for size in sizes if arg[size]]
    if len(on) > 1:
        raise ConfigError(f"choose one of {', '.join(on)}")
    return on[0] if on else sizes[0]


def entries_of(names: Sequence[str]) -> dict[str, Entry]:
    """Entries of objectives, which are called as these are, or masked_lm_R with the ratio R percent."""
    return {name: _entry(name) for name in names}


def with_controls(entries: Mapping[str, Entry], blind: Sequence[str] = ()) -> dict[str, Entry]:
    """Adds, for the first entry, one of permuted captions and one that is told the labels, and decoders without images
    for the entries `blind`; all of them of one seed, at the learning rate of what they control."""
    first = next(iter(entries))
    found = dict(entries)
    permuted = (*entries[first].settings, "data.permute_captions=True")
    found["permuted"] = dataclasses.replace(entries[first], settings=permuted, lr_of=first, seeds=1, control=True)
    found["supervised"] = Entry(sections.Supervised.name, lr_of=first, seeds=1, control=True)
    for name in blind:
        entry, control = entries[name], f"{name}_blind"
        settings = (*entry.settings, "objective.null_image_rate=1.0")
        found[control] = dataclasses.replace(entry, settings=settings, lr_of=entry.lr_of or name, seeds=1, control=True)
        found[name] = dataclasses.replace(entry, blind=control)
    return found


def every(steps: int, times: int) -> str:
    """The duration of which `steps` have so many."""
    return f"{max(steps // times, 1)} steps"


def curve(steps: int, **settings: Any) -> dict[str, Any]:
    """A cheap probe during training, for curves against steps, FLOPs and seconds."""
    return evaluator("linear_probe", every=every(steps, 6), baselines=False, **settings)


def probe(**settings: Any) -> dict[str, Any]:
    """The probe that is reported: of the mean, of the best layer, and by an attentive probe."""
    return evaluator("linear_probe", probes=("logistic", "attentive"), layers=True, **settings)


def scored(full: bool) -> dict[str, Any]:
    """Foils, retrieval, and what the image is worth to a token.

    With fewer blind images than 64 their mean is rougher; each costs as much as an image.
    """
    many, few = {"examples": 200, "blind_images": 64}, {"examples": 50, "blind_images": 16}
    size = many if full else few
    return {
        "foils": evaluator("compositionality", **size),
        "retrieval": evaluator("retrieval", **size),
        "position_signal": evaluator("position_signal"),
    }


def _entry(name: str) -> Entry:
    ratio = name.removeprefix(f"{sections.MaskedLM.name}_")
    if ratio == name:
        return Entry(name)
    return Entry(sections.MaskedLM.name, (f"objective.ratio={int(ratio) / 100:g}",))
