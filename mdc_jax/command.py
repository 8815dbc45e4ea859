"""What the commands share: config flags, and errors that name the fix instead of a traceback."""

import ast
import contextlib
import dataclasses
import functools
import importlib.util
import itertools
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import ml_collections
from absl import flags, logging
from etils import epath
from ml_collections import config_flags

from mdc_jax.config import ConfigError
from mdc_jax.config.parse import did_you_mean
from mdc_jax.data.texts import readable

flags.disclaim_key_flags()  # what is defined for a command is listed by its --help

_CONFIGS = pathlib.Path(__file__).parents[1] / "configs"


def define_config() -> flags.FlagHolder:
    """Defines --config=FILE[:ARGUMENT] and its overrides --config.section.key=value."""
    return config_flags.DEFINE_config_file(
        "config", None, 'Config file, as in configs/scenes.py:runlocal; "help" lists them.'
    )


def given_config(example: str) -> ml_collections.ConfigDict:
    """The config of --config; raises ConfigError, which names `example`, where none was given."""
    if flags.FLAGS.config is None:
        raise ConfigError(f"give a config, as in --config={example}; --config=help lists them")
    return flags.FLAGS.config


def literal(text: str) -> Any:
    """What a text means as Python writes it, a number or a tuple for instance; else the text itself."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def skipped(name: str | os.PathLike[str], why: object) -> None:
    """Names on stderr a file that a command leaves out."""
    print(f"skipped {readable(name)}: {why}", file=sys.stderr)


def define_fields(section: type, names: Iterable[str]) -> None:
    """Defines a flag for each of these fields of a settings dataclass, of its type and default."""
    define = {int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}
    text = f"See {section.__name__} in mdc_jax/config/sections.py."
    fields = {field.name: field for field in dataclasses.fields(section)}
    for name in names:
        default, choices = fields[name].default, fields[name].metadata.get("choices")
        if choices:
            flags.DEFINE_enum(name, default, choices, text)
        else:
            define[type(default)](name, default, text)


@contextlib.contextmanager
def writing(flag: str, file: str) -> Iterator[None]:
    """Makes an OSError a ConfigError that names the flag."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"--{flag}={file}: no file can be written there: {error}") from error


def make_folder(flag: str, name: str) -> None:
    """Makes the folder that a flag names; as `place`, raises ConfigError where no file can be written in it."""
    place(flag, os.path.join(name, ".written"))


def place(flag: str, file: str | None) -> epath.Path | None:
    """Where the file that a flag names goes, its folder made; None without a name.

    For before the work, not after it. Raises ConfigError where no file can be written there; a bucket is not asked.
    """
    if not file:
        return None
    path = epath.Path(file)
    if "://" in file:  # buckets have no folders, and cannot be appended to
        return path
    with writing(flag, file):
        if path.is_dir():
            raise ConfigError(f"--{flag}={file}: this is a folder; name a file in it")
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.exists()
        path.open("a").close()
        if not there:
            path.unlink()  # the work may fail, and an empty file says nothing
    return path


def without(flag: str, arguments: Sequence[str]) -> list[str]:
    """Arguments of a command line without those of a flag: --FLAG=VALUE, or --FLAG and VALUE."""
    given = iter(arguments)
    kept = []
    for argument in given:
        if argument == f"--{flag}":
            next(given, None)
        elif not argument.startswith(f"--{flag}="):
            kept.append(argument)
    return kept


def _wants_help(argv: list[str]) -> bool:
    return "--config=help" in argv or ("--config", "help") in itertools.pairwise(argv)


def describe_configs() -> str:
    """The docstring of every shipped config: its command, arguments, cost and expected result."""
    parts = []
    if not _CONFIGS.is_dir():
        return f"configs/ is in the repository, not in the package that is installed in {_CONFIGS.parent}: clone it"
    for path in sorted(_CONFIGS.glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        parts.append(f"configs/{path.name}\n" + "\n".join(f"    {line}".rstrip() for line in text.splitlines()))
    return "\n\n".join(parts)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses a command line of flags alone; leaves with a message where it is wrong."""
    name, *arguments = parse_arguments(argv)
    if arguments:
        sys.exit(f"error: unexpected arguments {' '.join(arguments)}: give flags, as in --NAME=VALUE\n{_help()}")
    return [name]


def parse_arguments(argv: list[str]) -> list[str]:
    """As `parse_flags`, for a command that takes arguments, which are returned behind its name."""
    if "config" in flags.FLAGS and _wants_help(argv):
        print(describe_configs())
        sys.exit()
    try:
        _check_config(argv)
        return flags.FLAGS(argv)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    except flags.Error as error:
        sys.exit(f"error: {_plain(error)}\n{_help()}")


def _help() -> str:
    return "`--help` lists the flags" + (", `--config=help` the configs" if "config" in flags.FLAGS else "")


def reported(main: Callable[[list[str]], None], *errors: type[Exception]) -> Callable[[list[str]], None]:
    """Runs main; what a user can mend, ConfigError and `errors`, comes without a traceback. Libraries stay silent."""

    @functools.wraps(main)
    def run(argv: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")  # a terminal may have no character for what is printed
        try:
            main(argv)
        except (ConfigError, *errors) as error:
            sys.exit(f"error: {error}")
        except BrokenPipeError:  # whoever read what is printed has seen enough, as `head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)

    return run


def _check_config(argv: list[str]) -> None:
    """Raises ConfigError for a config that does not load, and for an override of a key that it does not have."""
    files = [arg.partition("=")[2] for arg in argv if re.match(r"--?config=", arg)]
    files += [value for flag, value in itertools.pairwise(argv) if re.fullmatch(r"--?config", flag)]
    keys = [match[1] for arg in argv if (match := re.match(r"--?(?:no)?config\.([^=]+)", arg))]
    if not files:
        return
    config = load(files[-1])
    for key in keys:
        section, parts = config, re.split(r"[.\[]", key.replace("]", ""))
        for part in parts:
            if not isinstance(section, ml_collections.ConfigDict):
                break
            if part not in section:
                fix = did_you_mean(part, section)
                if section is config and (places := _places(config, part)):
                    fix = f"; did you mean {' or '.join(places)}?"
                raise ConfigError(f'--config.{key}: the config has no key "{part}"{fix}')
            section = section[part]


def _places(section: ml_collections.ConfigDict, name: str, path: str = "") -> list[str]:
    """The keys of a config, as in "log.profile", whose last part is `name`."""
    inner = ((key, value) for key, value in section.items() if isinstance(value, ml_collections.ConfigDict))
    found = [f"{path}{name}"] if name in section else []
    return found + [place for key, value in inner for place in _places(value, name, f"{path}{key}.")]


def load(file: str) -> ml_collections.ConfigDict:
    """Loads FILE[:ARGUMENT], as --config does; raises ConfigError where that fails."""
    path, _, argument = file.partition(":")
    spec = importlib.util.spec_from_file_location("config", path)
    if spec is None or spec.loader is None or not pathlib.Path(path).exists():
        shipped = ", ".join(f"configs/{p.name}" for p in sorted(_CONFIGS.glob("*.py")))
        raise ConfigError(f"--config={file}: there is no config file {path}; shipped: {shipped}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise ConfigError(f"{path}, line {error.lineno}: {error.msg}") from error
    try:
        return module.get_config(argument) if argument else module.get_config()
    except (AttributeError, KeyError, TypeError) as error:  # what ConfigDict says to a wrong key or type
        raise ConfigError(f"{path}: {_plain(error)}") from error


def _plain(error: Exception) -> str:
    """What an error says, without the quotes that a KeyError puts around it."""
    text = str(error)
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
