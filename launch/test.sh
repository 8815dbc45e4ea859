#!/usr/bin/env bash
# Installs what the tests need and passes them.
#
#   bash launch/test.sh [--dry_run] [--fast] [--all] [--torch] [--beam] [arguments of pytest]
#
# --dry_run prints what would be run.
# --fast leaves out the tests marked slow. Tests marked long, whole runs and variants of a kind of which others are in, are
# left out too, unless --all is given.
# --torch installs PyTorch, timm and transformers, and also passes the tests that compare exports with them. Where a GPU
# is not to be used, install the CPU build of PyTorch in .venv before. --beam installs Apache Beam, which pins older
# releases of some packages, and also passes the test of its local runner.
set -euo pipefail
cd "$(dirname "$0")/.."

dry_run="" left_out=(-m "not long") extras=()
while [[ ${1:-} == --dry_run || ${1:-} == --fast || ${1:-} == --all || ${1:-} == --torch || ${1:-} == --beam ]]; do
  case $1 in
    --dry_run) dry_run=yes ;;
    --fast) left_out=(-m "not slow and not long") ;;
    --all) left_out=() ;;
    --torch) extras+=(-r requirements-exchange-test.txt) ;;
    --beam) extras+=(-r requirements-beam.txt) ;;
  esac
  shift
done
run() { if [[ $dry_run ]]; then printf '%q ' "$@" && echo; else "$@"; fi; }

bash launch/setup.sh ${dry_run:+--dry_run} --dev
if ((${#extras[@]})); then
  run .venv/bin/python -m pip install -qq --disable-pip-version-check "${extras[@]}"
fi
run .venv/bin/ruff check .
run .venv/bin/ruff format --check .
# Most of the time is compilation, which uses one core.
run .venv/bin/python -m pytest -n 2 --dist worksteal ${left_out[@]+"${left_out[@]}"} "$@"
