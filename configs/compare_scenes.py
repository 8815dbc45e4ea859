"""Objectives compared on the built-in scenes, on equal terms.

    python -m mdc_jax.compare --config=configs/compare_scenes.py:quick --workdir=runs/quick

The same command goes on where it was stopped; --only=1/3 does a part of the entries. See mdc_jax/comparison/README.md.

Hardware: 2 CPU cores, but for full, which is meant for a GPU. quick was run to its end (half an hour, 28 November
2026, 2 cores of an Intel Xeon with AVX-512), cpu, ablations, padding, position, ratios and pairs in part
(configs/results has their tables). Other hours are of one core, estimated from runs x steps at the speed of
configs/scenes.py (10,000 steps in 6 minutes) and 5 minutes to evaluate a run.

Sizes and lists of entries, one of them, as in configs/compare_scenes.py:cpu,prior=.5
    quick         masked diffusion, autoregressive, CLIP; one seed, no controls, no tuning (default; half an hour)
    cpu           seven objectives, three seeds, controls, learning rates tuned (28 runs and 42 that tune: 11
                  hours)
    full          every objective and ratio, five seeds, every control, 17,000 steps (84 runs and 78 that tune: 36
                  hours, and more, since it evaluates more examples)
    ablations     masked diffusion with other intervals, masks, paddings, decoders (three seeds; 9 hours)
    padding       what is done about pads and EOS, and autoregressive (three seeds; 3 hours): for lengths=equal,
                  =natural and =relation
    position      masked diffusion, autoregressive in both orders (6,000 steps, three seeds; an hour and a half): for
                  background=first and =last, redundancy=0 and =.8
    ratios        masked language models from 15 to 100 % against masked diffusion on three intervals, without foils,
                  retrieval and positions (three seeds): for sentences=1 (5 hours) and =4 (16 hours)
    pairs         1,000 to 256,000 training pairs, without these (three seeds; 6 hours)
    smoke         quick in miniature, minutes: checks that everything works, learns nothing

Other arguments
    steps         of the first entry (position 6000, full 17000, else 10000)
    count         training pairs (1,000,000); with epochs= in place of steps=, passes over these
    equal         steps | flops | seconds: what the entries have in equal amounts
    sentences     sentences per caption: 1, 2, 4 (position: 2, else 1)
    redundancy    how often a later sentence speaks of the same things again
    background    first | last: every caption states the background, there
    lengths       equal | natural: longer captions where there is more to say | relation: odd or even by where two
                  objects lie
    prior         how strongly shape and colour are correlated in training
    withheld      attribute pairs kept from training, as in red-circle+blue-star
"""

import dataclasses

import ml_collections

from mdc_jax import command
from mdc_jax.comparison import recipe
from mdc_jax.comparison.settings import Entry, Tuning
from mdc_jax.config import ConfigError, evaluator, parse_argument, sections
from mdc_jax.data.sources import open_source

SIZES = ("quick", "cpu", "full", "ablations", "padding", "position", "ratios", "pairs", "smoke")
STEPS = {"position": 6000, "full": 17_000, "smoke": 4}
KNOBS = ("sentences", "redundancy", "background", "lengths", "prior", "withheld")  # of scenes
FAMILIES = ("shape", "colour", "size", "texture", "count")  # of the cheap probe; all are read off the mean

