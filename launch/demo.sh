#!/usr/bin/env bash
# Trains MDC on the built-in scenes; ends with a table of results and the path of a picture.
#
#   bash launch/demo.sh [flags of mdc_jax.main, as in --config.seed=1 --workdir=runs/demo_seed1]
set -euo pipefail
cd "$(dirname "$0")/.."

bash launch/setup.sh
exec .venv/bin/python -m mdc_jax.main --config=configs/scenes.py --workdir=runs/demo "$@"
