"""The line of what takes a while."""

from mdc_jax.progress import Progress


def test_progress_says_how_long_the_rest_takes():
    progress = Progress("scenes", total=1_500, done=500)  # of an earlier start, which took none of these seconds
    assert progress.line(750, seconds=60) == "scenes: 750 of 1,500, 0:03:00 left"
    assert progress.line(500, seconds=60).startswith("scenes: 500 of 1,500")
    assert progress.line(1_600, seconds=60) == "scenes: 1,500 of 1,500, 0:00:00 left"