RATIOS = ("masked_lm_15", "masked_lm_30", "masked_lm_50", "masked_lm_70", "masked_lm_85", "masked_lm_100")
ABLATIONS = {
    "masked_diffusion": (),
    "bernoulli": ("objective.masks=bernoulli",),
    "paper_interval": ("objective.interval=(0.5, 1.0)",),
    "paper_interval_bernoulli": ("objective.interval=(0.5, 1.0)", "objective.masks=bernoulli"),
    "interval_0_1": ("objective.interval=(0.0, 1.0)",),
    "interval_0_1_bernoulli": ("objective.interval=(0.0, 1.0)", "objective.masks=bernoulli"),
    "interval_0_1_stratified": ("objective.interval=(0.0, 1.0)", "objective.masks=stratified"),
    "masks_2": ("objective.masks_per_caption=2",),
    "masks_4": ("objective.masks_per_caption=4",),
    "padding_target": ("objective.padding=target",),
    "padding_known": ("objective.padding=known", recipe.GIVEN_LENGTHS),
    "eos_visible": ("objective.mask_eos=False", recipe.GIVEN_LENGTHS),
    "decoder_1": ("model.decoder.depth=1",),
    "decoder_4": ("model.decoder.depth=4",),
    "null_5": ("objective.null_image_rate=0.05",),
    "null_20": ("objective.null_image_rate=0.2",),
}
# Learning rates where none are tuned, if not that of the base config: what tuning chose.
RECORDED = {"clip": 5e-4}
PADDING = ("masked_diffusion", "padding_target", "padding_known", "eos_visible")
PAIRS = ("1k", "4k", "16k", "64k", "256k")


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    arg = parse_argument(
        argument,
        **dict.fromkeys(SIZES, False),
        steps=0,
        count="",
        epochs=0,
        equal="steps",
        sentences=0,
        redundancy=0.0,
        background="",
        lengths="equal",
        prior=0.0,
        withheld="",
    )
    size = recipe.size_of(arg, SIZES)
    arg.sentences = arg.sentences or (2 if size == "position" else 1)
    base = "configs/scenes.py:" + ",".join(f"{key}={arg[key]}" for key in KNOBS if arg[key])
    steps = steps_of(arg, base) or STEPS.get(size, 10_000)
    tuned = size in ("cpu", "full")
    return recipe.comparison(
        base=base + (",runlocal" if size == "smoke" else ""),
        entries=with_count(arg, size, base),
        seeds=tuple(range({"quick": 1, "smoke": 1, "full": 5}.get(size, 3))),
        steps=steps,
        equal=arg.equal,
        settings=("log.every=1 steps",) if size == "smoke" else (),
        evaluators=smoke_evaluators(steps) if size == "smoke" else evaluators_of(size, steps),
        tuning=Tuning(
            learning_rates=recipe.LEARNING_RATES,
            steps=0,  # as many as are reported: what is best after 3,000 steps is too little for 10,000
            seeds=recipe.TUNING_SEEDS,
            probe=sections.LinearProbe(train_examples=4000, read_factor=3, batch_size=250),
        )
        if tuned
        else None,
        notes=() if tuned else (recipe.NO_CONTROLS,),
    )


def steps_of(arg: ml_collections.ConfigDict, base: str) -> int:
    """Those that are asked for; 0: none."""
    if not arg.epochs:
        return arg.steps
    if arg.epochs < 0 or arg.steps or not arg.count:
        raise ConfigError(
            "epochs= takes the place of steps=, and needs count=, the pairs that a pass is over: give both, 1 or more"
        )
    pairs = len(open_source(subset_of(arg.count, base)))
    return max(round(arg.epochs * pairs / command.load(base).data.batch_size), 1)


def subset_of(count: str, base: str) -> str:
    """The first so many training pairs."""
    return f"subset:{count}:{command.load(base).data.train}"


def with_count(arg: ml_collections.ConfigDict, size: str, base: str) -> dict[str, Entry]:
    """The entries, of as many pairs as are asked for: in their own settings, which --config.settings leaves alone."""
    entries = entries_of(size, base)
    if not arg.count:
        return entries
    if size == "pairs":
        raise ConfigError(f"count={arg.count}: the entries of pairs have counts of their own; leave it out")
    train = f"data.train={subset_of(arg.count, base)}"
    return {name: dataclasses.replace(entry, settings=(*entry.settings, train)) for name, entry in entries.items()}


