"""A file of features that comes about in parts: what is done stays done, and the whole is never in memory.

Shapes: N images, in all or of a part.
"""

import json
import pathlib
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mdc_jax import files
from mdc_jax.config import ConfigError

NAMES, FEATURES, SKIPPED, MADE_OF = "names", "features", "skipped", "made_of"


class Parts:
    """The folder OUT.parts, which is there until OUT is whole."""

    def __init__(self, out: pathlib.Path, made_of: Mapping[str, Any], rows: int) -> None:
        """Finds the file or the parts that there are.

        Args:
          out: the file that comes about.
          made_of: all that the features follow from, as JSON.
          rows: of a batch, by which the parts are cut.

        Raises:
          ConfigError: the file is there, or parts are, made of something else; or it cannot be read.
        """
        self._out, self._made_of, self._description = out, dict(made_of), {**made_of, "rows": rows}
        self._folder = out.with_name(f"{out.name}.parts")
        self._described = self._folder / "description.json"
        self.finished = self._counts() if out.exists() else None  # images with features, and skipped; None: not yet
        if self.finished is not None:
            shutil.rmtree(self._folder, ignore_errors=True)  # of a call that was killed once OUT was whole
            return
        before = json.loads(self._described.read_text()) if self._described.exists() else self._description
        changed = [name for name, value in self._description.items() if before.get(name) != value]
        if changed:
            raise ConfigError(
                f"{self._folder} holds parts made of other {', '.join(changed)}: remove it, or give another --out"
            )

    def _counts(self) -> tuple[int, int]:
        try:
            made_of = json.loads(str(_read(self._out, MADE_OF)))
            changed = [name for name, value in self._made_of.items() if made_of.get(name) != value]
        except OSError as error:
            raise ConfigError(f"--out={self._out} is there already and cannot be read: {error}") from error
        except (EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile):
            changed = ["things"]
        if changed:
            raise ConfigError(
                f"{self._out} is there already, made of other {', '.join(changed)}: remove it, or give another --out"
            )
        return len(_read(self._out, NAMES)), len(_read(self._out, SKIPPED))

    @property
    def done(self) -> int:
        """How many there are."""
        return len(list(self._folder.glob("*.npz")))

    def add(self, names: Sequence[str], features: np.ndarray, skipped: Sequence[str]) -> None:
        """Writes the next part: N names, [N, ...] features, and the names of images that have none."""
        part = self._part(self.done)
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self._described.exists():
            files.write(self._described, json.dumps(self._description, indent=2))
        arrays = {NAMES: np.array(names, str), FEATURES: features, SKIPPED: np.array(skipped, str)}
        with files.whole(part) as unfinished, unfinished.open("wb") as file:
            np.savez(file, **arrays)

    def finish(self, **about: Any) -> tuple[int, int]:
        """Joins the parts and removes them; returns how many images have features, and how many were skipped.

        The file has `names` str[N], `features` [N, ...], `skipped` str[any number], `made_of`, and `about`. Its bytes
        follow from these and the parts alone.

        Raises:
          ConfigError: no image has features.
        """
        parts = [self._part(index) for index in range(self.done)]
        names, skipped = (np.concatenate([_read(part, array) for part in parts]) for array in (NAMES, SKIPPED))
        if not len(names):
            shutil.rmtree(self._folder)
            raise ConfigError("none of the images can be read")
        first = _read(parts[0], FEATURES)
        header = {
            "descr": np.lib.format.dtype_to_descr(first.dtype),
            "fortran_order": False,
            "shape": (len(names), *first.shape[1:]),
        }
        whole = self._folder / "whole"
        with zipfile.ZipFile(whole, "w") as archive:
            arrays = {NAMES: names, SKIPPED: skipped, MADE_OF: json.dumps(self._made_of), **about}
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
            with archive.open(f"{FEATURES}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, header)
                for part in parts:
                    file.write(np.ascontiguousarray(_read(part, FEATURES)).data)
        whole.replace(self._out)
        shutil.rmtree(self._folder)
        return len(names), len(skipped)

    def _part(self, index: int) -> pathlib.Path:
        return self._folder / f"{index:06}.npz"


def _read(part: pathlib.Path, name: str) -> np.ndarray:
    with np.load(part, allow_pickle=False) as arrays:
        return arrays[name]
