"""What it is worth to compute nothing twice while captions are written.

    python -m mdc_jax.benchmarks.decoding --config=configs/vitb_recap.py --config.data.max_tokens=24 \\
        --config.model.dtype=float32 --batches=8,1 --repeats=2 --json=decoding.json

Writes captions of `data.max_tokens` tokens, one a step, for made-up images with an untrained model of the config.
"plain" runs all of it at every step: the encoder, the keys and values of the image, and the output layer on all
tokens. Its steps cost the same, so that some are run and their fastest counts for all. "ours" encodes once, projects
keys and values once, and multiplies the vocabulary where a token is still masked. Both run in turns in one process.
The bound of the speed-up is the ratio of the FLOPs of the matrix products. Processor time is that of this process, all
threads: it tells more where other work runs on the machine, since a long run is slowed down more surely than a short
step is.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from mdc_jax import command
from mdc_jax.benchmarks import step as step_
from mdc_jax.benchmarks.clock import Clock
from mdc_jax.config import ConfigError, parse, sections
from mdc_jax.models import text_decoder
from mdc_jax.objectives.base import Params
from mdc_jax.objectives.captioner import Captioner
from mdc_jax.ops import cross_entropy
from mdc_jax.report import tables

_PLAIN_STEPS = 3  # that are run


def flops(objective: Captioner) -> dict[str, float]:
    """Of a caption of L tokens, EOS placed and one word a step, "plain" and "ours"."""
    words = objective.max_tokens - 1
    whole, without_head = (objective.flops(1, predicted)["forward"] for predicted in (None, 0))
    row = (whole - without_head) / objective.max_tokens
    keys_values = text_decoder.keys_values_flops(
        width=objective.decoder_sizes["width"],
        depth=objective.decoder_sizes["depth"],
        memory_width=objective.encoder_sizes.width,
        memory_tokens=objective.tokens,
    )
    once = objective.encoder_flops() + keys_values
    return {
        "plain": words * whole,
        "ours": once + words * (without_head - once) + row * words * (words + 1) / 2,
    }


def plain_step(
    objective: Captioner, params: Params, images: jax.Array, tokens: jax.Array, masked: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Fills the most confident place, of those bool[B, L] that are masked, of captions i32[B, L]."""
    memory = objective.encode(params, images)["tokens"]
    hidden = objective.decoder.apply({"params": params["decoder"]}, tokens[:, None], memory)[:, 0]
    head = params["decoder"]["head"]
    log_p = jax.nn.log_softmax(cross_entropy.logits(hidden, head["kernel"], head["bias"]))
    rows = jnp.arange(len(tokens))
    place = jnp.where(masked, log_p.max(-1), -jnp.inf).argmax(-1)
    return tokens.at[rows, place].set(log_p[rows, place].argmax(-1)), masked.at[rows, place].set(False)


def benchmark(config: sections.Config, vocab_size: int, batch: int, repeats: int) -> dict[str, dict[str, float]]:
    """Row → its measurements; raises ConfigError for an objective that does not decode masked captions."""
    if "steps" not in config.objective.decoding:
        raise ConfigError(f'objective "{config.objective.name}": this benchmark is of masked decoding')
    one_text = dataclasses.replace(config.objective, masks_per_caption=1)  # as decoding has it, for the FLOPs
    objective = step_.objective_of(dataclasses.replace(config, objective=one_text), vocab_size)
    params = jax.jit(objective.init)(jax.random.key(0))
    size = config.image.size
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8))
    length = jnp.full(batch, objective.max_tokens)
    masked = jnp.arange(objective.max_tokens)[None] < length[:, None] - 1
    tokens = jnp.where(masked, objective.mask_id, 1)
    key, words = jax.random.key(0), objective.max_tokens - 1

    @jax.jit
    def ours(params: Params, images: jax.Array) -> jax.Array:
        return objective.generate(params, objective.encode(params, images), key, length=length).tokens

    step = jax.jit(lambda *arguments: plain_step(objective, *arguments))

    def run(function: Callable, *arguments: jax.Array) -> dict[str, float]:
        clock = Clock()
        jax.block_until_ready(function(*arguments))
        return clock.named()

    measured: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
    for repeat in range(repeats + 1):
        steps = [run(step, params, images, tokens, masked) for _ in range(_PLAIN_STEPS if repeat else 1)]
        whole = run(ours, params, images)
        if repeat:  # the first compiles
            measured["plain"] += [{name: value * words for name, value in one.items()} for one in steps]
            measured["ours"].append(whole)
    fastest = {row: {name: min(one[name] for one in runs) for name in runs[0]} for row, runs in measured.items()}
    return {row: _row(fastest, row, batch, flops(objective)) for row in fastest}


