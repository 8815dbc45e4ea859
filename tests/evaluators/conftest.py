import pathlib
from collections.abc import Callable

import pytest

from mdc_jax.evaluators import (
    base,
    captioning,
    compositionality,
    image_bank,
    lengths,
    linear_probe,
    position_signal,
    probe_features,
    probe_files,
    retrieval,
    zero_shot,
)
from tests.evaluators import real
from tests.evaluators.fakes import FakeSource

MODULES = (
    base,
    captioning,
    compositionality,
    image_bank,
    lengths,
    linear_probe,
    position_signal,
    probe_features,
    probe_files,
    retrieval,
    zero_shot,
)  # that open sources


@pytest.fixture
def use_source(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts sources in the place of specs: use_source(source) or use_source({"fake:test": source, ...})."""

    def use(sources: FakeSource | dict[str, FakeSource]) -> None:
        for module in MODULES:
            monkeypatch.setattr(
                module, "open_source", sources.__getitem__ if isinstance(sources, dict) else lambda _: sources
            )

    return use


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Pictures and their cut-outs, see `real.write`."""
    path = tmp_path_factory.mktemp("pictures")
    real.write(path)
    return path
