"""What users get wrong on the command line is answered with the key, the value and the fix, in plain words."""

import pathlib

import pytest

from tests import commands
from tests.end_to_end.command_line import ROOT, TINY, run

UNKNOWN_KEY_INSIDE = """
from mdc_jax.config import defaults

def get_config():
    config = defaults()
    config.data.train = "scenes:train"
    with config.unlocked():
        config.optimizer.weight_decai = 0.5
    return config
"""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            [f"--config={TINY}", "--config.optimizer.warm_up=7"],
            ["optimizer.warm_up", '"warmup"'],
            id="unknown key",
        ),
        pytest.param(
            [f"--config={TINY}", "--config.profile=3:5"],
            ['no key "profile"', "log.profile"],
            id="key of another section",
        ),
        pytest.param(
            [f"--config={TINY}", "--config.data.batch_size=many"],
            ["data.batch_size", "many", "int"],
            id="mistyped value",
        ),
        pytest.param(
            [f"--config={TINY}", "--config.data.batch_size=12"],
            ["data.batch_size=12", "multiple of 8"],
            id="batch does not fit the mesh",
        ),
        pytest.param(
            [f"--config={TINY}", "--config.mesh.fsdp=3"],
            ["fsdp=3", "8 devices", "mesh.data=8"],
            id="mesh does not fit the devices",
        ),
        pytest.param(
            [f"--config={TINY}", "--config.image.size=50"],
            ["image.size=50", "8 pixels", "48 and 56"],
            id="patch does not divide the image",
        ),
        pytest.param(
            [f"--config={TINY}", "--config.duration=ten weeks"],
            ["duration", "ten weeks", "steps, epochs, examples"],
            id="duration without a unit",
        ),
        pytest.param(
            [f"--config={TINY}", "--config.data.train=scnes:train"],
            ["scnes", "scenes"],
            id="unknown source",
        ),
        pytest.param(
            [f"--config={TINY}", "--dry_compile=v5e"],
            ["--dry_compile=v5e", "v5e:16x16", "cpu:8"],
            id="topology without a layout",
        ),
        pytest.param(["--config=configs/scene.py"], ["configs/scene.py", "configs/scenes.py"], id="no such config"),
        pytest.param(["--config=configs/scenes.py:runlocl"], ["runlocl", '"runlocal"'], id="unknown argument"),
        pytest.param([], ["--config"], id="no config"),
        pytest.param([f"--config={TINY}", "seed=1"], ["unexpected arguments seed=1", "--config=help"], id="no flag"),
    ],
)
def test_bad_input(arguments: list[str], expected: list[str], tmp_path: pathlib.Path) -> None:
    _assert_refused([*arguments, f"--workdir={tmp_path / 'run'}"], expected)


def test_unknown_key_inside_a_config_file(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "typo.py"
    file.write_text(UNKNOWN_KEY_INSIDE)
    _assert_refused(
        [f"--config={file}", f"--workdir={tmp_path / 'run'}"], ["optimizer.weight_decai", "0.5", '"weight_decay"']
    )


def test_no_workdir() -> None:
    _assert_refused([f"--config={TINY}"], ["--workdir"])


@pytest.mark.slow
def test_workdir_of_another_run(undisturbed: pathlib.Path) -> None:
    _assert_refused(
        [f"--config={TINY}", f"--workdir={undisturbed}", "--config.model.encoder.width=48"],
        ["model.encoder.width", "32", "48", "--workdir"],
    )


def test_help_describes_every_shipped_config() -> None:
    code, output = run("--config=help")
    assert code == 0, output
    shipped = [path.name for path in (ROOT / "configs").glob("*.py")]
    assert shipped
    for name in shipped:
        assert f"configs/{name}" in output
        assert f"--config=configs/{name}" in output, f"the docstring of {name} shows no command"


@pytest.mark.parametrize("wrong", ["runs/other", "--setp=3"])
@pytest.mark.parametrize("command", ["describe", "evaluate", "export --out=x", "extract --images=x --out=x"])
def test_commands_without_a_config_name_what_is_wrong(command: str, wrong: str) -> None:
    module, *flags = command.split()
    done = commands.run(f"mdc_jax.{module}", "--workdir=x", *flags, wrong)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert wrong.strip("-").partition("=")[0] in done.stderr and "--help" in done.stderr
    assert "--config" not in done.stderr


def _assert_refused(arguments: list[str], expected: list[str]) -> None:
    code, output = run(*arguments, devices=8)
    assert code not in (0, None), output
    assert "Traceback" not in output, output
    for part in expected:
        assert part in output, output
