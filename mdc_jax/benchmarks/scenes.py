"""Images with captions that are drawn on demand, a second on one core.

    python -m mdc_jax.benchmarks.scenes
    python -m mdc_jax.benchmarks.scenes collage:data/drawings:train

Without sources, scenes in both layouts.
"""

import itertools
import sys
import time

import cv2

from mdc_jax.data.sources import open_source
from mdc_jax.data.sources.base import Source

_SCENES = [
    f"scenes:train,size={size},layout={layout},sentences={sentences}"
    for layout, size, sentences in itertools.product(("grid", "free"), (48, 64), (1, 4))
]
_IMAGES = 2_000
_REPEATS = 3


def main(specs: list[str]) -> None:
    """Prints the processor time of this one thread, so that other work on the machine counts little."""
    cv2.setNumThreads(1)
    print(f"{'images/s':>10}{'ms':>8}  source")
    for spec in specs or _SCENES:
        rate = _rate(open_source(spec))
        print(f"{rate:10,.0f}{1_000 / rate:8.2f}  {spec}", flush=True)


def _rate(source: Source) -> float:
    """The best of some repeats, after a warm-up that fills the grammar's tables."""
    times = []
    for repeat in range(_REPEATS + 1):
        start = time.process_time()
        for index in range(repeat * _IMAGES, (repeat + 1) * _IMAGES):
            source[index]
        times.append(time.process_time() - start)
    return _IMAGES / min(times[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