def entries_of(size: str, base: str) -> dict[str, Entry]:
    if size in ("cpu", "full"):
        full = size == "full"
        # One objective has one learning rate, whatever its interval.
        paper_interval = Entry(settings=ABLATIONS["paper_interval"], lr_of="masked_diffusion")
        objectives = (*recipe.SEVEN, *RATIOS) if full else recipe.SEVEN
        entries = {**recipe.entries_of(objectives), "paper_interval": paper_interval}
        return recipe.with_controls(
            entries, blind=(*recipe.SEVEN[:5], "paper_interval", *RATIOS) if full else recipe.SEVEN[:2]
        )
    if size == "ablations":
        return {name: Entry(settings=settings) for name, settings in ABLATIONS.items()}
    if size == "padding":
        padding = {name: Entry(settings=ABLATIONS[name]) for name in PADDING}
        return {**padding, **recipe.entries_of(("autoregressive",))}
    if size == "position":
        right_to_left = Entry("autoregressive", ("objective.order=right_to_left",))
        return {**recipe.entries_of(recipe.THREE[:2]), "right_to_left": right_to_left}
    if size == "ratios":
        schedules = {name: Entry(settings=ABLATIONS[name]) for name in ("paper_interval", "interval_0_1")}
        return {**recipe.entries_of(("masked_diffusion", *RATIOS)), **schedules}
    if size == "pairs":
        subsets = {f"pairs_{count}": (f"data.train={subset_of(count, base)}",) for count in PAIRS}
        return {
            f"{objective}_{name}": Entry(objective, settings)
            for name, settings in reversed(subsets.items())
            for objective in ("masked_diffusion", "autoregressive")
        }
    entries = recipe.entries_of(recipe.THREE)
    return {name: dataclasses.replace(entry, lr=RECORDED.get(name, 0.0)) for name, entry in entries.items()}


def evaluators_of(size: str, steps: int) -> dict[str, dict]:
    full = size == "full"
    families = ("background", *FAMILIES) if size == "position" else FAMILIES
    probes = {
        "held_out": evaluator("held_out_loss", every=recipe.every(steps, 6), examples=1000),
        "curve": recipe.curve(steps, families=families, train_examples=2000, test_examples=1000, batch_size=250),
        "probe": recipe.probe(
            train_examples=4000,
            test_examples=2000,
            read_factor=3,  # a relation is clear in 1 of 12 scenes
            batch_size=250,
            untrained_seeds=1 if size == "cpu" else 3,  # for each of its seeds
        ),
    }
    if size == "position":
        return {**probes, "position_signal": evaluator("position_signal")}
    generated = {
        "captions": evaluator("captioning", examples=1000),
        "perplexity": evaluator("perplexity", examples=2000 if full else 1000),
    }
    # The paper's figures of ratios and pairs are of probes.
    return {**probes, **generated, **({} if size in ("ratios", "pairs") else recipe.scored(full))}


def smoke_evaluators(steps: int) -> dict[str, dict]:
    """Those of quick, of few examples."""
    probed = {"train_examples": 60, "validation_examples": 30, "test_examples": 30, "families": ("shape", "count")}
    scored = {"examples": 4, "batch_size": 4, "blind_images": 2}
    few = {
        "held_out": {"examples": 32, "batch_size": 16, "every": recipe.every(steps, 2)},
        "curve": {**probed, "batch_size": 30, "every": recipe.every(steps, 2)},
        "probe": {**probed, "batch_size": 30, "untrained_seeds": 1, "probes": ("logistic",), "layers": False},
        "captions": {"examples": 8, "batch_size": 8},
        "perplexity": {"examples": 8, "batch_size": 8},
        "foils": scored,
        "retrieval": scored,
        "position_signal": {"examples": 8, "batch_size": 8, "blind_images": 2},
    }
    return {name: {**section, **few[name]} for name, section in evaluators_of("quick", steps).items()}
