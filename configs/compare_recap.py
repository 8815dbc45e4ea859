"""Plans the paper's comparison on Recap-DataComp-1B: commands, memory and device-hours. It has not been run.

    python -m mdc_jax.compare --config=configs/compare_recap.py --workdir=runs/recap --plan --topology=v5e:8x8

Hardware: a pod slice or a machine of GPUs. Memory and hours are printed where the compiler of TPUs is installed (pip
install -r requirements-tpu-compile.txt, a minute each on a CPU); hours are FLOPs at --mfu of the devices' peak. Each
command of `mdc_jax.main` that is printed trains one run, as launch/tpu_pod.sh takes it; `mdc_jax.evaluate` measures
what the base config does not.

Lists, one of them, as in configs/compare_recap.py:pairs
    objectives    masked diffusion, autoregressive, CLIP, parallel, masked language models, of 10 M pairs (default)
    pairs         masked diffusion, autoregressive and CLIP of 5, 10, 20 and 30 M pairs

Other arguments
    data          folder of the splits (data/recap), see configs/vitb_recap.py
    examples      image-text pairs seen in training (320e6)
    seeds         of each (1)
"""

import ml_collections

from mdc_jax.comparison import recipe
from mdc_jax.comparison.settings import Entry
from mdc_jax.config import evaluator, parse_argument

LISTS = ("objectives", "pairs")
OBJECTIVES = ("masked_diffusion", "autoregressive", "clip", "parallel", "masked_lm_15", "masked_lm_50", "masked_lm_85")
PAIRS = ("5M", "10M", "20M", "30M")


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    arg = parse_argument(argument, **dict.fromkeys(LISTS, False), data="data/recap", examples=320e6, seeds=1)
    of_pairs = recipe.size_of(arg, LISTS) == "pairs"
    subset = "" if of_pairs else ",subset=10M"
    entries = (
        {
            f"{objective}_{count}": Entry(objective, (f"data.train=subset:{count}:array_record:{arg.data}/train",))
            for objective in OBJECTIVES[:3]
            for count in PAIRS
        }
        if of_pairs
        else recipe.entries_of(OBJECTIVES)
    )
    return recipe.comparison(
        base=f"configs/vitb_recap.py:data={arg.data},examples={arg.examples:.0f}{subset}",
        entries=entries,
        seeds=tuple(range(arg.seeds)),
        evaluators={
            "held_out": evaluator("held_out_loss", every="4000 steps", examples=10_000, batch_size=1024),
            "probe": recipe.probe(dataset="imagenet", train_examples=2_000_000, test_examples=50_000),
        },
    )
