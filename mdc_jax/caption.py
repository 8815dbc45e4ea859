"""Captions images: `python -m mdc_jax.caption --workdir=RUN IMAGE ... [--show_steps] [--html=page.html]`.

IMAGE is a file, a folder, or a pattern as in "photos/*.jpg". One that cannot be read is named and skipped; a name that
nothing has stops the command before it writes anything. Settings of decoding are flags, as in --order=random --steps=8
--temperature=1; the length is --tokens.
"""

import dataclasses
import glob
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

from absl import app, flags

import mdc_jax
from mdc_jax import command, inference
from mdc_jax.config import ConfigError, sections
from mdc_jax.data.images import BadImage
from mdc_jax.data.sources.folder import image_files
from mdc_jax.data.texts import readable
from mdc_jax.report import denoising
from mdc_jax.training import compilation_cache


def find(patterns: Iterable[str]) -> Iterator[pathlib.Path]:
    """The files that are named, those in the folders that are named, and those that patterns match.

    Raises ConfigError for a name or pattern that nothing has.
    """
    for pattern in patterns:
        matched = [pattern] if os.path.lexists(pattern) else sorted(glob.glob(pattern, recursive=True))
        found = [file for name in matched for file in _files(pathlib.Path(name))]
        if not found:
            raise ConfigError(f'"{pattern}": there is no such file, and no image in such a folder')
        yield from found


def _files(path: pathlib.Path) -> list[pathlib.Path]:
    """A file, or the images of a folder; folders within it that cannot be read are named on stderr."""
    if not path.is_dir():
        return [path]
    found = image_files(path, on_error=lambda error: command.skipped(error.filename, error.strerror))
    return [path / file for file in found]


def captions(
    model: inference.Model,
    files: Sequence[pathlib.Path],
    settings: sections.Decoding,
    *,
    tokens: int | None,
    seed: int,
    with_attention: bool = False,
) -> Iterator[tuple[pathlib.Path, inference.Written]]:
    """Captions of the files with their scores, a batch after the other; a file that is no image is named on stderr and
    left out.

    Raises ConfigError where none can be read, and as `inference.Model.caption` does.
    """
    bad: set[int] = set()

    def skip(index: int, error: BaseException) -> None:
        if not isinstance(error, OSError | BadImage):
            raise error
        command.skipped(files[index], error)
        bad.add(index)

    numbers = (number for number in range(len(files)) if number not in bad)  # faults of a batch come before its results
    asked = {"tokens": tokens, "seed": seed, "with_attention": with_attention}
    for batch in model.stream_captions(files, settings, **asked, with_score=True, on_fault=skip):
        for written in batch:
            yield files[next(numbers)], written
    if len(bad) == len(files):
        raise ConfigError("none of the images can be read")


def lines(written: inference.Written, show_steps: bool) -> list[str]:
    """A caption for the terminal, and above it what was there after each step."""
    steps = range(denoising.steps(written.tokens)) if show_steps else ()
    return [*(f"{step:>4}  {denoising.after(written.tokens, step)}" for step in steps), written.text]


def main(arguments: Sequence[str]) -> None:
    options = flags.FLAGS
    if len(arguments) < 2:
        raise ConfigError("name at least one image, as in photos/0.png")
    settings = sections.Decoding(**{name: options[name].value for name in _SETTINGS})
    page = command.place("html", options.html)
    if page and page.suffix.lower() not in (".html", ".htm"):  # it may be one of the images
        raise ConfigError(f"--html={options.html}: name the page so that it ends in .html, as in captions.html")
    compilation_cache.enable()
    named: dict[str, pathlib.Path] = {}  # once each, by the first of its names
    for file in find(arguments[1:]):
        named.setdefault(os.path.abspath(file), file)
    files = list(named.values())
    model = mdc_jax.load(options.workdir, step=options.step)
    emerging = []
    asked = {"tokens": options.tokens, "seed": options.seed, "with_attention": bool(page)}
    for file, caption in captions(model, files, settings, **asked):
        error = f" ± {caption.standard_error:.2f}" if caption.standard_error else ""
        note = f"log p {caption.score:.2f}{error} nats ({model.scorers[0]}, {caption.kind})"
        name = readable(file)
        print("\n    ".join([name, *lines(caption, options.show_steps), note]), end="\n\n", flush=True)
        if page:
            emerging.append(denoising.Emerging(name, model.prepare(file), caption.tokens, [note]))
    if page:
        with command.writing("html", options.html):
            denoising.page("Captions", emerging).write(page)
        print(f"page: {readable(page)}")


# Lengths of training captions are not at hand here.
_SETTINGS = [field.name for field in dataclasses.fields(sections.Decoding) if field.name != "length"]

if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run, or an export of one, whose checkpoint writes.", required=True)
    flags.DEFINE_integer("step", None, "Step of the checkpoint; the latest if not given.")
    flags.DEFINE_integer(
        "tokens", None, "Length of the captions, EOS included; that which the model finds if not given."
    )
    flags.DEFINE_bool("show_steps", False, f"Also print what is there after each step. {denoising.REMASKED}")
    flags.DEFINE_string("html", "", "A page to write, on which the captions emerge.")
    flags.DEFINE_integer("seed", 0, "Of what is drawn.", lower_bound=0, upper_bound=2**32 - 1)
    command.define_fields(sections.Decoding, _SETTINGS)
    app.run(command.reported(main), flags_parser=command.parse_arguments)
