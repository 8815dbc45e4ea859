"""Runs commands in processes forked from one that has imported the libraries, which takes a process seconds."""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping

ROOT = pathlib.Path(__file__).parents[1]
# None of the project's own modules: a command imports the files that lie where it runs.
_LIBRARIES = ["absl.app", "cv2", "flax.linen", "grain", "ml_collections.config_flags", "optax", "orbax.checkpoint"]


def xla_flags(devices: int) -> str:
    """XLA_FLAGS for so many fake CPU devices, and for programs that are compiled for longer than they run.

    The emitters of fusions that are left out make faster programs, and take a third of the time of compiling them.
    """
    return f"--xla_force_host_platform_device_count={devices} --xla_cpu_use_fusion_emitters=false"


def run(
    module: str,
    *arguments: object,
    cwd: pathlib.Path = ROOT,
    environment: Mapping[str, str] = types.MappingProxyType({}),
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """`python -m MODULE ARGUMENTS`; one that takes longer than `timeout` seconds is killed.

    Args:
      environment: variables on top of those of the tests; what libraries read when they are imported has no effect.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LIBRARIES)
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        files = [pathlib.Path(folder, name) for name in ("stdout", "stderr")]
        process = context.Process(target=_run, args=(module, words, cwd, {**os.environ, **environment}, files))
        process.start()
        process.join(timeout)
        process.kill()
        process.join()
        return subprocess.CompletedProcess([module, *words], process.exitcode, *(file.read_text() for file in files))


def _run(
    module: str, words: list[str], cwd: pathlib.Path, environment: dict[str, str], files: list[pathlib.Path]
) -> None:
    for descriptor, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv, sys.path = [module, *words], [str(cwd), *sys.path]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
