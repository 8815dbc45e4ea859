"""The files that evaluators leave in the workdir of a run: evaluations/STEP/EVALUATOR/NAME."""

from etils import epath

FOLDER = "evaluations"


def of_step(workdir: epath.Path, step: int) -> epath.Path:
    """The folder of a step, which has one for each evaluator."""
    return workdir / FOLDER / str(step)


def files(workdir: epath.Path, name: str) -> list[tuple[int, epath.Path]]:
    """The files of this name, by step and evaluator; those of evaluations with other settings are left out."""
    paths = [path for path in workdir.glob(f"{FOLDER}/*/*/{name}") if path.parts[-3].isdigit()]
    return sorted((int(path.parts[-3]), path) for path in paths)


def at(workdir: epath.Path, step: int, name: str) -> dict[str, epath.Path]:
    """By evaluator, the file of this name of a step."""
    return {path.parent.name: path for path in sorted(of_step(workdir, step).glob(f"*/{name}"))}


def last(workdir: epath.Path, name: str) -> dict[str, epath.Path]:
    """By evaluator, the file of this name of the last step that has it."""
    return {path.parent.name: path for _, path in files(workdir, name)}
