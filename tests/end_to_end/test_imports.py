"""The floors of the house: an import never climbs, and everything imported is among the requirements."""

import ast
import pathlib
import re
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from tests.end_to_end.command_line import ROOT

FLOORS = {
    "ops": 0, "diffusion": 0, "config": 0, "files": 0, "lock": 0, "progress": 0,
    "models": 1, "data": 1, "report": 1, "command": 1,
    "decoding": 2, "scoring": 2,
    "objectives": 3,
    "training": 4, "evaluators": 4, "exchange": 4, "batching": 4, "features": 4, "feature_file": 4, "inference": 4,
}  # fmt: skip
COMMANDS = 5
COMMANDS_WITHIN = {"mdc_jax.data.preview"}  # that lie beside what they show; nothing below may import them
PACKAGES = {  # where the module is not named as its package is
    "absl": "absl-py",
    "apache_beam": "apache-beam",
    "array_record": "array-record",
    "cv2": "opencv-python-headless",
    "ml_collections": "ml-collections",
    "orbax": "orbax-checkpoint",
    "PIL": "pillow",
    "resvg_py": "resvg-py",
    "sklearn": "scikit-learn",
    "tensorflow_datasets": "tensorflow-datasets",
}
OPTIONAL = {
    "apache_beam",
    "psutil",
    "pycocoevalcap",
    "tokenizers",
    "wandb",
    "webdataset",
}  # imported where they are used, never with a module
MODULES = sorted((ROOT / "mdc_jax").rglob("*.py"))


def imported(path: pathlib.Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names if alias.name[0] != "_")}
    return names


def floor(module: str) -> int:
    parts = module.split(".")
    if ".".join(parts[:3]) in COMMANDS_WITHIN:
        return COMMANDS
    return FLOORS.get(parts[1], COMMANDS) if len(parts) > 1 else 0


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_never_climb(path: pathlib.Path) -> None:
    own = floor(".".join(path.relative_to(ROOT).with_suffix("").parts))
    climbing = {name for name in imported(path) if name.startswith("mdc_jax.") and floor(name) > own}
    assert not climbing


def requirements(file: str) -> list[Requirement]:
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in (ROOT / file).read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-r")]


def test_everything_imported_is_required() -> None:
    listed = {requirement.name.lower() for requirement in requirements("requirements.txt")}
    roots = {name.partition(".")[0] for path in MODULES for name in imported(path)}
    third_party = roots - set(sys.stdlib_module_names) - {"mdc_jax"}
    assert {PACKAGES.get(root, root).lower() for root in third_party - OPTIONAL} <= listed
    assert "tensorflow" not in third_party


def test_optional_packages_are_listed_and_imported_late() -> None:
    files = {path.name for path in ROOT.glob("requirements-*.txt")}
    listed = {requirement.name.lower() for file in files for requirement in requirements(file)}
    assert {PACKAGES.get(root, root) for root in OPTIONAL} <= listed
    early = {
        name.partition(".")[0]
        for path in MODULES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module])
    }
    assert not early & OPTIONAL


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt", "requirements-tokenizers.txt"])
def test_installed_versions_are_within_the_bounds(file: str) -> None:
    outside = [
        f"{requirement} (installed: {metadata.version(requirement.name)})"
        for requirement in requirements(file)
        if metadata.version(requirement.name) not in requirement.specifier
    ]
    assert not outside
