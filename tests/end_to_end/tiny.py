"""A run of seconds for the tests: scenes of 32 pixels, a model of some thousand parameters, random crops on."""

import ml_collections

from mdc_jax.config import defaults, evaluator


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    config = defaults(evaluators={"held_out": evaluator("held_out_loss", every="end", examples=16, batch_size=8)})
    config.duration = "200 steps"
    config.image.size = 32
    config.image.random_crop = 0.7
    config.image.unsafe_augmentation = True  # crops cut objects away
    config.data.train = "scenes:train,size=32"
    config.data.validation = "scenes:validation,size=32"
    config.data.test = "scenes:test,size=32"
    config.data.batch_size = 8
    config.data.max_tokens = 24
    config.tokenizer.vocab_size = 128
    config.tokenizer.byte_fallback = False
    config.tokenizer.train_captions = 500
    config.model.encoder.variant = "Ti/8"
    config.model.encoder.update({"width": 32, "depth": 1, "heads": 2, "mlp_dim": 64})
    config.model.decoder.depth = 1
    config.optimizer.warmup = "20 steps"
    config.checkpoint.every = "40 steps"
    config.log.every = "1 steps"
    config.log.tensorboard = False
    return config
