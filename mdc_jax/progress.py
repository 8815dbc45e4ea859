"""How far something is that takes a while, on the terminal."""

import jax
import tqdm


def bar(name: str, total: int, *, done: int = 0, unit: str = " examples") -> tqdm.tqdm:
    """A line for what takes longer than two seconds, with the rest at that rate; it goes when all is done.

    Args:
      name: what is worked on.
      total: how much of it there is.
      done: what an earlier start did of it.
      unit: what is counted; "B": bytes.
    """
    first = jax.process_index() == 0
    return tqdm.tqdm(
        desc=name,
        total=total,
        initial=done,
        unit=unit,
        unit_scale=unit == "B",
        leave=False,
        delay=2,
        disable=None if first else True,  # None: unless it is a terminal
    )
