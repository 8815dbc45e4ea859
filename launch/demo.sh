#!/usr/bin/env bash
# Trains MDC on the built-in scenes; ends with a table of results and the path of a picture.
#
#   bash launch/demo.sh [--dry_run] [flags of mdc_jax.main, as in --config.seed=1 --workdir=runs/demo_seed1]
#
# --dry_run prints what would be run.
set -euo pipefail
cd "$(dirname "$0")/.."

dry_run=""
if [[ ${1:-} == --dry_run ]]; then dry_run=yes; shift; fi

bash launch/setup.sh ${dry_run:+--dry_run}
train=(.venv/bin/python -m mdc_jax.main --config=configs/scenes.py --workdir=runs/demo "$@")
if [[ $dry_run ]]; then printf '%q ' "${train[@]}" && echo; else exec "${train[@]}"; fi
