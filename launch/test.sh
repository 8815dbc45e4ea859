#!/usr/bin/env bash
# Installs what the tests need and passes them.
#
#   bash launch/test.sh [--fast] [arguments of pytest]     --fast: leaves out the tests marked slow
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ ${1:-} == --fast ]]; then
  shift
  set -- -m "not slow" "$@"
fi

bash launch/setup.sh --dev
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/python -m pytest -n 2 "$@"  # most of the time is compilation, which uses one core
