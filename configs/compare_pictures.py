"""Objectives compared on real pictures with captions: Tux Paint, Open Clip Art and emoji.

    python -m mdc_jax.data.prepare.pictures --source=tuxpaint,openclipart,emoji --out=data/drawings --workers=2
    python -m mdc_jax.compare --config=configs/compare_pictures.py:quick --workdir=runs/pictures_quick

The same command goes on where it was stopped; --only=1/3 does a part of the entries. See mdc_jax/comparison/README.md.

Hardware: 2 CPU cores; full is meant for a GPU. Of cpu three runs were made with steps=4000, 25 minutes each on one core
and 5 to evaluate; at that speed quick (3 runs) takes 2 hours, cpu (5) 4, ablations (9) 7, full (25, and 42 that
tune) 44, and its larger evaluations more. The foils need emoji.

Sizes, one of them, as in configs/compare_pictures.py:full
    quick         masked diffusion, autoregressive, CLIP; one seed, no controls, no tuning (default)
    cpu           the same with permuted captions and an encoder that is told the labels
    full          seven objectives, three seeds, controls, learning rates tuned
    ablations     masked diffusion of whole words, and with EOS visible (three seeds)

Other arguments
    data          the folder that the first command made (data/drawings)
    steps         of the first entry (6000)
    equal         steps | flops | seconds: what the entries have in equal amounts
"""

import ml_collections

from mdc_jax.comparison import recipe
from mdc_jax.comparison.settings import Entry
from mdc_jax.config import evaluator, parse_argument

SIZES = ("quick", "cpu", "full", "ablations")
ABLATIONS = {
    "masked_diffusion": (),
    "whole_words": ("objective.mask_words=True", recipe.GIVEN_LENGTHS),
    "eos_visible": ("objective.mask_eos=False", recipe.GIVEN_LENGTHS),
}
FAMILIES = ("openclipart_folder", "emoji_group")


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    arg = parse_argument(argument, **dict.fromkeys(SIZES, False), data="data/drawings", steps=6000, equal="steps")
    size = recipe.size_of(arg, SIZES)
    many = {"train_examples": 8000, "validation_examples": 2000, "test_examples": 2000, "families": FAMILIES}
    shared = {
        "base": f"configs/drawings.py:data={arg.data}",
        "steps": arg.steps,
        "equal": arg.equal,
        "evaluators": {
            "held_out": evaluator("held_out_loss", every=recipe.every(arg.steps, 6), examples=1000),
            "curve": recipe.curve(arg.steps, train_examples=3000, families=FAMILIES),
            "probe": recipe.probe(**many),
            # Other concepts than in training, in a style that is not in training either.
            "unseen_style": recipe.probe(
                **{**many, "families": ("emoji_group",)}, test=f"pictures:{arg.data}:style", baselines=False
            ),
            "captions": evaluator("captioning", examples=500, metrics=True),
            "perplexity": evaluator("perplexity", examples=1000),
            **recipe.scored(size == "full"),
        },
    }
    if size == "ablations":
        entries = {name: Entry(settings=settings) for name, settings in ABLATIONS.items()}
        return recipe.comparison(entries=entries, seeds=(0, 1, 2), **shared)
    return recipe.of_size(size, probe=many, **shared)
