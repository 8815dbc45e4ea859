"""Wherever shards are written, they are the same; what ends a run leaves no process behind."""

import contextlib
import dataclasses
import importlib.util
import os
import pathlib
import pickle
import signal
import sys
import time
import types

import pytest

from mdc_jax.data.prepare import runners
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.prepare.manifest import Manifest
from mdc_jax.data.prepare.records import OtherInputs
from tests.data.test_samples import prepare, sample, write_tar

TARS = 6


@dataclasses.dataclass(frozen=True)
class Plan:
    """Writes one example; or does what its kind says. Instances go to other processes."""

    number: int
    kind: str = ""

    name = property(lambda self: f"train-{self.number}.arrayrecord")
    split = "train"
    size = 1
    inputs = property(lambda self: f"inputs {self.number}")

    def examples(self):
        if self.kind == "fails":
            raise OSError(f"disk {self.number} is gone")
        if self.kind == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "sleeps":
            pathlib.Path(os.environ["PIDS"], str(os.getpid())).touch()
            time.sleep(60)
        yield Example(b"image", (f"caption {self.number}",))


def _content(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def tars(tmp_path):
    return [
        write_tar(tmp_path / f"{n}.tar", [sample(f"{n}{k}", "" if k == 3 else f"{n} {k}") for k in range(5)])
        for n in range(TARS)
    ]


def _prepare(out, tars, run, replace=True):
    from mdc_jax.data.prepare.samples import TarPlan

    return prepare(out, *[TarPlan(tar) for tar in tars], run=run, replace=replace)


def test_two_processes_write_the_same_bytes_as_one(tars, tmp_path):
    _prepare(tmp_path / "one", tars, runners.runner(1))
    manifest = _prepare(tmp_path / "two", tars, runners.runner(2))
    assert manifest.all_dropped() == {"empty caption": TARS}
    assert _content(tmp_path / "one") == _content(tmp_path / "two")


def test_a_failure_or_a_killed_process_ends_the_run_and_the_rest_is_kept(tmp_path):
    plans = [Plan(0), Plan(1), Plan(2, "fails")]
    with pytest.raises(OSError, match="disk 2 is gone"):
        prepare(tmp_path / "out", *plans, run=runners.runner(2))
    with pytest.raises(OSError, match=r"a process was killed.*fewer --workers"):
        prepare(tmp_path / "out", Plan(0), Plan(1), Plan(2, "dies"), run=runners.runner(2))
    manifest = prepare(tmp_path / "out", Plan(0), Plan(1), Plan(2), run=runners.runner(2))
    assert manifest.counts() == {"train": 3}


def test_workers_end_with_the_process_that_started_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    (tmp_path / "pids").mkdir()
    parent = os.fork()
    if parent == 0:
        prepare(tmp_path / "out", Plan(0, "sleeps"), Plan(1, "sleeps"), run=runners.runner(2))
        os._exit(0)
    deadline = time.monotonic() + 60
    while len(pids := [int(path.name) for path in (tmp_path / "pids").iterdir()]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    while any(pathlib.Path("/proc", str(pid)).exists() and _alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "workers outlived their parent"
        time.sleep(0.05)


def _alive(pid):
    try:
        return "\nState:\tZ" not in pathlib.Path("/proc", str(pid), "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_wrong_ways_are_explained(tmp_path):
    with pytest.raises(ValueError, match=r"--direct_num_workers=2: further arguments are for Apache Beam"):
        runners.runner(1, "", ["--direct_num_workers=2"])
    if importlib.util.find_spec("apache_beam") is None:
        prepare(tmp_path / "out", Plan(0))
        with pytest.raises(ValueError, match=r"pip install -r requirements-beam\.txt"):
            prepare(tmp_path / "out", Plan(0), run=runners.runner(1, "DirectRunner"))
        assert Manifest.read(tmp_path / "out").complete  # what was there is still whole


class _Step:
    """A transform of `_Beam`."""

    def __init__(self, apply):
        self.apply = apply

    def __rrshift__(self, label):
        return self


class _Values(list, contextlib.AbstractContextManager):
    def __exit__(self, *_):
        pass

    def __or__(self, step):
        try:
            return _Values(step.apply(self))
        except Exception as error:
            raise RuntimeError("a worker failed") from error


class _Beam(types.ModuleType):
    """As much of Apache Beam as the pipeline uses, in this process; what would travel to workers is pickled."""

    Create = staticmethod(lambda values: _Step(lambda _: values))
    Reshuffle = staticmethod(lambda: _Step(lambda values: values[::-1]))
    Map = staticmethod(
        lambda function: _Step(
            lambda values: [pickle.loads(pickle.dumps(function))(v) for v in pickle.loads(pickle.dumps(values))]
        )
    )

    @staticmethod
    def Pipeline(options):
        assert options == ["--runner=Any"]
        return _Values()


def test_what_a_pipeline_wrote_is_found_again(tars, tmp_path, monkeypatch):
    _prepare(tmp_path / "one", tars, runners.runner(1))
    options = types.ModuleType("apache_beam.options.pipeline_options")
    options.PipelineOptions = list
    for name, module in (("apache_beam", _Beam("beam")), ("apache_beam.options", options), (options.__name__, options)):
        monkeypatch.setitem(sys.modules, name, module)
    manifest = _prepare(tmp_path / "beam", tars, runners.runner(1, "Any"))
    assert manifest.counts() == {"train": 4 * TARS}
    assert _content(tmp_path / "beam") == _content(tmp_path / "one")
    _refuses_other_data(tmp_path / "beam", tars, "Any")


def _refuses_other_data(out, tars, runner, options=()):
    """Whatever Beam makes of the error of a task; the folder stays as it was."""
    before = _content(out)
    write_tar(tars[2], [sample("20", f"other data for {out}")])
    with pytest.raises(OtherInputs, match=r"2\.arrayrecord was made from other data"):
        _prepare(out, tars, runners.runner(1, runner, options), replace=False)
    assert _content(out) == before


@pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None,
    reason="the pipeline was not run: install requirements-beam.txt in an environment of its own",
)
def test_beams_local_runner_writes_the_same_bytes(tars, tmp_path):
    _prepare(tmp_path / "one", tars, runners.runner(1))
    options = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    for number, more in enumerate(([], options)):
        manifest = _prepare(tmp_path / f"beam{number}", tars, runners.runner(1, "DirectRunner", more))
        assert manifest.counts() == {"train": 4 * TARS}
        assert _content(tmp_path / f"beam{number}") == _content(tmp_path / "one")
    for number, more in enumerate(([], options)):
        _refuses_other_data(tmp_path / f"beam{number}", tars, "DirectRunner", more)
