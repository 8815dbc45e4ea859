"""CapPa with ViT-B/16, by the recipe that its authors' code has (arXiv 2306.07915, big_vision).

    python -m mdc_jax.main --config=configs/cappa.py --workdir=gs://BUCKET/runs/cappa

Hardware: meant for a TPU pod slice: three billion examples. Run time and result: not run at this scale. The argument
runlocal runs it in a minute on a CPU, with fake data of the right shapes.

Data: the authors' pairs, WebLI, are not public; any pairs do, as those of configs/vitb_recap.py.

What differs from the authors': the tokenizer is trained on the captions, embeddings start at a standard deviation of
.02 instead of 1, and Adafactor factors kernels of attention as one matrix instead of head by head.

Arguments, as in configs/cappa.py:objective=autoregressive,runlocal
    objective     masked_diffusion | masked_lm | parallel | autoregressive | cappa | clip | siglip
    data          folder of the splits (data/recap)
    seed          of initialisation, masks and data order (0)
    runlocal      a small model, a small batch, fake data
"""

import ml_collections

from mdc_jax.config import applicable, parse_argument, recipe


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    arg = parse_argument(argument, objective="cappa", data="data/recap", seed=0, runlocal=False)
    config = recipe.web(arg.objective, variant="B/16", data=arg.data, seed=arg.seed)
    config.duration = "366500 steps"
    config.data.batch_size = 8192
    config.model.dtype = "float32"
    if "null_image_rate" in config.objective:
        config.objective.null_image_rate = 0.0

    config.optimizer.name = "adafactor"
    config.optimizer.lr = 1e-3
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999
    config.optimizer.weight_decay = 1e-4
    config.optimizer.clip_norm = 1.0
    config.optimizer.warmup = "10000 steps"
    config.checkpoint.every = "1000 steps"
    return applicable(recipe.web_local(config) if arg.runlocal else config)
