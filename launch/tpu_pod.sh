#!/usr/bin/env bash
# Trains on a TPU slice of Google Cloud, from an empty zone to a finished run; see launch/README.md.
#
#   export NAME=vitb ZONE=us-west4-a ACCELERATOR=v5litepod-16 RUNTIME=v2-alpha-tpuv5-lite
#   bash launch/tpu_pod.sh babysit --config=configs/vitb_recap.py:data=gs://BUCKET/recap --workdir=gs://BUCKET/runs/vitb
#
# babysit FLAGS   create, setup, run and watch; after a preemption again with the same workdir; delete at the end
# create          ask for the slice, wait for it      status   of the slice and of its workers
# setup           code and packages, on all workers   logs     follow worker 0
# run FLAGS       start in the background             stop     save and end
#                                                     delete   the slice, and with it the costs
#
# bash launch/tpu_pod.sh --dry_run VERB ... prints the commands and runs none.
set -euo pipefail
cd "$(dirname "$0")/.."

dry=
arguments=()
for argument in "$@"; do # --dry_run may stand anywhere: where it was overlooked, machines would be started
  if [[ $argument == --dry_run ]]; then dry=yes; else arguments+=("$argument"); fi
done
set -- ${arguments[@]+"${arguments[@]}"}
verb=${1:-}
shift || true
: "${NAME:?give the slice a name, as in NAME=vitb}"
: "${ZONE:?where the slice is, as in ZONE=us-west4-a; gcloud compute tpus locations list has all}"
: "${ACCELERATOR:?type and size of the slice, as in ACCELERATOR=v5litepod-16}"
: "${RUNTIME:?v2-alpha-tpuv5-lite for v5e, v2-alpha-tpuv5 for v5p, v2-alpha-tpuv6e for v6e, else tpu-ubuntu2204-base}"
TIER=${TIER:-spot}          # or on_demand, or reserved
ATTEMPTS=${ATTEMPTS:-20}    # of babysit, each from the request of a slice to the end of the run on it
MAX_HOURS=${MAX_HOURS:-168} # that babysit, or create, takes in all
POLL=${POLL:-60}            # seconds between two looks
if [[ $verb == run || $verb == babysit ]] && [[ " $* " != *" --workdir=gs://"* ]]; then
  echo "give --workdir=gs://BUCKET/...: the workers share it, and it outlives the slice" >&2
  exit 2
fi

place=("--zone=$ZONE" --quiet)
slice=("--node-id=$NAME" "--accelerator-type=$ACCELERATOR" "--runtime-version=$RUNTIME")
if [[ $TIER != on_demand ]]; then slice+=("--$TIER"); fi
ssh=(gcloud compute tpus tpu-vm ssh "$NAME" "${place[@]}")
worker="bash mdc_jax/launch/worker.sh" # over there
kept=runs/launch/$NAME
interrupted=143
exec 3>&1 # where commands are printed, also those whose output is read

run() { { printf '%q ' "$@"; echo; } >&3; [[ -n $dry ]] || "$@"; }
# Runs what answers a question; a dry run assumes the answer.
ask() { local assumed=$1; shift; run "$@" && if [[ -n $dry ]]; then echo "$assumed"; fi; }
overdue() { ((SECONDS >= MAX_HOURS * 3600)); }
answers() { ask "$1" "${ssh[@]}" --worker=all "--command=$worker status" | grep -Ex 'running|lost|exit [0-9]+'; }

# `list`, since `describe` fails alike where there is no slice and where there is no connection.
state_of() {
  local states
  states=$(ask "$1" gcloud compute tpus "$2" list "${place[@]}" "--format=value(name.basename(),$3)") ||
    states="$NAME UNKNOWN"
  awk -v name="$NAME" '$1 == name { state = $2 } END { print state ? state : "ABSENT" }' <<<"$states"
}
request_state() { state_of "" queued-resources state.state; }
slice_state() { state_of "$NAME READY" tpu-vm state; }

request() { run gcloud compute tpus queued-resources create "$NAME" "${place[@]}" "${slice[@]}"; }
delete() { run gcloud compute tpus queued-resources delete "$NAME" "${place[@]}" --force; }

