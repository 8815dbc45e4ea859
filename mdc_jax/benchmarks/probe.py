"""A path of logistic regressions against scikit-learn's: `python -m mdc_jax.benchmarks.probe [--json=FILE]`.

Features are those of a ViT as wide as B/16 with random weights, over scenes of 48 pixels (the mean of its 9 tokens);
the class is the first pair of colour and shape in the scene with its background, and a share of labels is drawn at
random, so that no penalty separates the classes. Both solvers see standardised features and minimise

    mean_i -log softmax(x_i W + b)[y_i] + l2/2 |W|^2

Ours runs over all penalties from strong to weak, its turning to principal axes included. scikit-learn's (L-BFGS, its
defaults but for `max_iter`) runs at some of them, each from zero as it is used. The table holds the objective, the
Euclidean norm of its gradient and the validation accuracy of both: times compare only where those of ours are no worse.
Last, what a probe of ImageNet's size would take, from gradients of a part of it, and how many copies of that part a
probe of all layers holds.

Shapes: N examples, D features, K classes.
"""

import dataclasses
import json
import pathlib
import resource
import tempfile
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from mdc_jax import command
from mdc_jax.benchmarks.clock import Clock
from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import Family
from mdc_jax.evaluators import feature_cache, logistic, logistic_loss, probes, solvers
from mdc_jax.evaluators.scaling import scale
from mdc_jax.models import vit
from mdc_jax.report import tables

_SIZE, _BATCH = 48, 250
_IMAGENET = 1_281_167, 768, 1_000  # examples of train and validation, features and classes of ImageNet with B/16
_IMAGENET_TEST = 50_000
_PAIRED = ("objective", "gradient", "accuracy", "processor s")
HEADER = ("L2", *(text for name in _PAIRED for text in (name, "scikit-learn")))


@dataclasses.dataclass(frozen=True)
class Data:
    """Features f32[N, D] and classes i32[N] of two splits."""

    x: Mapping[str, np.ndarray]
    y: Mapping[str, np.ndarray]
    classes: int


@dataclasses.dataclass(frozen=True)
class Measured:
    """One penalty by one solver."""

    objective: float
    gradient: float
    accuracy: float
    seconds: float
    processor: float  # seconds of all threads, which other work on the machine changes little
    evaluations: int


