"""Goodput of a run that is interrupted, by its log and by who watches it from outside.

What is productive: see "Goodput" in the README of `mdc_jax/training`.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mdc_jax.config import sections, steps
from mdc_jax.data.sources import open_source


@dataclasses.dataclass
class Stopwatch:
    """Times the steps of a run by when their lines appear in its log.

    `pauses` are the numbers of steps after which it saves or evaluates, again and again: what it does then is no step.
    """

    pauses: Collection[int]
    _last: tuple[int, float | None] = (0, None)  # the last step, and when it appeared
    _timed: list[tuple[int, int, float]] = dataclasses.field(default_factory=list)  # from, to, seconds

    def start(self, found: int) -> None:
        """A process starts, and finds lines up to this step in the log; its first step compiles."""
        self._last, self._timed = (found, None), []

    def see(self, step: int, now: float) -> None:
        last, appeared = self._last
        if step <= last:
            return
        if appeared is not None and not any(-(-last // every) * every < step for every in self.pauses):
            self._timed.append((last, step, now - appeared))
        self._last = step, now

    def timed(self, saved: int) -> dict[str, float]:
        """What was timed of a process that has ended; steps after the one that it saved do not count."""
        kept = [(step - last, seconds) for last, step, seconds in self._timed if step <= saved]
        return {"timed_steps": sum(steps for steps, _ in kept), "timed_seconds": sum(seconds for _, seconds in kept)}


@dataclasses.dataclass(frozen=True)
class Goodput:
    """The productive share of the `seconds` of a disturbed run, its starts and ends among them, by two clocks."""

    seconds: float
    by_the_log: float
    by_the_clock: float


def of(events: Sequence[Mapping[str, Any]], log: Sequence[Mapping[str, float]]) -> Goodput:
    """Of a run with these events and this log, of which the clock uses no time.

    The clock takes all steps that count for as long as those were in the mean which it timed, and the first step of
    every start that saved something for none.
    """
    seconds = sum(event["seconds"] for event in events)
    productive = max(line.get("train/productive_seconds", 0.0) for line in log)
    ends = [event for event in events if event.get("saved")]
    saved = {event["saved"] for event in ends}
    step_seconds = sum(end["timed_seconds"] for end in ends) / max(sum(end["timed_steps"] for end in ends), 1)
    return Goodput(seconds, productive / seconds, (max(saved) - len(saved)) * step_seconds / seconds)


def pauses(config: sections.Config) -> set[int]:
    """The numbers of steps after which a run saves or evaluates, again and again."""
    count, batch_size = len(open_source(config.data.train)), config.data.batch_size
    every = {config.checkpoint.every, *(section.every for section in config.evaluators.values())} - {"end"}
    return {steps(text, batch_size=batch_size, examples_per_epoch=count) for text in every}
