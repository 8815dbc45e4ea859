"""Objectives compared on the built-in scenes, on equal terms.

    python -m mdc_jax.compare --config=configs/compare_scenes.py:quick --workdir=runs/quick

The same command goes on where it was stopped; --only=1/3 does a part of the entries. See mdc_jax/comparison/README.md.

Hardware: 2 CPU cores, but for full, which is meant for a GPU. None of the sizes has been run to its end: hours are
estimated from the speed of configs/scenes.py on idle cores.

Sizes and lists of entries, one of them, as in configs/compare_scenes.py:cpu,prior=.5
    quick         masked diffusion, autoregressive, CLIP; one seed, no controls, no tuning (default; half an hour)
    cpu           seven objectives, three seeds, controls, learning rates tuned (about six hours)
    full          every objective and ratio, five seeds, every control, 17,000 steps
    ablations     masked diffusion with other intervals, masks, paddings, decoders (three seeds)
    ratios        masked language models from 15 to 100 % against the one schedule (three seeds)
    pairs         1,000 to 256,000 training pairs (three seeds)
    smoke         a minute: checks that everything works, learns nothing

Other arguments
    steps         of the first entry (quick 3000, full 17000, else 10000)
    equal         steps | flops | seconds: what the entries have in equal amounts
    sentences     sentences per caption: 1, 2, 4
    redundancy    how often a later sentence speaks of the same things again
    prior         how strongly shape and colour are correlated in training
    withheld      attribute pairs kept from training, as in red-circle+blue-star
"""

import ml_collections

from mdc_jax import command
from mdc_jax.comparison import recipe
from mdc_jax.comparison.settings import Entry, Tuning
from mdc_jax.config import evaluator, parse_argument, sections

SIZES = ("quick", "cpu", "full", "ablations", "ratios", "pairs", "smoke")
STEPS = {"quick": 3000, "full": 17_000, "smoke": 4}
FAMILIES = ("shape", "colour", "size", "texture", "count")  # of the cheap probe; all are read off the mean

RATIOS = ("masked_lm_15", "masked_lm_30", "masked_lm_50", "masked_lm_70", "masked_lm_85", "masked_lm_100")
ABLATIONS = {
    "masked_diffusion": (),
    "bernoulli": ("objective.masks=bernoulli",),
    "paper_interval": ("objective.interval=(0.5, 1.0)",),
    "interval_0_1": ("objective.interval=(0.0, 1.0)",),
    "interval_0_1_bernoulli": ("objective.interval=(0.0, 1.0)", "objective.masks=bernoulli"),
    "interval_0_1_stratified": ("objective.interval=(0.0, 1.0)", "objective.masks=stratified"),
    "masks_2": ("objective.masks_per_caption=2",),
    "masks_4": ("objective.masks_per_caption=4",),
    "padding_target": ("objective.padding=target",),
    "padding_known": ("objective.padding=known",),
    "decoder_1": ("model.decoder.depth=1",),
    "decoder_4": ("model.decoder.depth=4",),
    "null_5": ("objective.null_image_rate=0.05",),
    "null_20": ("objective.null_image_rate=0.2",),
}
PAIRS = ("1k", "4k", "16k", "64k", "256k")


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    arg = parse_argument(
        argument,
        **dict.fromkeys(SIZES, False),
        steps=0,
        equal="steps",
        sentences=1,
        redundancy=0.0,
        prior=0.0,
        withheld="",
    )
    size = recipe.size_of(arg, SIZES)
    steps = arg.steps or STEPS.get(size, 10_000)
    knobs = {key: arg[key] for key in ("sentences", "redundancy", "prior", "withheld") if arg[key]}
    base = "configs/scenes.py:" + ",".join(f"{key}={value}" for key, value in knobs.items())
    tuned = size in ("cpu", "full")
    notes = [] if tuned else [recipe.NOT_TUNED]
    notes += [recipe.NO_CONTROLS] if size in ("quick", "smoke") else []
    return recipe.comparison(
        base=base + (",runlocal" if size == "smoke" else ""),
        entries=entries_of(size, base),
        seeds=tuple(range({"quick": 1, "smoke": 1, "full": 5}.get(size, 3))),
        steps=steps,
        equal=arg.equal,
        settings=("log.every=1 steps",) if size == "smoke" else (),
        evaluators=smoke_evaluators(steps) if size == "smoke" else evaluators_of(size, steps),
        tuning=Tuning(
            learning_rates=recipe.LEARNING_RATES,
            steps=0 if size == "full" else 3000,
            seeds=(1000, 1001) if size == "full" else (1000,),
            probe=sections.LinearProbe(train_examples=4000, read_factor=3, batch_size=250),
        )
        if tuned
        else None,
        notes=tuple(notes),
    )


def entries_of(size: str, base: str) -> dict[str, Entry]:
    if size == "cpu":
        return recipe.with_controls(
            {**recipe.entries_of(recipe.SEVEN), "paper_interval": Entry(settings=ABLATIONS["paper_interval"])},
            blind=recipe.SEVEN[:2],
        )
    if size == "full":
        return recipe.with_controls(recipe.entries_of((*recipe.SEVEN, *RATIOS)), blind=(*recipe.SEVEN[:5], *RATIOS))
    if size == "ablations":
        return {name: Entry(settings=settings) for name, settings in ABLATIONS.items()}
    if size == "ratios":
        unclipped = Entry(settings=ABLATIONS["interval_0_1"])
        return {**recipe.entries_of(("masked_diffusion", *RATIOS)), "interval_0_1": unclipped}
    if size == "pairs":
        everything = command.load(base).data.train
        subsets = {f"pairs_{count}": (f"data.train=subset:{count}:{everything}",) for count in PAIRS}
        return {
            f"{objective}_{name}": Entry(objective, settings)
            for name, settings in reversed(subsets.items())
            for objective in ("masked_diffusion", "autoregressive")
        }
    return recipe.entries_of(recipe.THREE[:2] if size == "smoke" else recipe.THREE)


def evaluators_of(size: str, steps: int) -> dict[str, dict]:
    full = size == "full"
    return {
        "held_out": evaluator("held_out_loss", every=recipe.every(steps, 6), examples=1000),
        "curve": recipe.curve(steps, families=FAMILIES, train_examples=2000, test_examples=1000, batch_size=250),
        "probe": recipe.probe(
            train_examples=4000,
            test_examples=2000,
            read_factor=3,  # a relation is clear in 1 of 12 scenes
            batch_size=250,
            untrained_seeds=3 if full else 1,
        ),
        "captions": evaluator("captioning", examples=1000),
        "perplexity": evaluator("perplexity", examples=2000 if full else 1000),
        **recipe.scored(full),
    }


def smoke_evaluators(steps: int) -> dict[str, dict]:
    families = ("shape", "count")
    few = {"train_examples": 60, "validation_examples": 30, "test_examples": 30, "batch_size": 30, "families": families}
    return {
        "held_out": evaluator("held_out_loss", every=recipe.every(steps, 2), examples=32, batch_size=16),
        "probe": evaluator("linear_probe", **few),
        "retrieval": evaluator("retrieval", examples=8, batch_size=8, blind_images=2),
    }
