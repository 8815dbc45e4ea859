r"""MDC with ViT-B/16 on subsets of Recap-DataComp-1B.

    python -m mdc_jax.main --config=configs/vitb_recap.py:subset=10M --workdir=gs://BUCKET/runs/vitb_recap

Hardware: meant for a TPU pod slice or a machine of GPUs. Run time and result: not run at this scale, nor were the
commands below: nothing of this data was downloaded here. The argument runlocal runs it in a minute on a CPU, with fake
data of the right shapes.

Data: captions that a model wrote for images of DataComp-1B (arXiv 2406.08478), beside those of the web pages: parquet
files with key, url, re_caption, org_caption and sha256. The paper trains on 5, 10, 20 and 30 M pairs. DataComp's own
script downloads the images, about 1.4 billion: end it when there are enough tars of 10,000 addresses, for 10M pairs
1,000 and as many more as addresses are dead. The captions, of which the hub shows 941 M rows, lie at
https://huggingface.co/datasets/UCSC-VLAA/Recap-DataComp-1B.

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

Pairs whose address is dead, or whose image is another one by now, are left out, and images without a row of captions,
by these numbers one in three (so the share that may be dropped); the manifests say how many there are in the end. The
first two tars are held out. The folder may lie in a bucket, as in data=gs://BUCKET/recap.

Disk for 10M pairs: 350 GB for the tars (DataComp states 450 GB for 12.8 million addresses, images of at most 512
pixels) and about 560 GB for the records (28 November 2026: 10M by 56 kB, the mean of scikit-learn's two sample
photographs with a short side of 256 as the converter writes them, JPEG of quality 95 with full colours; of 40
wallpapers from Debian it is 46 kB; what is no larger than that keeps its bytes). With --quality=90 it is 38 kB an
image; without --short_side records are as large as the images in the tars, and cost more to decode. The files of
captions come on top; their size was not found.

Arguments, as in configs/vitb_recap.py:objective=autoregressive,subset=5M
    objective     masked_diffusion | masked_lm | parallel | autoregressive | cappa | clip | siglip
    data          folder of the splits (data/recap)
    subset        training pairs, as in 5M; a smaller subset is contained in every larger one (all)
    original      share of the captions that are the page's own (0: all are the model's)
    examples      image-text pairs seen in training (320e6: 32 epochs of 10 M pairs)
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
        examples=320e6,
        seed=0,
        runlocal=False,
    )
    config = recipe.web(arg.objective, variant="B/16", data=arg.data, seed=arg.seed)
    recipe.recap(config, subset=arg.subset, original=arg.original)
    config.duration = f"{arg.examples:.0f} examples"
    return applicable(recipe.web_local(config) if arg.runlocal else config)