def _row(
    fastest: Mapping[str, Mapping[str, float]], row: str, batch: int, flops_: Mapping[str, float]
) -> dict[str, float]:
    found = dict(fastest[row])
    found["captions_per_second"] = batch / found["seconds"]
    found["gflops_a_caption"] = flops_[row] / 1e9
    found["gflops_per_second"] = batch * flops_[row] / found["seconds"] / 1e9
    found["speed_up"] = fastest["plain"]["seconds"] / found["seconds"]
    found["processor_speed_up"] = fastest["plain"]["processor_seconds"] / found["processor_seconds"]
    found["flop_ratio"] = flops_["plain"] / flops_[row]
    found["share_of_bound"] = found["speed_up"] / found["flop_ratio"]
    found["processor_share_of_bound"] = found["processor_speed_up"] / found["flop_ratio"]
    return found


_COLUMNS = {  # heading → measurement, decimals
    "captions/s": ("captions_per_second", 3),
    "GFLOP a caption": ("gflops_a_caption", 0),
    "GFLOP/s": ("gflops_per_second", 0),
    "speed-up": ("speed_up", 2),
    "FLOP bound": ("flop_ratio", 2),
    "share of bound": ("share_of_bound", 3),
    "by processor time": ("processor_share_of_bound", 3),
}


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    rows = [
        [name, *(f"{row[key]:,.{decimals}f}" for key, decimals in _COLUMNS.values())] for name, row in found.items()
    ]
    return tables.markdown(["", *_COLUMNS], rows)


def main(_: list[str]) -> None:
    config, json_file = parse(command.given_config("configs/vitb_recap.py")), command.place("json", flags.FLAGS.json)
    kind, vocabulary = jax.devices()[0].device_kind, flags.FLAGS.vocabulary or config.tokenizer.vocab_size
    given, found = flags.FLAGS.batches, {}
    if not given or not all(text.isdecimal() and int(text) for text in given):
        raise ConfigError(f"--batches={','.join(given)}: give numbers of captions, as in --batches=8,1")
    for batch in map(int, given):
        found[batch] = benchmark(config, vocabulary, batch, flags.FLAGS.repeats)
        print(
            f"batch {batch}, {config.data.max_tokens} tokens, vocabulary {vocabulary:,}, {config.model.dtype}, {kind}\n"
            f"{table(found[batch])}",
            flush=True,
        )
    if json_file:
        text = json.dumps({"device": kind, "vocabulary": vocabulary, "batches": found}, indent=2)
        json_file.write_text(text + "\n")


if __name__ == "__main__":
    flags.DEFINE_list("batches", ["8", "1"], "Captions that are written at once.")
    flags.DEFINE_integer("vocabulary", 0, "Size of the vocabulary; 0: the config's.")
    flags.DEFINE_integer("repeats", 3, "Measured runs of each row; the fastest counts.", lower_bound=1)
    flags.DEFINE_string("json", "", "File for the numbers.")
    command.define_config()
    app.run(command.reported(main), flags_parser=command.parse_flags)
