r"""MDC with ViT-S/16 on Conceptual Captions (CC3M).

    python -m mdc_jax.main --config=configs/vits_cc3m.py --workdir=runs/vits_cc3m

Hardware: meant for a machine of GPUs or a TPU slice. Run time and result: not run at this scale, nor were the commands
below: nothing of this data was downloaded here. The argument runlocal runs it in a minute on a CPU, with fake data of
the right shapes.

Data: 3,318,333 addresses with captions for training and 15,840 for validation as published. More of them are dead
every year: 2,905,954 of the first were there in December 2021, 13,443 of the others in December 2023
(pixparse/cc3m-wds). Download the two tables from https://ai.google.com/research/ConceptualCaptions/download, then

    pip install img2dataset
    sed -i '1s/^/caption\turl\n/' Train_GCC-training.tsv Validation_GCC-1.1.0-Validation.tsv
    for split in Train_GCC-training Validation_GCC-1.1.0-Validation; do
      img2dataset --url_list=$split.tsv --input_format=tsv --url_col=url --caption_col=caption \
          --output_format=webdataset --output_folder=tars/$split \
          --image_size=256 --resize_mode=keep_ratio --resize_only_if_bigger=True
    done
    mkdir -p tars/test && mv tars/Train_GCC-training/00000.* tars/test
    python -m mdc_jax.data.prepare.webdataset --from=tars/Train_GCC-training --out=data/cc3m/train
    python -m mdc_jax.data.prepare.webdataset --from=tars/Validation_GCC-1.1.0-Validation --out=data/cc3m/validation
    python -m mdc_jax.data.prepare.webdataset --from=tars/test --out=data/cc3m/test

Disk, were no address dead: 140 GB for the tars and 130 GB for the records, which keep the bytes of the images.
Computed on 28 November 2026: 3,334,173 pairs by 38 kB, the mean of scikit-learn's two sample photographs as
img2dataset writes them (short side 256, OpenCV's JPEG of quality 95; of 40 wallpapers from Debian it is 33 kB), in a
tar by 3.5 kB of headers and metadata more. The first tar, up to 10,000 pairs, is the test split. The manifests say how
many pairs there are in the end.

Arguments, as in configs/vits_cc3m.py:objective=autoregressive,runlocal
    objective     masked_diffusion | masked_lm | parallel | autoregressive | cappa | clip | siglip
    data          folder of the splits (data/cc3m)
    epochs        passes over the training pairs (32)
    seed          of initialisation, masks and data order (0)
    runlocal      a small model, a small batch, fake data
"""

import ml_collections

from mdc_jax.config import applicable, parse_argument, recipe


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    arg = parse_argument(argument, objective="masked_diffusion", data="data/cc3m", epochs=32, seed=0, runlocal=False)
    config = recipe.web(arg.objective, variant="S/16", data=arg.data, seed=arg.seed)
    config.duration = f"{arg.epochs} epochs"
    config.data.batch_size = 1024
    return applicable(recipe.web_local(config) if arg.runlocal else config)
