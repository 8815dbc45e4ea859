"""MDC on collages: two or three cut-outs of real pictures on a background, and true sentences about them.

    python -m mdc_jax.data.prepare.pictures --source=tuxpaint,openclipart,emoji --out=data/drawings --workers=2
    python -m mdc_jax.main --config=configs/collage.py --workdir=runs/collage

Hardware: 2 CPU cores. Run time: twenty minutes (the first command: 6). Expected: a probe of the kinds of things at .81
AUC (untrained encoder .71; autoregressive .90, CLIP .92), count .71, three in ten captions right; relations are not
learned. The table: configs/results.

Arguments, as in configs/collage.py:seed=1
    objective     masked_diffusion | masked_lm | parallel | autoregressive | cappa | clip | siglip | supervised
    data          the folder that the first command made (data/drawings)
    layout        grid | free (continuous positions: not learned within an hour on a CPU)
    titles        of each kind and number of words, those of most pictures (4); 0: all, which is not learned in an hour
    sentences     per caption: 2, 3, 4 (2)
    steps         length of the run (10000)
    seed          of initialisation, masks and data order (0)
    permuted      a control: every image gets another image's caption, afresh every epoch
    runlocal      seconds instead of minutes, on fake data: checks that everything works
"""

import ml_collections

from mdc_jax.config import applicable, defaults, evaluator, parse_argument, recipe


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    arg = parse_argument(
        argument,
        objective="masked_diffusion",
        data="data/drawings",
        layout="grid",
        titles=4,
        sentences=2,
        steps=10_000,
        seed=0,
        permuted=False,
        runlocal=False,
    )
    grid, few = arg.layout == "grid", 0 < arg.titles <= 8
    size = 72 if grid else 64
    collages = f"size={size},layout={arg.layout},titles={arg.titles},sentences={arg.sentences}"

    def probe(**settings: object) -> dict[str, object]:
        return evaluator(
            "linear_probe",
            train_examples=4000,
            validation_examples=1000,
            test_examples=2000,
            read_factor=3,  # a direction is clear in few collages
            batch_size=250,
            **settings,
        )

    config = defaults(
        arg.objective,
        evaluators={
            "held_out": evaluator("held_out_loss", every="1000 steps", examples=1000),
            "probe": probe(),
            # Of things that training never showed.
            "probe_of_unseen": probe(test=f"collage:{arg.data}:test,{collages}"),
            "captions": evaluator("captioning", examples=1000),
        },
    )
    recipe.small(config)
    config.seed = arg.seed
    config.duration = f"{arg.steps} steps"

    # The held-out splits of the cut-outs are of other titles; these show the same things in new compositions.
    for number, split in enumerate(("train", "validation", "test")):
        config.data[split] = f"collage:{arg.data}:train,{collages}" + (f",seed={number}" if number else "")
    config.data.batch_size = 32
    config.data.max_tokens = (16 if few else 32) * arg.sentences  # of few titles most words are tokens of their own
    config.data.permute_captions = arg.permuted
    config.tokenizer.algorithm = "bpe"
    config.tokenizer.vocab_size = 1000 if few else 2000
    config.tokenizer.train_captions = 20_000

    config.image.size = size
    encoder, decoder = config.model.encoder, config.model.decoder
    if grid:
        encoder.patch, encoder.depth = 24, 2  # a patch for a cell
    # The decoder has to read positions off the tokens; see configs/scenes.py, also for the interval.
    encoder.patch_norm, encoder.position_std = True, 0.7
    decoder.mlp_dim = 256
    decoder.embedding_std = 0.5
    if arg.objective == "masked_diffusion":
        config.objective.interval = (0.2, 1.0)

    config.optimizer.lr = 1.5e-3
    config.optimizer.warmup = f"{max(arg.steps // 20, 1)} steps"
    config.checkpoint.every = "1000 steps"
    config.log.every = "100 steps"
    return applicable(recipe.small_local(config, words=15) if arg.runlocal else config)
