#!/usr/bin/env bash
# Makes .venv and installs the requirements in it; does nothing where that is done already.
#
#   bash launch/setup.sh [--dry_run] [--dev | --gpu | --tpu]     also what the tests need, or JAX for this accelerator
#
# --dry_run prints what would be run.
# PYTHON=/path/to/python chooses the interpreter; by default the newest tested one on the path.
set -euo pipefail
cd "$(dirname "$0")/.."

# A python3.x on the path may be a shim that only prints an error, so every candidate is run.
works() { "$@" >/dev/null 2>&1; }
recent() { works "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; }

candidates=(python3.13 python3.12 python3.11 python3)
if [[ -n ${PYTHON:-} ]]; then candidates=("$PYTHON"); fi

find_python() {
  local candidate without_venv=""
  for candidate in "${candidates[@]}"; do
    recent "$candidate" || continue
    if works "$candidate" -c 'import venv, ensurepip'; then
      echo "$candidate"
      return
    fi
    without_venv=${without_venv:-$candidate}
  done
  if [[ -n $without_venv ]]; then
    echo "$without_venv cannot make virtual environments: its venv module is missing." >&2
    echo "On Debian and Ubuntu: sudo apt-get install $(basename "$without_venv")-venv" >&2
  else
    echo "Python 3.11 or newer is needed; tried: ${candidates[*]}" >&2
    echo "Install one (https://www.python.org/downloads), or name it: PYTHON=/path/to/python3.12 bash $0" >&2
  fi
  return 1
}

dry_run=""
if [[ ${1:-} == --dry_run ]]; then dry_run=yes; shift; fi
run() { if [[ $dry_run ]]; then printf '%q ' "$@" && echo; else "$@"; fi; }

files=(requirements.txt)
case "${1:-}" in
  "") ;;
  --dev | --gpu | --tpu) files+=("requirements-${1#--}.txt") ;;
  *) echo "usage: bash $0 [--dry_run] [--dev | --gpu | --tpu]" >&2; exit 2 ;;
esac

if ! { recent .venv/bin/python && works .venv/bin/python -m pip --version; }; then
  python=$(find_python)
  echo "Making .venv with $("$python" --version) ..."
  run "$python" -m venv --clear .venv
fi

# A copy of each installed file stays in .venv; it is only written once the installation has worked.
changed=()
for file in "${files[@]}"; do
  cmp -s "$file" ".venv/$file" || changed+=("$file")
done
if ((${#changed[@]})); then
  echo "Installing ${changed[*]}; this can take some minutes ..."
  run .venv/bin/python -m pip install -qq --disable-pip-version-check "${changed[@]/#/-r}"
  run cp "${changed[@]}" .venv
fi
