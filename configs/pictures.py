"""MDC on real pictures: the stamps of Tux Paint with their captions (868 pairs).

    python -m mdc_jax.data.prepare.pictures --out=data/pictures
    python -m mdc_jax.main --config=configs/pictures.py --workdir=runs/pictures

Hardware: a CPU core or two. Run time: some minutes. Expected: -4.8 nats a token of test captions, and a probe of the
folders at .46 (untrained encoder .37, told the labels .48; 98 pictures). Numbers: configs/results.

Arguments, as in configs/pictures.py:data=/path/to/pictures
    objective     masked_diffusion | masked_lm | parallel | autoregressive | cappa | clip | siglip | supervised
    data          the folder that the first command made (data/pictures)
    crop          the smallest share of a picture that a random crop keeps (.6); 1 for other pictures than these, whose
                  captions a crop can make false: below 1 it is made without asking
    steps         length of the run (600)
    seed          of initialisation, masks and data order (0)
    runlocal      seconds instead of minutes, on fake data: checks that everything works
"""

import ml_collections

from mdc_jax.config import applicable, defaults, evaluator, parse_argument, recipe


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    arg = parse_argument(
        argument, objective="masked_diffusion", data="data/pictures", crop=0.6, steps=600, seed=0, runlocal=False
    )
    config = defaults(
        arg.objective,
        evaluators={
            "held_out": evaluator("held_out_loss", every="100 steps", examples=200),
            "test": evaluator("held_out_loss", every="end", split="test", examples=200),
            "perplexity": evaluator("perplexity", examples=200),
            "probe": evaluator(
                "linear_probe",
                train_examples=700,
                validation_examples=200,
                test_examples=200,
            ),
            "captions": evaluator("captioning", examples=200, metrics=True),
        },
    )
    recipe.small(config)
    config.seed = arg.seed
    config.duration = f"{arg.steps} steps"

    config.data.train = f"pictures:{arg.data}:train"
    config.data.validation = f"pictures:{arg.data}:validation"
    config.data.test = f"pictures:{arg.data}:test"
    config.data.batch_size = 32
    config.data.max_tokens = 24
    config.tokenizer.vocab_size = 1000
    # Some titles count things or name a second one that a crop can lose. But most name one thing that fills its
    # picture, and without crops 620 pictures are learned by heart.
    config.image.random_crop = arg.crop
    config.image.unsafe_augmentation = arg.crop < 1

    config.optimizer.warmup = "60 steps"
    config.checkpoint.every = "100 steps"
    config.log.every = "20 steps"
    return applicable(recipe.small_local(config, words=5) if arg.runlocal else config)
