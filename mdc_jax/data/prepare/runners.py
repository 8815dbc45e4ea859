"""Where shards are written: in processes of this machine, or by an Apache Beam pipeline on many. Equal bytes anyhow."""

import concurrent.futures
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Sequence
from typing import Any

from mdc_jax.data.prepare.manifest import Shard
from mdc_jax.data.prepare.records import Runner, Task, finished, in_process


def runner(workers: int, beam: str = "", beam_options: Sequence[str] = ()) -> Runner:
    """A way to call tasks.

    Args:
      workers: processes of this machine; 1: this one.
      beam: instead, the name of a Beam runner, as "DirectRunner".
      beam_options: its options, as on a command line.

    Raises:
      ValueError: apache-beam is not installed or knows no such runner, or there are options for it and no runner.
    """
    if beam:
        pipeline = _pipeline([f"--runner={beam}", *beam_options])  # what is wrong is said before anything is written
        return lambda tasks: _beam(tasks, pipeline)
    if beam_options:
        raise ValueError(f"{' '.join(beam_options)}: further arguments are for Apache Beam; name its --runner too")
    if workers < 1:
        raise ValueError(f"--workers={workers}: need at least 1")
    return in_process if workers == 1 else lambda tasks: _processes(tasks, workers)


def _processes(tasks: Sequence[Task], workers: int) -> Generator[tuple[Task, Shard], None, None]:
    executor = concurrent.futures.ProcessPoolExecutor(
        min(workers, max(len(tasks), 1)), multiprocessing.get_context("spawn"), begin
    )
    rest = iter(tasks)
    try:
        # A few tasks ahead keep every process busy; all of them at once would cost memory.
        pending = {executor.submit(task): task for task in itertools.islice(rest, 2 * workers)}
        while pending:
            done, _ = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                yield pending.pop(future), future.result()
                pending |= {executor.submit(task): task for task in itertools.islice(rest, 1)}
    except concurrent.futures.process.BrokenProcessPool as error:
        raise OSError("a process was killed, perhaps for its memory; run again with fewer --workers") from error
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def begin() -> None:
    """A worker leaves interrupts to the process that started it, and ends with it, even where that was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _pipeline(options: Sequence[str]) -> Any:
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise ValueError("--runner needs Apache Beam: pip install -r requirements-beam.txt") from error
    return apache_beam.Pipeline(options=PipelineOptions(list(options)))


def _beam(tasks: Sequence[Task], pipeline: Any) -> Generator[tuple[Task, Shard], None, None]:
    """All workers must see the same files. What they report they leave in the journal."""
    import apache_beam

    try:
        with pipeline:
            _ = (
                pipeline
                | "Shards to write" >> apache_beam.Create(tasks)
                | "Spread" >> apache_beam.Reshuffle()
                | "Write" >> apache_beam.Map(_write)
            )
    except Exception:  # Beam makes an error of its own of what a task raises
        for task in tasks:
            task.check()
        raise
    shards = finished(tasks[0].directory) if tasks else {}
    for task in tasks:
        yield task, shards[task.plan.name]


def _write(task: Task) -> str:
    """The name of the file; a function of a module, which Beam pickles by its name."""
    task()
    return task.plan.name
