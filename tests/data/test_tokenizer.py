"""SentencePiece: the contract's ids, the same model from the same captions."""

import hashlib
import io

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from mdc_jax.config import sections
from mdc_jax.data import tokenizer
from mdc_jax.data.batch import EOS_ID, PAD_ID, UNK_ID

CAPTIONS = [
    f"A {size} {color} {shape} lies on a table."
    for size in ("large", "small")
    for color in ("red", "green", "blue")
    for shape in ("circle", "square", "cross", "star")
]
SETTINGS = sections.Tokenizer(vocab_size=400)


@pytest.fixture(scope="module")
def trained():
    return tokenizer.train(CAPTIONS, SETTINGS)


def test_round_trip(trained):
    for caption in CAPTIONS:
        ids = trained.encode(caption, 64)
        assert ids[-1] == EOS_ID
        assert ids.count(EOS_ID) == 1
        assert PAD_ID not in ids
        assert UNK_ID not in ids
        assert trained.decode(ids) == caption.lower()
        assert trained.decode([*ids, PAD_ID, PAD_ID, 5]) == caption.lower()


def test_case_is_kept_where_asked():
    kept = tokenizer.train(CAPTIONS, sections.Tokenizer(vocab_size=400, lower_case=False))
    assert kept.decode(kept.encode(CAPTIONS[0], 64)) == CAPTIONS[0]


def test_byte_fallback_spells_what_it_never_saw(trained):
    assert trained.decode(trained.encode("un éléphant 🐘", 64)) == "un éléphant 🐘"
    plain = tokenizer.train(CAPTIONS, sections.Tokenizer(vocab_size=60, byte_fallback=False))
    assert UNK_ID in plain.encode("🐘", 64)
    assert plain.vocab_size <= 60


def test_long_captions_keep_their_first_tokens(trained):
    caption = " ".join(CAPTIONS)
    everything = trained.encode(caption, 10_000)
    for length in (1, 2, 9):
        assert trained.encode(caption, length) == [*everything[: length - 1], EOS_ID]
    assert len(trained.encode("word " * 1_000_000, 16)) == 16


def test_training_is_deterministic_and_bounded_by_train_captions(trained):
    again = tokenizer.train(iter(CAPTIONS), SETTINGS)
    assert again.model_bytes == trained.model_bytes
    first = tokenizer.train(CAPTIONS[:8], SETTINGS)
    bounded = sections.Tokenizer(vocab_size=400, train_captions=8)
    assert tokenizer.train(["", "  ", *CAPTIONS], bounded).model_bytes == first.model_bytes


def test_files_and_bytes(trained, tmp_path):
    (tmp_path / "model").write_bytes(trained.model_bytes)
    loaded = tokenizer.Tokenizer.load(tmp_path / "model")
    assert loaded.hash == trained.hash == hashlib.sha256(trained.model_bytes).hexdigest()
    assert loaded.vocab_size == trained.vocab_size
    assert loaded.encode(CAPTIONS[3], 64) == trained.encode(CAPTIONS[3], 64)


def test_other_models_are_refused():
    with pytest.raises(ValueError, match="no SentencePiece model"):
        tokenizer.Tokenizer.from_bytes(b"nonsense")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CAPTIONS), model_writer=model, vocab_size=100, hard_vocab_limit=False, minloglevel=2
    )
    with pytest.raises(ValueError, match="expected \\(0, 1, 2\\)"):
        tokenizer.Tokenizer.from_bytes(model.getvalue())


def test_no_captions_are_refused():
    with pytest.raises(ValueError, match="no tokenizer"):
        tokenizer.train(["", "\n"], SETTINGS)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=80), length=st.integers(1, 12))
def test_any_text_gives_a_caption_of_the_right_form(trained, text, length):
    ids = trained.encode(text, length)
    assert 1 <= len(ids) <= length
    assert ids[-1] == EOS_ID
    assert all(UNK_ID <= token < trained.vocab_size for token in ids[:-1])
    trained.decode(ids)
