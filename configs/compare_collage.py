"""Objectives compared on collages: cut-outs of real pictures with true sentences.

    python -m mdc_jax.data.prepare.pictures --source=tuxpaint,openclipart,emoji --out=data/drawings --workers=2
    python -m mdc_jax.compare --config=configs/compare_collage.py:quick --workdir=runs/collage_quick

The same command goes on where it was stopped; --only=1/3 does a part of the entries. See mdc_jax/comparison/README.md.

Hardware: 2 CPU cores for quick (an hour and a quarter on one) and cpu (two; configs/results); full is meant for a GPU
and was not run: its 25 runs and 42 that tune, of 20,000 steps, are about 50 hours of one core at the speed of cpu.

Sizes, one of them, as in configs/compare_collage.py:full
    quick         masked diffusion, autoregressive, CLIP; one seed, no controls, no tuning (default)
    cpu           the same with permuted captions and an encoder that is told the labels
    full          seven objectives, three seeds, controls, learning rates tuned

Other arguments
    data          the folder that the first command made (data/drawings)
    layout        grid | free
    titles        of each kind and number of words, those of most pictures (4); 0: all
    sentences     per caption: 2, 3, 4 (2)
    steps         of the first entry (10000; full 20000)
    equal         steps | flops | seconds: what the entries have in equal amounts
"""

import ml_collections

from mdc_jax.comparison import recipe
from mdc_jax.config import evaluator, parse_argument

SIZES = ("quick", "cpu", "full")


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    arg = parse_argument(
        argument,
        **dict.fromkeys(SIZES, False),
        data="data/drawings",
        layout="grid",
        titles=4,
        sentences=2,
        steps=0,
        equal="steps",
    )
    size = recipe.size_of(arg, SIZES)
    full = size == "full"
    steps = arg.steps or (20_000 if full else 10_000)
    few, many = {"train_examples": 2000, "test_examples": 1000}, {"train_examples": 4000, "test_examples": 2000}
    return recipe.of_size(
        size,
        base="configs/collage.py:" + ",".join(f"{key}={arg[key]}" for key in ("data", "layout", "titles", "sentences")),
        steps=steps,
        equal=arg.equal,
        probe=many,
        evaluators={
            "held_out": evaluator("held_out_loss", every=recipe.every(steps, 6), examples=1000),
            "curve": recipe.curve(steps, **few),
            # A direction is clear in few collages.
            "probe": recipe.probe(**many, read_factor=3, batch_size=250, untrained_seeds=1 if size == "quick" else 3),
            "captions": evaluator("captioning", examples=1000),
            "perplexity": evaluator("perplexity", examples=1000),
            **recipe.scored(full),
        },
    )
