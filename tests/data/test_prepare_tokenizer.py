"""The command that trains a tokenizer on a source."""

import pytest

from mdc_jax.config import ConfigError, sections
from mdc_jax.data import tokenizer
from mdc_jax.data.captions import read_captions
from mdc_jax.data.prepare import tokenizer as prepare_tokenizer
from mdc_jax.data.sources import open_source
from tests import commands

SOURCE = "mix:1*scenes:train,size=16,count=300+1*fake:train,size=8,words=5,count=200"
SETTINGS = sections.Tokenizer(vocab_size=330, train_captions=200)


def test_it_is_the_tokenizer_that_a_run_would_train(tmp_path):
    out = tmp_path / "new" / "tokenizer.model"
    prepare_tokenizer.prepare(SOURCE, out, SETTINGS)
    expected = tokenizer.train(read_captions(open_source(SOURCE), 200), SETTINGS)
    assert out.read_bytes() == expected.model_bytes
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_settings_matter(tmp_path):
    settings = sections.Tokenizer(vocab_size=60, byte_fallback=False, algorithm="bpe", lower_case=False)
    trained = prepare_tokenizer.prepare("scenes:train,size=16,count=50", tmp_path / "model", settings)
    assert trained.vocab_size <= 60
    assert trained.decode(trained.encode("A Red", 9)) != "a red"
    with pytest.raises(ConfigError, match='did you mean "scenes"'):
        prepare_tokenizer.prepare("scene:train", tmp_path / "model", settings)


def _run(*arguments):
    return commands.run("mdc_jax.data.prepare.tokenizer", *arguments)


def test_the_command(tmp_path):
    out = tmp_path / "tokenizer.model"
    done = _run(f"--source={SOURCE}", f"--out={out}", "--vocab_size=330", "--captions=200", "--nolower_case")
    assert done.returncode == 0, done.stderr
    loaded = tokenizer.Tokenizer.load(out)
    assert f"{loaded.vocab_size}    sha256 {loaded.hash[:16]}" in done.stdout
    assert f"use it with --config.tokenizer.model={out}" in done.stdout
    assert "captions" in done.stderr
    failed = _run("--source=folder:nowhere", f"--out={out}")
    assert failed.returncode == 1
    assert failed.stderr.strip() == "error: \"folder:nowhere\": there is no folder 'nowhere'"
