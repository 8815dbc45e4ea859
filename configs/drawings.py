"""MDC on 10,944 real pictures with captions: Tux Paint, Open Clip Art and emoji in three styles; a fourth is held out.

    python -m mdc_jax.data.prepare.pictures --source=tuxpaint,openclipart,emoji --out=data/drawings --workers=2
    python -m mdc_jax.main --config=configs/drawings.py --workdir=runs/drawings

Hardware: a CPU core or two. Run time: 40 minutes (the first command: 6). Expected: a probe of Open Clip Art folders at
.33 (untrained encoder .29), of emoji groups at .75 (.71), and -3.9 nats a token of test captions. See configs/results.

Arguments, as in configs/drawings.py:data=/path/to/drawings
    objective     masked_diffusion | masked_lm | parallel | autoregressive | cappa | clip | siglip | supervised
    data          the folder that the first command made (data/drawings)
    steps         length of the run (6000)
    seed          of initialisation, masks and data order (0)
    permuted      a control: every image gets another image's caption, afresh every epoch
    runlocal      seconds instead of an hour, on fake data: checks that everything works
"""

import ml_collections

from mdc_jax.config import applicable, defaults, evaluator, parse_argument, recipe


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    arg = parse_argument(
        argument,
        objective="masked_diffusion",
        data="data/drawings",
        steps=6000,
        seed=0,
        permuted=False,
        runlocal=False,
    )

    def probe(**settings: object) -> dict[str, object]:
        return evaluator(
            "linear_probe",
            train_examples=8000,
            validation_examples=2000,
            test_examples=2000,
            **settings,
        )

    config = defaults(
        arg.objective,
        evaluators={
            "held_out": evaluator("held_out_loss", every="500 steps", examples=1000),
            "test": evaluator("held_out_loss", every="end", split="test"),
            "perplexity": evaluator("perplexity"),
            "probe": probe(families=("openclipart_folder", "emoji_group")),
            # Other concepts than in training, in a style that is not in training either.
            "probe_unseen_style": probe(families=("emoji_group",), test=f"pictures:{arg.data}:style"),
            "captions": evaluator("captioning", examples=500, metrics=True),
        },
    )
    recipe.small(config)
    config.seed = arg.seed
    config.duration = f"{arg.steps} steps"

    for split in ("train", "validation", "test"):
        config.data[split] = f"pictures:{arg.data}:{split}"
    config.data.batch_size = 32
    config.data.max_tokens = 24
    config.data.permute_captions = arg.permuted
    config.tokenizer.vocab_size = 2000
    # Most captions name one thing that fills its picture; without crops the pictures are learned by heart.
    config.image.random_crop = 0.5
    config.image.unsafe_augmentation = True

    config.model.decoder.mlp_dim = 256
    config.optimizer.warmup = f"{max(arg.steps // 20, 1)} steps"
    config.checkpoint.every = "500 steps"
    config.log.every = "100 steps"
    return applicable(recipe.small_local(config, words=5) if arg.runlocal else config)
