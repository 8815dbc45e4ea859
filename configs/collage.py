"""MDC on collages: two or three cut-outs of real pictures on a background, and true sentences about them.

    python -m mdc_jax.data.prepare.pictures --source=tuxpaint,openclipart,emoji --out=data/drawings --workers=2
    python -m mdc_jax.main --config=configs/collage.py --workdir=runs/collage

Hardware: 2 CPU cores. Run time: about an hour (the first command: 6 minutes). Expected: not that it sees. After 5,000
steps the decoder has learned the grammar alone, and probes find no more than in an untrained encoder (README): this
data set takes a GPU, or a better idea.

Arguments, as in configs/collage.py:seed=1
    objective     masked_diffusion | masked_lm | parallel | autoregressive | cappa | clip | siglip | supervised
    data          the folder that the first command made (data/drawings)
    sentences     per caption: 2, 3, 4 (2)
    steps         length of the run (8000)
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
        sentences=2,
        steps=8000,
        seed=0,
        permuted=False,
        runlocal=False,
    )
    collages = f"size=64,sentences={arg.sentences}"
    # The held-out splits show other cut-outs than training; this one shows the same in new compositions.
    familiar = f"collage:{arg.data}:train,{collages},seed=1"
    config = defaults(
        arg.objective,
        evaluators={
            "held_out": evaluator("held_out_loss", every="500 steps", examples=1000, split=familiar),
            "probe": evaluator(
                "linear_probe",
                train_examples=4000,
                validation_examples=1000,
                test_examples=2000,
                read_factor=3,  # a direction is clear in few collages
                untrained_seeds=3,
            ),
            "captions": evaluator("captioning", examples=1000, split=familiar),
            "captions_of_unseen": evaluator("captioning", examples=1000),
        },
    )
    recipe.small(config)
    config.seed = arg.seed
    config.duration = f"{arg.steps} steps"

    for split in ("train", "validation", "test"):
        config.data[split] = f"collage:{arg.data}:{split},{collages}"
    config.data.batch_size = 32
    config.data.max_tokens = 32 * arg.sentences
    config.data.permute_captions = arg.permuted
    config.tokenizer.algorithm = "bpe"
    config.tokenizer.vocab_size = 2000
    config.tokenizer.train_captions = 20_000

    encoder, decoder = config.model.encoder, config.model.decoder
    encoder.position_std = 1.5  # the decoder has to read positions off the tokens
    decoder.mlp_dim = 256
    decoder.embedding_std = 0.5

    config.optimizer.warmup = f"{max(arg.steps // 20, 1)} steps"
    config.checkpoint.every = "500 steps"
    config.log.every = "100 steps"
    return applicable(recipe.small_local(config, words=15) if arg.runlocal else config)
