"""What the driver of a soak passes on; the soak itself is in tests/end_to_end/test_resume.py."""

from mdc_jax.benchmarks import soak


def test_the_runs_get_the_whole_config_of_the_command() -> None:
    command = ["--kills=3", "--config", "a.py:x", "--workdir", "w", "--config.seed=3", "--config.lr", "-1", "--seed=2"]
    assert soak.config_arguments(command) == ["--config", "a.py:x", "--config.seed=3", "--config.lr", "-1"]
    command = ["--config=a.py", "--config.flip", "--workdir=w"]
    assert soak.config_arguments(command) == command[:2]
