"""What each optimisation of the training step is worth.

    python -m mdc_jax.benchmarks.train_step --config=configs/vitb_recap.py --config.data.batch_size=8 \\
        --config.model.dtype=float32 --config.model.remat=on --vocabulary=32000,256000 --json=train_step.json

Trains on made-up images and captions. "plain" runs the output layer on all tokens and holds all logits, as CapPa
does (arXiv 2306.07915); every other row has the loss at the masked tokens, with one setting of the config changed.
All rows run in turns in one process. The bound of a speed-up is the ratio of the FLOPs, counted for the tokens
that were masked; temporary memory is the compiler's account of it, with the gradients and without. Last come the bare
matrix products of the config, and how near a row of the same dtype is to their FLOP/s.
"""

import dataclasses
import json
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from absl import app, flags

from mdc_jax import command
from mdc_jax.benchmarks import matrix_products
from mdc_jax.benchmarks import step as step_
from mdc_jax.config import ConfigError, parse, sections, to_dict
from mdc_jax.objectives import sizes
from mdc_jax.ops import cross_entropy
from mdc_jax.report import tables
from mdc_jax.training import accounting

PLAIN, OURS, PRODUCTS = "plain", "masked tokens only", "bare matrix products"


def plain_loss(
    hidden: jax.Array, kernel: jax.Array, bias: jax.Array, targets: jax.Array, weight: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """As `weighted_cross_entropy`, by autodiff of the logits of all tokens."""
    scores = cross_entropy.logits(hidden, kernel, bias)
    nll = optax.softmax_cross_entropy_with_integer_labels(scores, targets)
    return jnp.sum(weight * nll), (weight != 0) & (scores.argmax(-1) == targets)


def variants(config: sections.Config) -> dict[str, sections.Config]:
    """Row → config: the one that is given, and it with one setting changed."""

    def changed(**settings: object) -> sections.Config:
        return dataclasses.replace(config, model=dataclasses.replace(config.model, **settings))

    model, encoder, decoder = config.model, config.model.encoder, config.model.decoder
    remat = "off" if model.remat == "on" else "on"
    loop = sizes.loops_over_layers(model.scan)
    other = "float32" if sizes.compute_dtype(model.dtype) == jnp.bfloat16 else "bfloat16"
    return {
        PLAIN: config,
        OURS: config,
        f"... remat {remat}": changed(remat=remat),
        f"... layers {'unrolled' if loop else 'in a loop'}": changed(scan="off" if loop else "on"),
        f"... {other}": changed(dtype=other),
        "... half of the patches": changed(encoder=dataclasses.replace(encoder, token_keep=0.5 * encoder.token_keep)),
        "... half of the memory": changed(decoder=dataclasses.replace(decoder, memory_keep=0.5 * decoder.memory_keep)),
    }


def benchmark(
    config: sections.Config, vocab_size: int, caption_tokens: int, repeats: int, rows: list[str] | None
) -> dict[str, dict[str, float]]:
    """Row → its measurements; see `_COLUMNS` for their names."""
    step_.check_decoder(config)
    step_.check_counted(config)
    chosen = {name: entry for name, entry in variants(config).items() if rows is None or name in rows}
    unknown = set(rows or ()) - set(chosen) - {PRODUCTS}
    if unknown:
        raise ConfigError(f'--rows: no row "{unknown.pop()}"; there are {", ".join((*variants(config), PRODUCTS))}')
    if PRODUCTS in (rows or ()) and OURS not in rows:
        raise ConfigError(f'--rows: "{PRODUCTS}" are those of "{OURS}": name that row too')
    batch = step_.make_batch(config, vocab_size=vocab_size, caption_tokens=caption_tokens)
    prepared = {
        name: step_.prepare(entry, batch, vocab_size=vocab_size, loss=plain_loss if name == PLAIN else None)
        for name, entry in chosen.items()
    }
    steps = {name: step for name, (step, _) in prepared.items()}
    init = next(iter(prepared.values()))[1]
    found = step_.measure(steps, init(), repeats)
    result = {name: _row(steps[name], entry, found.get(PLAIN)) for name, entry in found.items()}
    if OURS in found and (rows is None or PRODUCTS in rows):
        bare = _products(config, steps[OURS], found[OURS], repeats)
        for name, row in result.items():
            # The products are in the config's dtype; its rows differ in FLOPs too.
            if sizes.compute_dtype(chosen[name].model.dtype) == sizes.compute_dtype(config.model.dtype):
                row["share_of_products"] = row["gflops_per_second"] / bare["gflops_per_second"]
        result[PRODUCTS] = bare
    return result


def _products(
    config: sections.Config, step: step_.Step, measured: Mapping[str, float], repeats: int
) -> dict[str, float]:
    """Of the tokens that had a loss in a measured step, on one device."""
    seconds = matrix_products.seconds(
        step.cost.objective,
        batch_size=step.batch_size // step.cost.devices,
        captions_per_image=step.cost.captions_per_image,
        predicted_tokens=measured["predicted_tokens"],
        dtype=sizes.compute_dtype(config.model.dtype),
        repeats=repeats,
    )
    speed = step.batch_size / seconds
    return _speed({"seconds": seconds, "flops": measured["flops"]}, speed, step)


def _speed(measured: Mapping[str, float], speed: float, step: step_.Step) -> dict[str, float]:
    row = {
        **measured,
        "images_per_second": speed,
        "gflops_per_second": speed * measured["flops"] / 1e9,
    }
    mfu = accounting.utilisation(speed * measured["flops"], step.cost.device_kind, step.cost.devices)
    return row if mfu is None else {**row, "mfu": mfu}


def _row(step: step_.Step, measured: Mapping[str, float], plain: Mapping[str, float] | None) -> dict[str, float]:
    row = {
        **_speed(measured, step.batch_size / measured["seconds"], step),
        "compile_seconds": step.compile_seconds,
        "peak_megabytes": step.peak_bytes / 1e6,
        "temporary_megabytes": step.temporary_bytes / 1e6,
        "temporary_without_gradients_megabytes": (step.temporary_bytes - step.gradient_bytes) / 1e6,
    }
    if plain:
        row["speed_up"] = plain["seconds"] / measured["seconds"]
        row["processor_speed_up"] = plain["processor_seconds"] / measured["processor_seconds"]
        row["flop_ratio"] = plain["flops"] / measured["flops"]
        row["share_of_bound"] = row["speed_up"] / row["flop_ratio"]
    return row


_COLUMNS = {  # heading → measurement, decimals
    "images/s": ("images_per_second", 2),
    "GFLOP/s": ("gflops_per_second", 0),
    "MFU": ("mfu", 3),
    "of bare products": ("share_of_products", 3),
    "speed-up": ("speed_up", 3),
    "by processor time": ("processor_speed_up", 3),
    "FLOP bound": ("flop_ratio", 3),
    "share of bound": ("share_of_bound", 3),
    "peak MB": ("peak_megabytes", 0),
    "temporary MB": ("temporary_megabytes", 0),
    "without gradients": ("temporary_without_gradients_megabytes", 0),
    "compile s": ("compile_seconds", 1),
}


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    rows = [
        [name, *(f"{row[key]:,.{decimals}f}" if key in row else "unknown" for key, decimals in _COLUMNS.values())]
        for name, row in found.items()
    ]
    return tables.markdown(["", *_COLUMNS], rows)


def main(_: list[str]) -> None:
    config = step_.resolved(parse(command.given_config("configs/vitb_recap.py")))
    json_file = command.place("json", flags.FLAGS.json)
    caption_tokens = min(flags.FLAGS.caption_tokens, config.data.max_tokens)
    kind = jax.devices()[0].device_kind
    found = {}
    for size in step_.vocabularies(flags.FLAGS.vocabulary, config):
        found[size] = benchmark(config, size, caption_tokens, flags.FLAGS.repeats, flags.FLAGS.rows or None)
        print(
            f"vocabulary {size:,}, batch {config.data.batch_size}, {caption_tokens} of "
            f"{config.data.max_tokens} tokens, {config.model.dtype}, remat {config.model.remat}, "
            f"{jax.device_count()} x {kind}\n"
            f"{table(found[size])}",
            flush=True,
        )
    if json_file:
        measured = {
            "device": kind,
            "devices": jax.device_count(),
            "jax": jax.__version__,
            "config": to_dict(config),
            "caption_tokens": caption_tokens,
            "repeats": flags.FLAGS.repeats,
            "vocabulary": found,
        }
        json_file.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    flags.DEFINE_list("vocabulary", None, "Vocabulary sizes; default: the config's.")
    flags.DEFINE_integer("caption_tokens", 25, "Tokens of every caption, EOS included.", lower_bound=1)
    flags.DEFINE_integer("repeats", 3, "Measured steps of each row; the fastest counts.", lower_bound=1)
    flags.DEFINE_list("rows", None, "Rows to measure; default: all.")
    flags.DEFINE_string("json", "", "File for the numbers.")
    command.define_config()
    app.run(command.reported(main), flags_parser=command.parse_flags)
