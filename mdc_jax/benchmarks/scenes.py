"""Scenes with captions per second on one core.

python -m mdc_jax.benchmarks.scenes
"""

import time

import cv2

from mdc_jax.data.sources import scenes

_SCENES = 2_000
_REPEATS = 3


def main() -> None:
    """Prints the processor time of this one thread, so that other work on the machine counts little."""
    cv2.setNumThreads(1)
    print(f"{'layout':8}{'size':>6}{'sentences':>11}{'scenes/s':>10}")
    for layout in ("grid", "free"):
        for size in (48, 64):
            for sentences in (1, 4):
                source = scenes.open(f"train,size={size},layout={layout},sentences={sentences}")
                print(f"{layout:8}{size:6}{sentences:11}{_rate(source):10,.0f}", flush=True)


def _rate(source: scenes.ScenesSource) -> float:
    """The best of some repeats, after a warm-up that fills the grammar's tables."""
    times = []
    for repeat in range(_REPEATS + 1):
        start = time.process_time()
        for index in range(repeat * _SCENES, (repeat + 1) * _SCENES):
            source[index]
        times.append(time.process_time() - start)
    return _SCENES / min(times[1:])


if __name__ == "__main__":
    main()
