#!/usr/bin/env bash
# Trains on one machine of a pod, in the background, and tells how that stands; the machine starts it, not a user.
#
#   bash launch/worker.sh start [flags of mdc_jax.main]    in the background; nothing where a run is at work already
#   bash launch/worker.sh run [flags of mdc_jax.main]      the same in the foreground
#   bash launch/worker.sh status                           "running", "exit CODE", or "lost" where it ended unseen
#   bash launch/worker.sh stop                             asks it to save and end
#
# The codes are those of the trainer: 0 finished, 143 saved on a signal and not finished, else failed.
# --dry_run prints the trainer's command.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly FOLDER=runs/worker
trainer=(.venv/bin/python -m mdc_jax.main)

# The lock is inherited by the trainer: it tells that one is alive, whatever became of this script.
lock() {
  mkdir -p "$FOLDER"
  exec 9>>"$FOLDER/lock"
  flock --nonblock 9
}

train() { # in place of this shell, so that signals reach the trainer
  echo "$BASHPID" >"$FOLDER/pid"
  exec "${trainer[@]}" "$@"
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
  inherit) # holds the lock of `start`
    code=0
    (train "$@") || code=$?
    echo "$code" >"$FOLDER/exit"
    ;;
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
