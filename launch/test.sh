#!/usr/bin/env bash
# Installs what the tests need and passes them.
#
#   bash launch/test.sh [--fast] [--torch] [arguments of pytest]
#
# --fast leaves out the tests marked slow; --torch installs PyTorch, timm and transformers, and also passes the tests that
# compare exports with them. Where a GPU is not to be used, install the CPU build of PyTorch in .venv before.
set -euo pipefail
cd "$(dirname "$0")/.."

fast=() torch=""
while [[ ${1:-} == --fast || ${1:-} == --torch ]]; do
  if [[ $1 == --fast ]]; then fast=(-m "not slow"); else torch=yes; fi
  shift
done

bash launch/setup.sh --dev
if [[ $torch ]]; then
  .venv/bin/python -m pip install -qq --disable-pip-version-check -r requirements-exchange-test.txt
fi
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/python -m pytest -n 2 --dist worksteal ${fast[@]+"${fast[@]}"} "$@"  # most of the time is compilation, which uses one core
