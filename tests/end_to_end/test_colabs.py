"""The notebooks run from top to bottom, on a run that the first of them trains within seconds."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.end_to_end.command_line import ROOT

NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))
SMALL = {"MDC_CONFIG": "configs/scenes.py:runlocal", "MDC_IMAGES": "80", "MDC_FOILS": "4", "MDC_CLASSIFIED": "4"}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("colabs") / "run"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: pathlib.Path, workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat  # slow to import
    from nbclient import NotebookClient

    for name, value in {**SMALL, "MDC_WORKDIR": str(workdir), "XLA_FLAGS": ""}.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert any("image/png" in output["data"] for output in shown)


@pytest.mark.slow
def test_the_first_cell_clones_and_installs_once_what_it_is_given(tmp_path: pathlib.Path) -> None:
    """pip resolves what it would install, and installs nothing."""
    cell, *others = ["".join(json.loads(path.read_text())["cells"][2]["source"]) for path in NOTEBOOKS]
    assert others == [cell]
    shown = 'import importlib.util as u; print(os.getcwd(), u.find_spec("mdc_jax").origin, sep="\\n")'

    def run(repository: str, folder: pathlib.Path = tmp_path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "MDC_REPOSITORY": repository, "PIP_DRY_RUN": "1", "PYTHONPATH": ""}
        command = [sys.executable, "-c", f"{cell}\n{shown}"]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    missing = run("")
    assert missing.returncode and "set REPOSITORY" in missing.stderr
    clone = tmp_path / "mdc"
    first = run(f"file://{ROOT}")
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-2:] == [str(clone), str(clone / "mdc_jax" / "__init__.py")]
    for folder in (tmp_path, clone / "colabs"):  # a new kernel, and a notebook of the clone
        again = run("file:///nothing", folder)
        assert again.returncode == 0, again.stderr
        assert again.stdout.splitlines() == [str(clone), str(clone / "mdc_jax" / "__init__.py")]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_with_its_pictures_and_small(path: pathlib.Path) -> None:
    assert path.stat().st_size < 1_000_000
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))  # once, in order
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert not any(output["output_type"] == "error" or output.get("name") == "stderr" for output in outputs)
    assert not re.search(r"/(root|home|Users|tmp|work)/", path.read_text())
