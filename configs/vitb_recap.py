"""MDC with ViT-B/16 on Recap-DataComp-1B, with CapPa's sizes and schedule.

    python -m mdc_jax.main --config=configs/vitb_recap.py:data=/data/recap --workdir=gs://BUCKET/runs/vitb_recap

Hardware: meant for a TPU pod slice or a machine of GPUs. Run time and result: not run at this scale.
The argument runlocal runs it in a minute on a CPU, with fake data of the right shapes.

Data: ArrayRecord shards named train-*, validation-* and test-* in the folder `data`, on a disk that every host
sees (see mdc_jax/data/README.md). Checkpoints and logs may go to a bucket.

Arguments, as in configs/vitb_recap.py:objective=autoregressive,runlocal
    objective     masked_diffusion | autoregressive
    data          folder of the shards (data/recap)
    examples      image-text pairs seen in training (320e6: 32 epochs of 10 M pairs)
    seed          of initialisation, masks and data order (0)
    runlocal      a small model, a small batch, fake data
"""

import ml_collections

from mdc_jax.config import defaults, evaluator, parse_argument


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    arg = parse_argument(
        argument, objective="masked_diffusion", data="data/recap", examples=320e6, seed=0, runlocal=False
    )
    config = defaults(
        arg.objective,
        evaluators={
            "held_out": evaluator("held_out_loss", every="4000 steps", examples=10_000, batch_size=1024),
            "captions": evaluator("captioning", examples=1024, batch_size=256),
        },
    )
    config.seed = arg.seed
    config.duration = f"{arg.examples:.0f} examples"

    for split in ("train", "validation", "test"):
        config.data[split] = f"array_record:{arg.data}/{split}-*.arrayrecord"
    config.data.batch_size = 2048
    config.data.max_tokens = 64
    config.data.threads = 16
    config.data.prefetch = 16
    config.tokenizer.vocab_size = 32_000
    config.image.size = 224
    config.image.resize = "resize"

    config.model.encoder.variant = "B/16"
    config.model.decoder.depth = 6
    config.model.dtype = "bfloat16"
    config.model.remat = False

    config.optimizer.lr = 1e-3
    config.optimizer.b2 = 0.95
    config.optimizer.weight_decay = 0.1
    config.optimizer.warmup = "2000 steps"
    config.checkpoint.every = "2000 steps"
    config.log.every = "50 steps"

    if arg.runlocal:
        for split in ("train", "validation", "test"):
            config.data[split] = f"fake:{split},size=256,words=25"
        config.duration = "6 steps"
        config.data.batch_size = 8
        config.data.threads = config.data.prefetch = 2
        config.tokenizer.vocab_size = 400
        config.tokenizer.train_captions = 200
        config.model.encoder.variant = "Ti/16"
        config.model.encoder.depth = 2
        config.model.decoder.depth = 1
        config.model.dtype = "float32"  # faster than bfloat16 on a CPU
        config.optimizer.warmup = "2 steps"
        config.log.every = "1 steps"
        config.checkpoint.every = config.evaluators.held_out.every = "3 steps"
        config.evaluators.held_out.examples = config.evaluators.captions.examples = 16
        config.evaluators.held_out.batch_size = config.evaluators.captions.batch_size = 8
        config.evaluators.captions.picture = 4
    return config
