"""What configs share; each says what differs."""

import ml_collections

from mdc_jax.config import sections
from mdc_jax.config.errors import require
from mdc_jax.config.parse import defaults, evaluator


def web(objective: str, *, variant: str, data: str, seed: int) -> ml_collections.ConfigDict:
    """For image-text pairs of the web: a complete config but for its duration.

    Sizes, image size, caption length, learning rate and clipping are CapPa's (arXiv 2306.07915) where nothing else is
    said. AdamW in place of its Adafactor, batch size, b2, weight decay and warm-up are our choice, as is common for
    runs of some million pairs.

    Args:
      objective: its name.
      variant: of the encoder, as in "B/16"; the decoder has half its depth.
      data: folder with the folders train, validation and test of a prepare command.
      seed: of initialisation, masks and data order.
    """
    config = defaults(
        objective,
        evaluators={
            "held_out": evaluator("held_out_loss", every="4000 steps", examples=10_000, batch_size=1024),
            "captions": evaluator("captioning", examples=1024, batch_size=256, metrics=True),
        },
    )
    config.seed = seed
    for split in ("train", "validation", "test"):
        config.data[split] = f"array_record:{data}/{split}"
    config.data.batch_size = 2048
    config.data.max_tokens = 64
    config.data.threads = 16
    config.data.prefetch = 16
    config.tokenizer.vocab_size = 32_000
    config.image.size = 224
    config.image.resize = "resize"

    config.model.encoder.variant = variant
    # Trains the null image, which guidance and scores without an image need; the share is our choice.
    if "null_image_rate" in config.objective:
        config.objective.null_image_rate = 0.05

    config.optimizer.lr = 1e-3
    config.optimizer.b2 = 0.95
    config.optimizer.weight_decay = 0.1
    config.optimizer.warmup = "2000 steps"
    config.checkpoint.every = "2000 steps"
    config.log.every = "50 steps"
    return config


def web_local(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """`web` on a CPU within a minute: a small model, small batches, fake data of the right shapes."""
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
    config.optimizer.warmup = "2 steps"
    config.log.every = "1 steps"
    config.checkpoint.every = config.evaluators.held_out.every = "3 steps"
    config.evaluators.held_out.examples = config.evaluators.captions.examples = 16
    config.evaluators.held_out.batch_size = config.evaluators.captions.batch_size = 8
    config.evaluators.captions.picture, config.evaluators.captions.metrics = 4, False
    return config


def small(config: ml_collections.ConfigDict) -> None:
    """A ViT for images of 64 pixels that learns within an hour on a CPU, with a thin decoder and its optimizer."""
    config.image.size = 64
    encoder, decoder = config.model.encoder, config.model.decoder
    encoder.patch, encoder.width, encoder.depth, encoder.heads, encoder.mlp_dim = 8, 128, 4, 4, 512
    decoder.depth = 2
    config.model.scan = "off"
    config.optimizer.lr = 1e-3
    config.optimizer.b2 = 0.99


def small_local(config: ml_collections.ConfigDict, *, words: int) -> ml_collections.ConfigDict:
    """`small` within seconds, on fake data with captions of so many words: checks that everything works."""
    for split in ("train", "validation", "test"):
        config.data[split] = f"fake:{split},size=64,words={words}"
    config.duration = "20 steps"
    config.data.batch_size = 8
    config.tokenizer.vocab_size = 300
    config.tokenizer.train_captions = 200
    encoder = config.model.encoder
    encoder.width, encoder.depth, encoder.mlp_dim = 32, 2, 64
    config.optimizer.warmup = "5 steps"
    config.log.every = config.checkpoint.every = config.evaluators.held_out.every = "10 steps"
    for entry in config.evaluators.values():
        if entry.type == sections.LinearProbe.type:
            entry.update(train_examples=64, untrained_seeds=1, families=(), train="", validation="", test="")
        else:
            entry.update(examples=32, split="validation" if ":" in entry.split else entry.split)
            if entry.type == sections.Captioning.type:
                entry.metrics = False  # which start Java
    return config


def recap(config: ml_collections.ConfigDict, *, subset: str, original: float) -> None:
    """Chooses the pairs of Recap-DataComp-1B and their captions.

    Args:
      config: its training data is changed.
      subset: number of pairs, as in "10M"; smaller subsets are contained in larger ones. "": all.
      original: share of the captions that are the page's own text instead of the model's.

    Raises:
      ConfigError: the share is not one.
    """
    require(0 <= original <= 1, "original", original, "must be a share of the captions, 0 to 1")
    if subset:
        config.data.train = f"subset:{subset}:{config.data.train}"
    if original:
        shares = {"re_caption": 1 - original, "org_caption": original}
        columns = ",".join(f"{name}={share:g}" for name, share in shares.items() if share)
        config.data.train = f"columns:{columns}:{config.data.train}"
