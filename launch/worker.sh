#!/usr/bin/env bash
# Trains on one machine of a pod, in the background, and tells how that stands; the machine starts it, not a user.
#
#   bash launch/worker.sh start [flags of mdc_jax.main]    in the background; nothing where a run is at work already
#   bash launch/worker.sh run [flags of mdc_jax.main]      the same in the foreground
#   bash launch/worker.sh status                           "running", "exit CODE", or "lost" where it ended unseen
#   bash launch/worker.sh stop                             asks it to save and end
#
# The trainer ends with code 0 when it has saved after a SIGTERM as when it is finished. Whoever starts it again must
# tell these apart, so the code here is 143 (128 + SIGTERM) where a signal came. --dry_run prints the trainer's command.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly FOLDER=runs/worker STOPPED=143
trainer=(.venv/bin/python -m mdc_jax.main)
trainer_pid=
stopped=

# The lock is inherited by the trainer: it tells that one is alive, whatever became of this script.
lock() {
  mkdir -p "$FOLDER"
  exec 9>>"$FOLDER/lock"
  flock --nonblock 9
}

ask_to_stop() {
  stopped=yes
  if [[ -n $trainer_pid ]]; then kill -TERM "$trainer_pid" 2>/dev/null || true; fi
}

train() {
  echo $$ >"$FOLDER/pid"
  rm -f "$FOLDER/exit"
  trap ask_to_stop TERM
  "${trainer[@]}" "$@" &
  trainer_pid=$!
  local code=0
  wait "$trainer_pid" || code=$?
  if [[ -n $stopped ]]; then
    wait "$trainer_pid" || true # a signal ends the first wait, not the trainer
    code=$STOPPED
  fi
  echo "$code" >"$FOLDER/exit"
  return "$code"
}

verb=${1:-}
shift || true
if [[ ${1:-} == --dry_run ]]; then
  shift
  printf '%q ' "${trainer[@]}" "$@"
  echo
  exit
fi

case $verb in
  start)
    if ! lock; then echo "a run is at work already"; exit; fi
    rm -f "$FOLDER/exit"
    setsid bash "launch/worker.sh" inherit "$@" >"$FOLDER/log" 2>&1 </dev/null &
    ;;
  inherit) train "$@" ;; # holds the lock of `start`
  run)
    lock || { echo "a run is at work already: bash $0 stop" >&2; exit 1; }
    train "$@"
    ;;
  status)
    if ! lock; then echo running
    elif [[ -s $FOLDER/exit ]]; then echo "exit $(<"$FOLDER/exit")"
    else echo lost
    fi
    ;;
  stop) lock || kill -TERM "$(<"$FOLDER/pid")" ;;
  *) echo "usage: bash $0 start|run|status|stop [--dry_run] [flags of mdc_jax.main]" >&2; exit 2 ;;
esac
