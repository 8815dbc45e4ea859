"""The resolved text of each shipped config is kept, so that no change of a default goes unseen.

After a change that is meant: `python -m tests.config.test_golden` writes the texts anew.
"""

import pathlib

import pytest

from mdc_jax import command
from mdc_jax.config import dumps, parse, sections

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = pathlib.Path(__file__).parent / "golden"
CONFIGS = (
    "scenes.py",
    "scenes.py:runlocal",
    "scenes.py:objective=clip",
    "cappa.py",
    "pictures.py",
    "drawings.py",
    "collage.py",
    "vits_cc3m.py",
    "vitb_cc12m.py",
    "vitb_recap.py",
    "vitb_recap.py:objective=autoregressive",
    "vitb_recap.py:subset=10M,original=0.2",
    "vitb_recap.py:original=1",
    "vitl_recap.py",
)


def path_of(name: str) -> pathlib.Path:
    return GOLDEN / (name.replace(".py", "").replace(":", "-").replace("=", "-") + ".json")


def resolve(name: str) -> str:
    return dumps(parse(command.load(str(ROOT / "configs" / name))))


@pytest.mark.parametrize("name", CONFIGS)
def test_golden(name: str) -> None:
    assert resolve(name) == path_of(name).read_text()


# Comparisons are of several runs: tests/comparison/test_configs.py has them.
SHIPPED = sorted(path.name for path in (ROOT / "configs").glob("*.py") if not path.name.startswith("compare_"))


@pytest.mark.parametrize("config", SHIPPED)
def test_every_config_takes_every_objective_with_the_evaluators_that_apply(config: str) -> None:
    for name, section in sections.OBJECTIVES.items():
        resolved = parse(command.load(f"{ROOT}/configs/{config}:objective={name},runlocal"))
        assert resolved.objective.name == name
        types = {entry.type for entry in resolved.evaluators.values()}
        assert ("captioning" in types) == section.writes_captions
        assert "perplexity" not in types or section.writes_captions


def test_every_shipped_config_has_one() -> None:
    assert set(SHIPPED) <= {name.partition(":")[0] for name in CONFIGS}


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for config in CONFIGS:
        path_of(config).write_text(resolve(config))
