"""Every setting of a run: one frozen dataclass per section.

This file is the reference of what can be configured. A config file in
`configs/` starts from `mdc_jax.config.defaults(...)` and assigns what differs;
`mdc_jax.config.parse` turns the result into `Config` and explains what is
wrong with it. Durations are text: "9000 steps", "20 epochs", "1e6 examples"; a
bare number counts steps.
"""

import dataclasses
import typing
from collections.abc import Mapping


def choice(default: object, choices: tuple[str, ...]) -> object:
    """A field that takes one of `choices`."""
    return dataclasses.field(default=default, metadata={"choices": choices})


@dataclasses.dataclass(frozen=True)
class Image:
    """What the encoder sees; stored with every checkpoint and used by every evaluation."""

    size: int = 224  # pixels, square
    mean: tuple[float, ...] = (127.5, 127.5, 127.5)  # (pixel - mean) / std, on the device
    std: tuple[float, ...] = (127.5, 127.5, 127.5)
    # `resize` squashes to the square (CapPa's), `crop` keeps the aspect ratio and cuts the centre.
    resize: str = choice("resize", ("resize", "crop"))
    # Augmentations of training, see `mdc_jax/data/caption_safety.py`: none is on by default, nor in CapPa.
    random_crop: float = 1.0  # the smallest share of the area that a crop keeps; 1: no crop
    flip: bool = False  # half of the images are mirrored
    color_jitter: float = 0.0  # brightness, contrast and saturation change by up to this share; 0: not at all
    unsafe_augmentation: bool = False  # also what can make captions of the training data false


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    model: str = ""  # a SentencePiece model or a tokenizer.json; empty: train one on the training captions
    algorithm: str = choice("unigram", ("unigram", "bpe"))  # bpe keeps words whole where there are few of them
    vocab_size: int = 32_000
    lower_case: bool = True
    byte_fallback: bool = True
    train_captions: int = 1_000_000  # captions read to train the model


@dataclasses.dataclass(frozen=True)
class Data:
    """Sources are short specs, as in "scenes:train" or "pictures:DIR:train"; see `mdc_jax/data/README.md`."""

    train: str = ""
    validation: str = ""  # chooses: the probe's L2, the best checkpoint
    test: str = ""  # is read once
    batch_size: int = 256  # over all hosts
    max_tokens: int = 64  # caption length in tokens, EOS included; longer captions keep their first ones and EOS
    # Lengths in tokens, up to max_tokens: captions of similar length share a batch, which is only as long as its bucket
    # and so tells the decoder part of the length, see `mdc_jax/data/README.md`. (): every batch has max_tokens.
    buckets: tuple[int, ...] = ()
    captions_per_image: int = 1  # C of the batch contract
    threads: int = 2  # that make batches
    readers: int = 0  # records read at once; 0: as many as keep the threads busy, measured on the first ones
    prefetch: int = 4  # batches
    permute_captions: bool = False  # a control: every image gets another image's caption, afresh every epoch
    repeat_batch: bool = False  # a diagnosis: the first batch again and again
    max_bad_share: float = 0.01  # of records that cannot be used, above which the run stops


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A ViT. `variant` ("Ti/16", "S/16", "B/16", "L/14" ...) fills every size left at 0."""

    variant: str = "B/16"
    patch: int = 0
    width: int = 0
    depth: int = 0
    heads: int = 0
    mlp_dim: int = 0
    position: str = choice("learned", ("learned", "sincos2d"))
    position_std: float = 0.02  # initial std when learned, amplitude when sincos2d
    patch_norm: bool = False  # LayerNorm after the patch embedding, before positions are added
    class_token: bool = False
    gelu: str = choice("tanh", ("tanh", "exact"))
    layer_norm_epsilon: float = 1e-6
    token_keep: float = 1.0  # share of the patches that training encodes, chosen at random (FLIP, arXiv 2212.00794)


@dataclasses.dataclass(frozen=True)
class Decoder:
    """The text decoder; every size left at 0 is the encoder's (depth: half the encoder's)."""

    width: int = 0
    depth: int = 0
    heads: int = 0
    mlp_dim: int = 0
    embedding_std: float = 0.02  # initial std of token and position embeddings
    memory_keep: float = 1.0  # share of the encoder's tokens that it sees in training (OpenVision 2, arXiv 2509.01644)


@dataclasses.dataclass(frozen=True)
class TextEncoder:
    """The text tower of contrastive objectives; every size left at 0 is the decoder's."""

    width: int = 0
    depth: int = 0
    heads: int = 0
    mlp_dim: int = 0
    embedding_std: float = 0.02