def make_data(counts: Mapping[str, int], *, classes: int, noise: float, width: int, depth: int, seed: int) -> Data:
    """Draws scenes of each split, encodes them and names their classes; `noise` is the share of random labels."""
    encoder = vit.ViT(patch=16, width=width, depth=depth, heads=max(width // 64, 1), mlp_dim=4 * width)
    params = encoder.init(jax.random.key(seed), jnp.zeros((1, _SIZE, _SIZE, 3)))
    encode = jax.jit(lambda images: encoder.apply(params, images.astype(jnp.float32) / 127.5 - 1)[0].mean(1))
    x, y = {}, {}
    for number, (split, count) in enumerate(counts.items()):
        source = open_source(f"scenes:{split},size={_SIZE},count={count}")
        features, labels = [], []
        for first in range(0, count, _BATCH):
            records = [source[i] for i in range(first, min(first + _BATCH, count))]
            images = np.stack([record.image for record in records])
            images = np.concatenate([images, np.repeat(images[:1], _BATCH - len(images), axis=0)])
            features.append(jax.device_get(encode(images))[: len(records)])
            labels += [
                record.labels["pair"].argmax() + len(record.labels["pair"]) * record.labels["background"]
                for record in records
            ]
        rng = np.random.default_rng((seed, number))
        drawn = rng.integers(0, classes, count)
        x[split] = np.concatenate(features)
        y[split] = np.where(rng.random(count) < noise, drawn, np.array(labels) % classes).astype(np.int32)
    return Data(scale(x, "standardised"), y, classes)


def path(data: Data, l2s: Sequence[float], tolerance: float) -> tuple[dict[float, Measured], np.ndarray]:
    """Our solver at all penalties, strongest first, and what turning the features took, as `Clock` has it, with
    moving them to an accelerator."""
    clock = Clock()
    axes = solvers.principal_axes(data.x["train"])
    x = {split: features @ axes for split, features in data.x.items()}
    loss = logistic_loss.of(x["train"], data.y["train"], "class")
    turning, found, heads = clock.read(), {}, None
    for l2 in l2s:
        clock = Clock()
        heads = solvers.fit(
            x["train"],
            data.y["train"],
            l2,
            kind="class",
            classes=data.classes,
            start=heads,
            loss=loss,
            tolerance=tolerance,
            max_iterations=1_000,
        )
        spent = clock.read()
        theta = np.concatenate([heads.weight_DxK, heads.bias_K[None]])
        found[l2] = _measured(x, data, theta, l2, spent, heads.minimum.evaluations)
    return found, turning


def scikit_learn(data: Data, l2: float) -> Measured:
    from sklearn.linear_model import LogisticRegression  # slow to import

    x, y = data.x["train"], data.y["train"]
    clock = Clock()
    model = LogisticRegression(C=1 / (len(x) * l2), max_iter=10_000).fit(x, y)
    spent = clock.read()
    theta = np.zeros((x.shape[1] + 1, data.classes))
    theta[:-1, model.classes_], theta[-1] = model.coef_.T, -1e3  # a class without an example
    theta[-1, model.classes_] = model.intercept_
    return _measured(data.x, data, theta, l2, spent, int(model.n_iter_[0]))


def _measured(
    x: Mapping[str, np.ndarray], data: Data, theta: np.ndarray, l2: float, spent: np.ndarray, evaluations: int
) -> Measured:
    loss, gradient = logistic_loss.mean_loss(x["train"], data.y["train"], theta, "class")
    gradient[:-1] += l2 * theta[:-1]
    logits = x["validation"] @ theta[:-1].astype(np.float32) + theta[-1].astype(np.float32)[None]
    return Measured(
        objective=loss + 0.5 * l2 * float(np.sum(theta[:-1] ** 2)),
        gradient=float(np.linalg.norm(gradient)),
        accuracy=float(np.mean(logits.argmax(1) == data.y["validation"])),
        seconds=spent[0],
        processor=spent[1],
        evaluations=evaluations,
    )


def imagenet(evaluations: int, rows: int) -> dict[str, float]:
    """Hours by the clock, processor hours and GiB of `evaluations` gradients of ImageNet's size, from one of `rows`
    examples."""
    count, width, classes = _IMAGENET
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, width), dtype=np.float32)
    y, theta = rng.integers(0, classes, rows), np.zeros((width + 1, classes))
    loss, spent = logistic_loss.of(x, y, "class"), []
    for _ in range(3):
        clock = Clock()
        loss(theta)
        spent.append(clock.read())
    by_clock, processor = np.min(spent, axis=0) * count / rows * evaluations / 3600
    features = 4 * (count + _IMAGENET_TEST) * width
    # One scaled copy of the features of all splits, of whatever number of layers; of parameters, the pairs and some
    # float64 vectors.
    memory = features + theta.size * (2 * 10 * 4 + 12 * 8)
    return {"clock_hours": by_clock, "hours": processor, "GiB": memory / 2**30}


