"""`mdc_jax.main` on a mesh in which processes do not follow each other, as they do not along the torus of a TPU slice:

python -m tests.end_to_end.torus --config=FILE --workdir=DIR ...
"""

import runpy
from collections.abc import Sequence
from typing import Any

import jax

_make_mesh = jax.make_mesh


def _interleaved(*arguments: Any, devices: Sequence[jax.Device], **options: Any) -> jax.sharding.Mesh:
    """The devices of even numbers, then those of odd ones."""
    return _make_mesh(*arguments, devices=[*devices[::2], *devices[1::2]], **options)


if __name__ == "__main__":
    jax.make_mesh = _interleaved
    runpy.run_module("mdc_jax.main", run_name="__main__", alter_sys=True)
