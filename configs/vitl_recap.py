r"""MDC with ViT-L/14 on subsets of Recap-DataComp-1B.

    python -m mdc_jax.main --config=configs/vitl_recap.py:subset=30M --workdir=gs://BUCKET/runs/vitl_recap

Hardware: meant for a TPU pod slice or machines of GPUs. Run time and result: not run at this scale, nor were the
commands below: nothing of this data was downloaded here. The argument runlocal runs it in a minute on a CPU, with fake
data of the right shapes.

Data: that of configs/vitb_recap.py, which says more of it; the paper's largest subset has 30 M pairs. DataComp's
script would download about 1.4 billion images: end it when there are enough tars of 10,000 addresses, for 30M pairs
3,000 and as many more as addresses are dead.

    pip install huggingface_hub
    hf download UCSC-VLAA/Recap-DataComp-1B --repo-type=dataset --include='data/train_data/*' --local-dir=captions
    git clone https://github.com/mlfoundations/datacomp
    python datacomp/download_upstream.py --scale=datacomp_1b --data_dir=datacomp_1b
    mkdir -p tars/validation tars/test && mv datacomp_1b/shards tars/train
    mv tars/train/00000000.* tars/validation && mv tars/train/00000001.* tars/test
    for split in train validation test; do
      python -m mdc_jax.data.prepare.recap --from=tars/$split --captions=captions/data/train_data \
          --verify=download --short_side=256 --max_bad_share=0.5 --out=data/recap/$split
    done

Disk for 30M pairs: 1.1 TB for the tars (DataComp states 450 GB for 12.8 million addresses) and about 1.7 TB for the
records (28 November 2026: 30M by 56 kB, the mean of scikit-learn's two sample photographs as the converter writes
them; 1.1 TB with --quality=90, 38 kB an image), beside the files of captions. The first two tars are held out. About
one image in three has no row of captions (hence the share that may be dropped); the manifests say how many pairs there
are in the end.

Arguments, as in configs/vitl_recap.py:objective=autoregressive,subset=20M
    objective     masked_diffusion | masked_lm | parallel | autoregressive | cappa | clip | siglip
    data          folder of the splits (data/recap)
    subset        training pairs, as in 5M; a smaller subset is contained in every larger one (all)
    original      share of the captions that are the page's own (0: all are the model's)
    examples      image-text pairs seen in training (960e6: 32 epochs of 30 M pairs)
    seed          of initialisation, masks and data order (0)
    runlocal      a small model, a small batch, fake data
"""

import ml_collections

from mdc_jax.config import applicable, parse_argument, recipe


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    arg = parse_argument(
        argument,
        objective="masked_diffusion",
        data="data/recap",
        subset="",
        original=0.0,
        examples=960e6,
        seed=0,
        runlocal=False,
    )
    config = recipe.web(arg.objective, variant="L/14", data=arg.data, seed=arg.seed)
    recipe.recap(config, subset=arg.subset, original=arg.original)
    config.duration = f"{arg.examples:.0f} examples"
    return applicable(recipe.web_local(config) if arg.runlocal else config)
