"""MDC with ViT-L/14 on subsets of Recap-DataComp-1B.

    python -m mdc_jax.main --config=configs/vitl_recap.py:subset=30M --workdir=gs://BUCKET/runs/vitl_recap

Hardware: meant for a TPU pod slice or machines of GPUs. Run time and result: not run at this scale. The argument
runlocal runs it in a minute on a CPU, with fake data of the right shapes.

Data and its commands: as configs/vitb_recap.py says. For 30M pairs at least 3,000 tars of 10,000, and about 810 GB for
the records.

Arguments, as in configs/vitl_recap.py:objective=autoregressive,subset=20M
    objective     masked_diffusion | masked_lm | parallel | autoregressive | cappa | clip | siglip
    data          folder of the splits (data/recap)
    subset        training pairs, as in 5M; a smaller subset is contained in every larger one (all)
    original      share of the captions that are the page's own (0: all are the model's)
    examples      image-text pairs seen in training (960e6: 32 epochs of 30 M pairs)
    seed          of initialisation, masks and data order (0)
    runlocal      a small model, a small batch, fake data
"""

import ml_collections

from mdc_jax.config import applicable, parse_argument, recipe


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    arg = parse_argument(
        argument,
        objective="masked_diffusion",
        data="data/recap",
        subset="",
        original=0.0,
        examples=960e6,
        seed=0,
        runlocal=False,
    )
    config = recipe.web(arg.objective, variant="L/14", data=arg.data, seed=arg.seed)
    recipe.recap(config, subset=arg.subset, original=arg.original)
    config.duration = f"{arg.examples:.0f} examples"
    config.model.remat = "on"  # activations of 24 layers are computed again, not kept
    return applicable(recipe.web_local(config) if arg.runlocal else config)