def copies_of_layers(count: int, width: int, layers: int) -> float:
    """The most memory that arrays of a logistic probe of so many layers take, in multiples of the features of one.

    It is fitted again on training and validation examples, as on the data sets of papers. Features are in a file that
    is mapped into memory, as those of a large data set are, and are not counted.
    """
    rng = np.random.default_rng(0)
    labels = {split: np.arange(count if split == "train" else 100, dtype=np.int32) % 10 for split in probes.SPLITS}
    task, tried, fitted = probes.make_task(Family("class", tuple("0123456789")), labels), None, ("train", "validation")
    with tempfile.TemporaryDirectory() as folder:
        parts = (
            {"x": rng.standard_normal((len(rows), layers, width), np.float32)}
            for rows in np.array_split(np.arange(count), -(-count // 1000))
        )
        stored = feature_cache.store(parts, pathlib.Path(folder), count)["x"]
        tracemalloc.start()
        for layer in range(layers):
            space = {split: stored[: len(y), layer] for split, y in labels.items()}
            scaled = scale(space, "standardised", turned=True, fitted=fitted)
            tried = probes.attempt(scaled, task, logistic.Logistic(), tried, layer=layer + 1, refit=True)
            del scaled  # those of one layer exist at a time
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak / (4 * count * width)


def peak_gib() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main(_: list[str]) -> None:
    options = flags.FLAGS
    json_file = command.place("json", options.json)
    counts = {"train": options.examples, "validation": options.validation}
    started = time.perf_counter()
    data = make_data(
        counts, classes=options.classes, noise=options.noise, width=options.width, depth=options.depth, seed=0
    )
    print(
        f"{counts['train']:,} x {data.x['train'].shape[1]} features of a random ViT of {options.depth} blocks over "
        f"scenes, {data.classes} classes, {options.noise:.0%} random labels ({time.perf_counter() - started:.0f} s)",
        flush=True,
    )
    l2s = [float(l2) for l2 in np.geomspace(logistic.LIMITS[1], logistic.LIMITS[0], options.values)]
    ours, turning = path(data, l2s, options.tolerance)
    total = [turning[i] + sum((m.seconds, m.processor)[i] for m in ours.values()) for i in range(2)]
    evaluations, memory = sum(m.evaluations for m in ours.values()), peak_gib()
    print(
        f"ours: {len(l2s)} values in {total[0]:.1f} s, of which {turning[0]:.1f} for principal axes; "
        f"{total[1]:.1f} processor s; {evaluations} gradients; peak of memory {memory:.2f} GiB",
        flush=True,
    )
    theirs = {}
    for index in options.compare:
        theirs[l2s[int(index)]] = scikit_learn(data, l2s[int(index)])
    result = report(ours, theirs, total)
    large = imagenet(evaluations, options.imagenet_rows)
    print(
        f"ImageNet (1.28 M x 768, 1,000 classes), as many gradients: {large['clock_hours']:.2g} hours by the clock, "
        f"{large['hours']:.2g} of processors, {large['GiB']:.1f} GiB"
    )
    copies = copies_of_layers(options.imagenet_rows, _IMAGENET[1], options.layers)
    print(f"{options.layers} layers: at most {copies:.2f} times the features of one in memory")
    if json_file:
        result |= {
            "peak_gib": memory,
            "evaluations": evaluations,
            "turning_seconds": turning[0],
            "imagenet": large,
            "copies": copies,
        }
        result |= {"settings": {name: getattr(options, name) for name in _SETTINGS}}
        json_file.write_text(json.dumps(result, indent=2) + "\n")


def report(ours: Mapping[float, Measured], theirs: Mapping[float, Measured], total: Sequence[float]) -> dict[str, Any]:
    """Prints the table of penalties that both fitted, and returns every number."""
    rows = [
        [
            f"{l2:.2g}",
            *(f"{m.objective:.6f}" for m in (ours[l2], other)),
            *(f"{m.gradient:.1e}" for m in (ours[l2], other)),
            *(f"{m.accuracy:.4f}" for m in (ours[l2], other)),
            *(f"{m.processor:.1f}" for m in (ours[l2], other)),
        ]
        for l2, other in theirs.items()
    ]
    print(tables.markdown(HEADER, rows))
    best = max(m.accuracy for m in ours.values())
    print(f"best validation accuracy over all values: {best:.4f}")
    result = {
        "ours": {f"{l2:.3g}": dataclasses.asdict(m) for l2, m in ours.items()},
        "scikit_learn": {f"{l2:.3g}": dataclasses.asdict(m) for l2, m in theirs.items()},
        "seconds": total[0],
        "processor": total[1],
    }
    if theirs:
        for number, name in enumerate(("seconds", "processor")):
            mine, other = total[number] / len(ours), float(np.mean([getattr(m, name) for m in theirs.values()]))
            print(f"{name} a value: ours {mine:.2f}, scikit-learn {other:.2f}: {other / mine:.1f} x")
            result[f"speed_up_{name}"] = other / mine
    return result


_SETTINGS = ("examples", "validation", "classes", "values", "width", "depth", "noise", "tolerance")


if __name__ == "__main__":
    flags.DEFINE_integer("examples", 50_000, "Training examples N.", lower_bound=100)
    flags.DEFINE_integer("validation", 10_000, "Validation examples.", lower_bound=100)
    flags.DEFINE_integer("classes", 100, "Classes K.", lower_bound=2)
    flags.DEFINE_integer("values", 40, "Penalties of the path.", lower_bound=2)
    flags.DEFINE_integer("width", 768, "Width D of the encoder.", lower_bound=4)
    flags.DEFINE_integer("depth", 2, "Blocks of the encoder.", lower_bound=1)
    flags.DEFINE_float("noise", 0.2, "Share of labels drawn at random.", lower_bound=0, upper_bound=1)
    flags.DEFINE_float("tolerance", 3e-8, "Nats that a fit may leave to gain.")
    flags.DEFINE_list("compare", ["12", "20", "28"], "Values of the path, from 0, that scikit-learn fits too.")
    flags.DEFINE_integer("imagenet_rows", 20_000, "Examples of the measured part of ImageNet's size.", lower_bound=100)
    flags.DEFINE_integer("layers", 12, "Layers whose memory is measured.", lower_bound=1)
    flags.DEFINE_string("json", None, "File for every number.")
    app.run(command.reported(main), flags_parser=command.parse_flags)
