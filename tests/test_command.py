"""Files that flags name are tried before the work, and --help lists every flag of a command."""

import importlib
import os
import re
import subprocess
import sys

import pytest
from absl import flags

from mdc_jax import command
from mdc_jax.benchmarks import input_pipeline
from mdc_jax.config import ConfigError
from tests import commands

_PREPARE = [
    "from",
    "out",
    "workers",
    "short_side",
    "quality",
    "tokenizer",
    "max_bad_share",
    "licence",
    "attribution",
    "runner",
]


def test_a_file_that_cannot_be_written_is_said_before_the_work(tmp_path):
    (tmp_path / "a.png").touch()
    for name in ("a.png/page.html", "a.png/pages/page.html", f"{'x' * 300}.html"):
        with pytest.raises(ConfigError, match=r"--html=.*: no file can be written there: .*(directory|exists|long)"):
            command.place("html", f"{tmp_path}/{name}")
    with pytest.raises(ConfigError, match=r"--csv=.*: this is a folder; name a file in it"):
        command.place("csv", str(tmp_path))
    page = command.place("html", f"{tmp_path}/pages/page.html")
    assert page.parent.is_dir() and not page.exists()
    page.write_text("an older page")
    assert command.place("html", str(page)).read_text() == "an older page"


def test_without_a_name_there_is_no_file_and_a_bucket_is_not_asked():
    assert command.place("csv", None) is command.place("csv", "") is None
    assert str(command.place("csv", "gs://bucket/no/such.csv")) == "gs://bucket/no/such.csv"


def test_a_file_that_fails_in_the_end_is_said():
    with (
        pytest.raises(ConfigError, match=r"--html=page.html: no file can be written there: .* No space left"),
        command.writing("html", "page.html"),
    ):
        raise OSError(28, "No space left on device")


def test_nothing_is_measured_that_has_no_place_to_go(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    found = flags.FlagValues()
    flags.DEFINE_integer("images", 32, "", flag_values=found)
    flags.DEFINE_integer("repeats", 1, "", flag_values=found)
    flags.DEFINE_string("csv", f"{tmp_path}/file/input.csv", "", flag_values=found)
    found.mark_as_parsed()
    monkeypatch.setattr(flags, "FLAGS", found)
    monkeypatch.setattr(input_pipeline, "measured", lambda *_: pytest.fail("measured"))
    with pytest.raises(ConfigError, match=r"--csv=.*: no file can be written there"):
        input_pipeline.main([])


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("data.prepare.webdataset", [*_PREPARE, "split", "columns"]),
        ("data.prepare.folder", [*_PREPARE, "columns"]),
        ("data.prepare.coco", [*_PREPARE, "annotations", "split"]),
        ("data.prepare.recap", [*_PREPARE, "captions", "verify", "split"]),
        ("data.preview", ["config", "out", "records", "images"]),
        ("main", ["config", "workdir", "dry_compile"]),
        ("compare", ["config", "workdir", "plan"]),
        ("caption", ["workdir", "order", "steps", "temperature"]),
        ("evaluate", ["workdir", "evaluator", "set", "max_bad_share"]),
    ],
)
def test_help_lists_every_flag(module, names):
    done = commands.run(f"mdc_jax.{module}", "--help")
    for name in names:
        assert re.search(rf"^  --(\[no\])?{name}:", done.stdout, re.MULTILINE), name


@pytest.mark.parametrize(
    "name", ["decoding", "train_loop", "length_buckets", "checkpoint", "time_to_quality", "largest_batch", "soak"]
)
def test_a_command_that_needs_a_config_says_so(name, monkeypatch):
    found = flags.FlagValues()
    for flag in ("config", "json", "out", "gigabytes", "folder"):
        flags.DEFINE_string(flag, None, "", flag_values=found)
    flags.DEFINE_string("workdir", "runs/one", "", flag_values=found)
    flags.DEFINE_integer("steps", 1, "", flag_values=found)
    found.mark_as_parsed()
    monkeypatch.setattr(flags, "FLAGS", found)
    module = importlib.import_module(f"mdc_jax.benchmarks.{name}")
    with pytest.raises(ConfigError, match=r"give a config, as in --config=configs/.*; --config=help lists them"):
        module.main([])


def test_every_command_that_takes_a_config_lists_them(capsys):
    flags.DEFINE_string("config", None, "", flag_values=(found := flags.FlagValues()))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as left:
        patch.setattr(flags, "FLAGS", found)
        command.parse_flags(["benchmark", "--config=help"])
    assert left.value.code is None and "configs/scenes.py" in capsys.readouterr().out


PRINTS = """
from absl import flags
from mdc_jax import command
flags.FLAGS(["command"])
command.reported(lambda _: print("\\u2591" * 100_000, flush=True))(["command"])
"""


def test_a_reader_that_has_seen_enough_ends_a_command_quietly():
    process = subprocess.Popen(
        [sys.executable, "-c", PRINTS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ("", 1)


def test_a_terminal_without_a_character_shows_another():
    ascii_alone = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", PRINTS], env=ascii_alone, capture_output=True, text=True, check=True)
    assert done.stdout == "?" * 100_000 + "\n"


def test_a_command_line_without_a_flag_has_neither_form_of_it():
    given = ["--config=a.py", "--out", "plan.csv", "--dry_compile=cpu:2", "--out=b.csv", "--output=c"]
    assert command.without("out", given) == ["--config=a.py", "--dry_compile=cpu:2", "--output=c"]
    assert not command.without("out", ["--out"])


def test_a_package_without_the_configs_says_where_they_are(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "_CONFIGS", tmp_path / "configs")
    assert "configs/ is in the repository" in command.describe_configs()