@dataclasses.dataclass(frozen=True)
class Model:
    encoder: Encoder = Encoder()
    decoder: Decoder = Decoder()
    text_encoder: TextEncoder = TextEncoder()
    # Of the computation; parameters are float32. `auto`: bfloat16 on TPUs and on GPUs that have it, NVIDIA's since
    # Ampere, else float32. These multiply float32 less exactly too, unless JAX_DEFAULT_MATMUL_PRECISION=highest.
    dtype: str = choice("auto", ("auto", "float32", "bfloat16"))
    # A loop over layers: compiles faster than layers one after the other, for the same parameters. `auto`: but on GPUs,
    # where it made a step half as long again while it kept more than it does now.
    scan: str = choice("auto", ("auto", "on", "off"))
    # Computes whole layers again in the backward pass instead of keeping their activations. `auto`: where a step would
    # not fit without. A loop keeps what attention and the products with kernels give, and computes the rest again.
    remat: str = choice("auto", ("auto", "on", "off"))


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How captions are written, see `mdc_jax/decoding`; `decoding.py` beside this file says what goes together."""

    temperature: float = 0.0  # of the draw of a token; 0: the likeliest
    top_p: float = 1.0  # draws only among the likeliest tokens that have this share together (arXiv 1904.09751)
    guidance: float = 0.0  # w of u + (1 + w) (c - u), c with and u without the image (arXiv 2207.12598)
    beams: int = 1  # captions that are pursued at once, from left to right
    # Of masked decoding. Positions are revealed one at a time, or in `steps` equal parts, or as many as are safe. In
    # `random` order, one at a time and at temperature 1, captions are exact draws of the model.
    steps: int = 0  # 0: one token a step
    order: str = choice("confidence", ("confidence", "margin", "entropy", "random"))
    threshold: float = 0.0  # reveals all above this confidence, at least the best one (arXiv 2505.22618); 0: off
    entropy_bound: float = 0.0  # reveals as many as bound their joint error, in nats (arXiv 2505.24857); 0: off
    remask: float = 0.0  # share of the tokens that a step masks again (arXiv 2503.00307); 0: none
    # Where the caption ends: by the model's own law, as often as in training captions, or where the image's own does.
    length: str = choice("model", ("model", "training", "caption"))


# The settings of `Decoding` that masked and left-to-right decoding can use.
_MASKED = ("temperature", "top_p", "guidance", "steps", "order", "threshold", "entropy_bound", "remask", "length")
_FROM_LEFT = ("temperature", "top_p", "guidance", "beams")


@dataclasses.dataclass(frozen=True)
class MaskedDiffusion:
    """Masked diffusion captioning (arXiv 2510.26799)."""

    name: str = "masked_diffusion"
    writes_captions: typing.ClassVar[bool] = True
    scores_captions: typing.ClassVar[bool] = True
    decoding: typing.ClassVar[tuple[str, ...]] = _MASKED
    # Named by formula: t, 1 - cos(pi t / 2), sin(pi t / 2), t^2.
    schedule: str = choice("linear", ("linear", "one_minus_cosine", "sine", "quadratic"))
    interval: tuple[float, float] = (0.5, 1.0)  # of masking ratios, whatever the schedule
    masks: str = choice("size_biased", ("size_biased", "bernoulli", "stratified"))
    masks_per_caption: int = 1  # K: the encoder is paid once for all of them
    padding: str = choice("hidden", ("hidden", "target", "known"))
    mask_eos: bool = True  # False: EOS is always visible, and with it the length
    mask_words: bool = False  # the pieces of a word are masked together; the tokenizer says where words start
    # Share of examples that see the learned null memory instead of the image; 1: a decoder trained without images.
    null_image_rate: float = 0.0


@dataclasses.dataclass(frozen=True)
class MaskedLM:
    """Masked language modelling at one ratio: masked diffusion on [ratio, ratio], with the same masks and weights."""

    name: str = "masked_lm"
    writes_captions: typing.ClassVar[bool] = True
    scores_captions: typing.ClassVar[bool] = True
    decoding: typing.ClassVar[tuple[str, ...]] = _MASKED
    ratio: float = 0.15  # BERT's (arXiv 1810.04805)
    # Tokens are masked one by one, not an exact share: captions of four tokens have no 15%. `size_biased` always masks
    # one, so that 15% is on average .22 of 12 tokens, .18 of 25; `bernoulli` is as BERT's. Their expected loss is one.
    masks: str = choice("size_biased", ("size_biased", "bernoulli"))
    masks_per_caption: int = 1
    padding: str = choice("hidden", ("hidden", "target", "known"))
    null_image_rate: float = 0.0


@dataclasses.dataclass(frozen=True)
class Parallel:
    """All words at once from the image alone (Pa of arXiv 2306.07915): masked diffusion on [1, 1], length hidden."""

    name: str = "parallel"
    writes_captions: typing.ClassVar[bool] = True
    scores_captions: typing.ClassVar[bool] = True
    decoding: typing.ClassVar[tuple[str, ...]] = ("temperature", "top_p", "guidance", "length")
    null_image_rate: float = 0.0


@dataclasses.dataclass(frozen=True)
class Autoregressive:
    """Left-to-right captioning (Cap of arXiv 2306.07915)."""

    name: str = "autoregressive"
    writes_captions: typing.ClassVar[bool] = True
    scores_captions: typing.ClassVar[bool] = True
    decoding: typing.ClassVar[tuple[str, ...]] = _FROM_LEFT
    # right_to_left: the last word first, EOS last: what depends on the place of a word depends on it the other way.
    order: str = choice("left_to_right", ("left_to_right", "right_to_left"))
    null_image_rate: float = 0.0


@dataclasses.dataclass(frozen=True)
class CapPa:
    """Each example in parallel or from left to right (arXiv 2306.07915)."""

    name: str = "cappa"
    writes_captions: typing.ClassVar[bool] = True
    scores_captions: typing.ClassVar[bool] = True
    decoding: typing.ClassVar[tuple[str, ...]] = _FROM_LEFT
    parallel_share: float = 0.75  # of the examples
    null_image_rate: float = 0.0


# Of captions that several images of a batch have: true of each, so no real negatives. To the softmax of CLIP, which
# compares texts that are equal, `positive` is `left`: the loss and its gradient are the same.
_DUPLICATES = ("left", "masked", "positive")


@dataclasses.dataclass(frozen=True)
class Clip:
    """Softmax loss over all pairs of the global batch (arXiv 2103.00020)."""

    name: str = "clip"
    writes_captions: typing.ClassVar[bool] = False
    scores_captions: typing.ClassVar[bool] = True
    decoding: typing.ClassVar[tuple[str, ...]] = ()
    duplicates: str = choice("left", _DUPLICATES)


@dataclasses.dataclass(frozen=True)
class SigLip:
    """Sigmoid loss over all pairs of the global batch (arXiv 2303.15343)."""

    name: str = "siglip"
    writes_captions: typing.ClassVar[bool] = False
    scores_captions: typing.ClassVar[bool] = True
    decoding: typing.ClassVar[tuple[str, ...]] = ()
    duplicates: str = choice("left", _DUPLICATES)


@dataclasses.dataclass(frozen=True)
class Supervised:
    """The labels of the training source instead of captions: the ceiling of what probes find."""

    name: str = "supervised"
    writes_captions: typing.ClassVar[bool] = False
    scores_captions: typing.ClassVar[bool] = False
    decoding: typing.ClassVar[tuple[str, ...]] = ()
    # Label families by name, kind ("presence" or "class"), number of names, and whether they are bound; (): all of
    # data.train.
    families: tuple[tuple[str, str, int, bool], ...] = ()


@dataclasses.dataclass(frozen=True)
class ImageEncoder:
    """What a released encoder has for an objective: none, so it is no choice for a run."""

    name: str = "image_encoder"
    writes_captions: typing.ClassVar[bool] = False
    scores_captions: typing.ClassVar[bool] = False
    decoding: typing.ClassVar[tuple[str, ...]] = ()


# The names of the objectives, which stand nowhere else.
Objective = MaskedDiffusion | MaskedLM | Parallel | Autoregressive | CapPa | Clip | SigLip | Supervised
OBJECTIVES: Mapping[str, type] = {section.name: section for section in typing.get_args(Objective)}


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """Linear warm-up and cosine decay to 0; weight decay on kernels only."""

    # `adafactor` is the variant that CapPa was trained with (arXiv 2106.04560, section 3.4).
    name: str = choice("adamw", ("adamw", "adafactor"))
    lr: float = 1e-3
    b1: float = 0.9
    b2: float = 0.999  # adafactor: the cap that 1 - step^-0.8 rises to
    # Multiplied by the learning rate (adamw), or by the schedule alone, which ends its warm-up at 1 (adafactor, where
    # it is a thousandth of what it is there).
    weight_decay: float = 0.1
    clip_norm: float = 1.0  # of the gradient; 0: none
    warmup: str = "10000 steps"
    accumulation: int = 1  # micro-batches per step; the loss and its gradient do not depend on it
    ema: float = 0.0  # decay of the averaged parameters that evaluation uses; 0: none
    # (pattern, factor) of learning rates, as in (("^encoder/", 0.0), ("decoder/.*norm", 0.1)): a parameter takes the
    # first pattern that is in its name, see `mdc_jax.describe`. 0 freezes; weight decay is multiplied too.
    lr_multipliers: tuple[tuple[str, float], ...] = ()


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Device mesh; one axis may be -1 and takes what is left. The batch is split over data x fsdp."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    every: str = "1000 steps"
    keep_latest: int = 2
    keep_best: int = 1
    best_metric: str = "held_out/loss"  # smaller is better


@dataclasses.dataclass(frozen=True)
class Log:
    every: str = "50 steps"
    tensorboard: bool = True
    wandb: str = ""  # project at Weights & Biases, which needs its package; empty: none
    # Seconds without a finished step, evaluation left out, after which the stacks of all threads are printed; 0: never.
    watchdog: float = 600.0
    profile: str = ""  # steps to trace into WORKDIR/profile, as in "10:15"; empty: none


@dataclasses.dataclass(frozen=True)
class HeldOutLoss:
    """The training loss on the validation split."""

    type: str = "held_out_loss"
    every: str = "1000 steps"  # "end": only when training ends
    split: str = "validation"  # or "test", or a source spec
    examples: int = 2_000
    batch_size: int = 100  # contrastive losses depend on it: the texts that an image is held against


@dataclasses.dataclass(frozen=True)
class LinearProbe:
    """Probes of frozen features; validation chooses their settings, test is read once."""

    type: str = "linear_probe"
    every: str = "end"
    dataset: str = ""  # "cifar10", "aircraft:DIR" ...: sources of `mdc_jax/evaluators/probe_sets.py`
    train: str = ""  # source specs; empty: the run's own
    validation: str = ""
    test: str = ""
    train_examples: int = 4_000  # at most, with a label, for each family
    validation_examples: int = 1_000
    test_examples: int = 2_000
    read_factor: int = 1  # reads that many times the examples, for families whose label seldom applies
    batch_size: int = 100
    families: tuple[str, ...] = ()  # label families; empty: all that the source has
    baselines: bool = True  # rows chance, raw pixels and untrained encoder beside the trained one
    untrained_seeds: int = 3  # initialisations of the untrained encoder
    raw_size: int = 24  # raw pixels are resized to this square
    # logistic, ridge, knn, adamw, sgd, attentive (`mdc_jax/evaluators/recipes.py`); the metrics are those of the first.
    probes: tuple[str, ...] = ("logistic",)
    # Of features, see `mdc_jax/evaluators/scaling.py`; recipe: as each of the probes is known.
    scaling: str = choice("recipe", ("recipe", "raw", "standardised", "normalised"))
    l2_values: int = 0  # of logistic: so many over the whole range, from strong to weak; 0: a search by factors of ten
    layers: bool = False  # a row more: the mean of the tokens that leave a block, the best one by validation
    shots: int = 0  # training examples of each class; 0: all
    # Fit again on train + validation what validation has chosen. On a `dataset`, `logistic` and `adamw` always do, as
    # where they are from, but for few shots.
    refit: bool = False
    metric: str = choice("accuracy", ("accuracy", "mean_per_class"))  # of families of classes
    # Rows of other runs, NAME=WORKDIR each, as in
    # ("permuted captions=runs/permuted", "supervised ceiling=runs/supervised").
    compared: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Captioning:
    """Generates captions for the test split; on scenes the parser checks every claim."""

    type: str = "captioning"
    every: str = "end"
    split: str = "test"  # or "validation", or a source spec
    examples: int = 1_000
    batch_size: int = 100
    decoding: Decoding = Decoding()
    shuffled: bool = True  # also check the captions against other images
    metrics: bool = False  # BLEU, METEOR, ROUGE-L and CIDEr-D, see `mdc_jax/evaluators/caption_metrics.py`
    picture: int = 12  # images in the picture of captions with wrong claims marked


@dataclasses.dataclass(frozen=True)
class Perplexity:
    """How likely captions are, by caption and by token, and the loss by the share of tokens that is masked."""

    type: str = "perplexity"
    every: str = "end"
    split: str = "test"  # or "validation", or a source spec
    examples: int = 2_000
    batch_size: int = 100
    scorers: tuple[str, ...] = ()  # ("all",), or names; empty: those that are exact or bounds
    # A run with objective.null_image_rate=1.0, or an export of it: rows without images, its own and that of the null
    # memory.
    blind_workdir: str = ""


@dataclasses.dataclass(frozen=True)
class Lengths:
    """How well the model's law of lengths fits held-out captions, beside that of the training captions."""

    type: str = "lengths"
    every: str = "end"
    split: str = "test"  # or "validation", or a source spec
    examples: int = 2_000
    batch_size: int = 100