create() {
  local blind=0
  case $(request_state) in
    UNKNOWN) # at first wrong settings or no login, later a lost connection
      if ((${attempt:-1} == 1)); then
        echo "gcloud cannot list the slices in $ZONE; what it says stands above" >&2
        exit 1
      fi
      ;;
    ABSENT) request ;;
    FAILED | SUSPEND*) delete && request ;; # a preempted slice keeps its name until it is deleted
  esac || return
  until [[ $(slice_state) == READY ]]; do
    case $(request_state) in
      ABSENT | FAILED | SUSPEND*) echo "the request of a slice failed" >&2; return 1 ;;
      UNKNOWN) if ((++blind == 20)); then echo "gcloud does not answer" >&2; return 1; fi ;;
      *) blind=0 ;;
    esac
    if overdue; then echo "no slice within MAX_HOURS=$MAX_HOURS" >&2; return 1; fi
    run sleep "$POLL"
  done
}

# All files but those that git ignores. Every attempt of babysit runs the same code, whatever is edited meanwhile.
pack() {
  run mkdir -p "$kept"
  # shellcheck disable=SC2016 # $0 is the archive
  run bash -c 'git ls-files -z -co --exclude-standard | tar -cz --null -T- -f "$0"' "$kept/code.tar.gz"
}

setup() { # with uv, since the workers' own Python is 3.10
  run gcloud compute tpus tpu-vm scp "$kept/code.tar.gz" "$NAME:" "${place[@]}" --worker=all || return
  # shellcheck disable=SC2016 # expanded over there
  run "${ssh[@]}" --worker=all --command='set -e; mkdir -p mdc_jax; tar -xzf code.tar.gz -C mdc_jax; cd mdc_jax
python3 -m pip install --quiet --user uv; uv=~/.local/bin/uv; $uv python install 3.12
PYTHON=$($uv python find 3.12) bash launch/setup.sh --tpu'
}

start() { run "${ssh[@]}" --worker=all "--command=$worker start --coordinator=auto$(printf ' %q' "$@")"; }

# Waits for the end of the run; returns its code, or $interrupted where it has to go on, on another slice.
watch() {
  local states code blind=0
  until overdue || ((blind == 20)); do
    run sleep "$POLL"
    case $(slice_state) in READY | UNKNOWN) ;; *) return $interrupted ;; esac
    if ! states=$(answers "exit 0"); then blind=$((blind + 1)); continue; fi
    blind=0
    echo "$(date '+%F %T') workers: $(sort <<<"$states" | uniq -c | xargs)"
    if grep -Eqx "lost|exit $interrupted" <<<"$states"; then return $interrupted; fi
    code=$(awk '$1 == "exit" && $2 > code { code = $2 } END { print code + 0 }' <<<"$states")
    if ((code > 0)); then # workers that lose each other in a preemption fail before the slice's state tells of it
      run sleep "$POLL"
      if [[ $(slice_state) == READY ]]; then return "$code"; else return $interrupted; fi
    fi
    if ! grep -qx running <<<"$states"; then return 0; fi
  done
  return $interrupted
}

babysit() {
  local attempt code logs
  pack
  for ((attempt = 1; attempt <= ATTEMPTS; attempt++)); do
    if ((attempt > 1)); then
      echo "interrupted; attempt $attempt of $ATTEMPTS"
      delete || true # where there is none any more
      run sleep "$POLL"
    fi
    code=$interrupted
    if create && { grep -qx running <<<"$(answers "")" || { setup && start "$@"; }; }; then
      code=0
      watch || code=$?
      logs=$kept/attempt_$attempt
      run mkdir -p "$logs"
      run "${ssh[@]}" --worker=all "--output-directory=$logs" --command='cat mdc_jax/runs/worker/log' || true
    fi
    if ((code != interrupted)) || overdue; then break; fi
  done
  delete || echo "$NAME may still cost money: bash $0 delete" >&2
  echo "ended with code $code; what the workers printed is in $kept"
  return "$code"
}

case $verb in
  babysit) babysit "$@" ;;
  create | delete) "$verb" ;;
  setup) pack && setup ;;
  run) start "$@" ;;
  status) echo "request: $(request_state), slice: $(slice_state), workers: $(answers "exit 0" | xargs)" ;;
  logs) run "${ssh[@]}" --worker=0 --command='tail -n 100 -f mdc_jax/runs/worker/log' ;;
  stop) run "${ssh[@]}" --worker=all "--command=$worker stop" ;;
  *) sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
