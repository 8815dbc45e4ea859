r"""MDC with ViT-B/16 on Conceptual 12M.

    python -m mdc_jax.main --config=configs/vitb_cc12m.py --workdir=gs://BUCKET/runs/vitb_cc12m

Hardware: meant for a TPU pod slice or a machine of GPUs. Run time and result: not run at this scale, nor were the
commands below: nothing of this data was downloaded here. The argument runlocal runs it in a minute on a CPU, with fake
data of the right shapes.

Data: 12,423,374 addresses with captions as published. More of them are dead every year: OpenCLIP counts 10,968,539
pairs at its authors' last download.

    pip install img2dataset
    wget https://storage.googleapis.com/conceptual_12m/cc12m.tsv
    sed -i '1s/^/url\tcaption\n/' cc12m.tsv
    img2dataset --url_list=cc12m.tsv --input_format=tsv --url_col=url --caption_col=caption \
        --output_format=webdataset --output_folder=tars/train \
        --image_size=256 --resize_mode=keep_ratio --resize_only_if_bigger=True
    mkdir -p tars/validation tars/test && mv tars/train/00000.* tars/validation && mv tars/train/00001.* tars/test
    for split in train validation test; do
      python -m mdc_jax.data.prepare.webdataset --from=tars/$split --out=data/cc12m/$split
    done

Disk, were no address dead: 2.6 GB for the table, 520 GB for the tars and 480 GB for the records, which keep the bytes
of the images. Computed on 28 November 2026: 12,423,374 pairs by 38 kB, the mean of scikit-learn's two sample
photographs as img2dataset writes them (short side 256, OpenCV's JPEG of quality 95; of 40 wallpapers from Debian it is
33 kB), in a tar by 3.5 kB of headers and metadata more. img2dataset itself reports 331 GB, of squares of 256 pixels
with borders.

The first two tars, up to 10,000 pairs each, are held out. The manifests say how many pairs there are in the end. The
folder may lie in a bucket, as in data=gs://BUCKET/cc12m.

Arguments, as in configs/vitb_cc12m.py:objective=autoregressive,runlocal
    objective     masked_diffusion | masked_lm | parallel | autoregressive | cappa | clip | siglip
    data          folder of the splits (data/cc12m)
    epochs        passes over the training pairs (32)
    seed          of initialisation, masks and data order (0)
    runlocal      a small model, a small batch, fake data
"""

import ml_collections

from mdc_jax.config import applicable, parse_argument, recipe


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    arg = parse_argument(argument, objective="masked_diffusion", data="data/cc12m", epochs=32, seed=0, runlocal=False)
    config = recipe.web(arg.objective, variant="B/16", data=arg.data, seed=arg.seed)
    config.duration = f"{arg.epochs} epochs"
    return applicable(recipe.web_local(config) if arg.runlocal else config)