@dataclasses.dataclass(frozen=True)
class Compositionality:
    """Chooses among captions of which one is true, on sources that have such foils: scenes, collage, pictures, and sets
    by others, see `mdc_jax/evaluators/README.md`.

    A scorer runs once for each caption and blind image: with `elbo`, 32 masks each, 200 foils of the seven kinds of
    scenes take twenty minutes of a CPU core, with a scorer of one pass one minute.
    """

    type: str = "compositionality"
    every: str = "end"
    split: str = "test"  # or "validation", or a source spec
    kinds: tuple[str, ...] = ()  # of foils; empty: all that the source has
    examples: int = 200  # foils of each kind, or all of fewer
    batch_size: int = 50
    scorers: tuple[str, ...] = ()  # ("all",), or names; empty: the first that the objective has
    blind_images: int = 64  # training images over which p(caption | image) is averaged, each as costly as an image
    blind_workdir: str = ""  # a run with objective.null_image_rate=1.0, or an export of it, which says p(caption) too
    picture: int = 1  # foils of each kind in the picture


@dataclasses.dataclass(frozen=True)
class ZeroShot:
    """Names the class of an image by scoring a text for each; see `mdc_jax/evaluators/README.md` for the file."""

    type: str = "zero_shot"
    every: str = "end"
    split: str = "test"  # or "validation", or a source spec
    family: str = ""  # of labels; of presence, images of one name count; empty: the only one of classes
    classes: str = ""  # a JSON file of templates and class names; empty: "a photo of a NAME." of the family's names
    examples: int = 2_000
    batch_size: int = 50
    texts_at_once: int = 20  # scored beside each image of a batch
    scorers: tuple[str, ...] = ()  # ("all",), or names; empty: the first that the objective has
    blind_images: int = 64  # training images over which p(text | image) is averaged


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Finds the captions of an image among those of all, and the image of a caption: recall at 1, 5 and 10.

    Every caption is scored beside every image: 1,000 images with five captions each are five million runs of a decoder.
    """

    type: str = "retrieval"
    every: str = "end"
    split: str = "test"  # or "validation", or a source spec
    examples: int = 200
    batch_size: int = 50
    texts_at_once: int = 20  # scored beside each image of a batch
    scorers: tuple[str, ...] = ()  # ("all",), or names; empty: the first that the objective has
    blind_images: int = 64  # training images over which p(caption | image) is averaged


@dataclasses.dataclass(frozen=True)
class PositionSignal:
    """What the image is worth to the prediction of a token, by its position and by the share that is masked."""

    type: str = "position_signal"
    every: str = "end"
    split: str = "test"  # or "validation", or a source spec
    examples: int = 400
    batch_size: int = 50
    blind_images: int = 16  # training images, over which p(token | image) is averaged


Evaluator = (
    HeldOutLoss
    | LinearProbe
    | Captioning
    | Perplexity
    | Lengths
    | Compositionality
    | ZeroShot
    | Retrieval
    | PositionSignal
)
EVALUATORS: Mapping[str, type] = {section.type: section for section in typing.get_args(Evaluator)}
# Those that an objective has to write captions for, and those that it has to score them for.
OF_WRITERS = (Captioning.type, Perplexity.type, PositionSignal.type)
OF_SCORERS = (Compositionality.type, ZeroShot.type, Retrieval.type)


@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 0
    duration: str = "1000 steps"
    # Weights to start from: a workdir, an export, or an encoder of big_vision (.npz), timm or transformers (folders),
    # see `mdc_jax/exchange/README.md`. Read by the first start of a run alone; empty: random ones.
    init_from: str = ""
    image: Image = Image()
    tokenizer: Tokenizer = Tokenizer()
    data: Data = Data()
    model: Model = Model()
    objective: Objective = MaskedDiffusion()
    optimizer: Optimizer = Optimizer()
    mesh: Mesh = Mesh()
    checkpoint: Checkpoint = Checkpoint()
    log: Log = Log()
    evaluators: Mapping[str, Evaluator] = dataclasses.field(default_factory=dict)
