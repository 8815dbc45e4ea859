"""Tokenizers of every kind keep the contract; SentencePiece trains the same model from the same captions."""

import hashlib
import io
import itertools
import json
import sys

import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from mdc_jax.config import ConfigError, sections
from mdc_jax.data import tokenizer
from mdc_jax.data.batch import EOS_ID, PAD_ID, UNK_ID
from mdc_jax.data.retries import ReadError

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
    why = r"no tokenizer of 5 .*: Vocabulary size .* 5 vs [0-9]+\. Change tokenizer.vocab_size \(--vocab_size .*\)\.$"
    with pytest.raises(ValueError, match=why):
        tokenizer.train(CAPTIONS, sections.Tokenizer(vocab_size=5, byte_fallback=False))
    plain = tokenizer.train(CAPTIONS, sections.Tokenizer(vocab_size=60, byte_fallback=False))
    assert UNK_ID in plain.encode("🐘", 64)
    assert plain.vocab_size <= 60


def test_captions_that_cannot_be_read_are_no_fault_of_the_settings():
    def captions():
        yield from CAPTIONS
        raise ReadError("photos: record 24 could not be read in 6 attempts: disk on fire")

    with pytest.raises(ReadError, match=r"^photos: record 24 could not be read"):
        tokenizer.train(captions(), SETTINGS)


def test_long_captions_keep_their_first_tokens(trained):
    caption = " ".join(CAPTIONS)
    everything = trained.encode(caption, 10_000)
    for length in (1, 2, 9):
        assert trained.encode(caption, length) == [*everything[: length - 1], EOS_ID]
    assert len(trained.encode("word " * 1_000_000, 16)) == 16


def test_no_caption_loses_its_end_unsaid(trained):
    """However many characters stand for how few tokens, and how many tokens for how few characters."""
    spaces = f"{CAPTIONS[0]}{' ' * 5000}{CAPTIONS[1]}"
    assert trained.encode_whole(spaces, 64) == trained.encode(f"{CAPTIONS[0]} {CAPTIONS[1]}", 64)
    with pytest.raises(ValueError, match=r"a caption has 28,00\d tokens, and the model reads 64"):
        trained.encode_whole("\N{CJK UNIFIED IDEOGRAPH-4E00}\N{PILE OF POO}" * 4000, 64)
    with pytest.raises(ValueError, match="has 10,001 characters, at most 10,000 are read"):
        trained.encode_whole(" " * 10_001, 64)


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


def _sentence_piece(**ids):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CAPTIONS),
        model_writer=model,
        vocab_size=100,
        hard_vocab_limit=False,
        minloglevel=2,
        **ids,
    )
    return model.getvalue()


def _hugging_face(model, trainer, pre_tokenizer, decoder, padding=None):
    file = tokenizers.Tokenizer(model)
    file.normalizer = normalizers.Lowercase()
    file.pre_tokenizer, file.decoder = pre_tokenizer, decoder
    file.train_from_iterator(CAPTIONS, trainer)
    # What such files set for their own models must not matter here.
    file.enable_truncation(3)
    file.enable_padding(length=20)
    return file.to_str().encode()


def _bert():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return _hugging_face(
        models.WordPiece(unk_token="[UNK]"),
        trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False),
        pre_tokenizers.BertPreTokenizer(),
        decoders.WordPiece(),
    )


def _clip():
    end = "<|endoftext|>"
    # CLIP has every byte twice, within a word and at its end.
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|startoftext|>", end, *(f"{byte}</w>" for byte in alphabet)]
    file = json.loads(
        _hugging_face(
            models.BPE(end_of_word_suffix="</w>", unk_token=end),
            trainers.BpeTrainer(
                vocab_size=900,
                special_tokens=special,
                end_of_word_suffix="</w>",
                initial_alphabet=alphabet,
                show_progress=False,
            ),
            pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(tokenizers.Regex(r"\w+|[^\w\s]+"), "removed", invert=True),
                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                ]
            ),
            decoders.ByteLevel(),
        )
    )
    file["added_tokens"] = file["added_tokens"][:2]
    return json.dumps(file).encode()


def _t5():
    special = ["<pad>", "</s>", "<unk>"]
    return _hugging_face(
        models.Unigram(),
        trainers.UnigramTrainer(vocab_size=100, special_tokens=special, unk_token="<unk>", show_progress=False),
        pre_tokenizers.Metaspace(),
        decoders.Metaspace(),
    )


MODELS = {
    "T5's ids": lambda: _sentence_piece(pad_id=0, eos_id=1, unk_id=2, bos_id=-1),
    "no pad, as Llama": _sentence_piece,
    "Gemma's ids": lambda: _sentence_piece(pad_id=0, eos_id=1, bos_id=2, unk_id=3),
    "others": lambda: _sentence_piece(pad_id=3, eos_id=-1, bos_id=1, unk_id=0),
    "BERT": _bert,
    "CLIP": _clip,
    "T5's JSON": _t5,
}


@pytest.fixture(scope="module", params=MODELS)
def any_model(request):
    return tokenizer.Tokenizer.from_bytes(MODELS[request.param]())


def test_every_kind_of_model_keeps_the_contract(any_model):
    for caption in CAPTIONS:
        ids = any_model.encode(caption, 64)
        assert ids[-1] == EOS_ID
        assert not {PAD_ID, EOS_ID, UNK_ID} & set(ids[:-1])
        assert all(0 <= token < any_model.vocab_size for token in ids)
        assert "".join(any_model.decode([*ids, PAD_ID, 5]).lower().split()) == "".join(caption.lower().split())
        assert any_model.encode(caption, 5) == [*ids[:4], EOS_ID]
    assert any_model.hash == hashlib.sha256(any_model.model_bytes).hexdigest()
    again = tokenizer.Tokenizer.from_bytes(any_model.model_bytes)
    assert again.encode(CAPTIONS[0], 64) == any_model.encode(CAPTIONS[0], 64)


def test_pieces_say_where_words_start(any_model):
    if b"</w>" in any_model.model_bytes:
        with pytest.raises(ConfigError, match=r'"</w>" where words end.*set objective\.mask_words=False'):
            any_model.word_starts()
        return
    starts = any_model.word_starts()
    assert starts.shape == (any_model.vocab_size,) and starts[[PAD_ID, EOS_ID]].all()
    cut = 0
    for caption in (*CAPTIONS, "A red starcircle."):  # which no model has whole
        ids = any_model.encode(caption, 64)[:-1]
        begin = [place for place, token in enumerate(ids) if starts[token]]
        assert begin[0] == 0
        words = [any_model.decode(ids[a:b]) for a, b in itertools.pairwise([*begin, len(ids)])]
        expected = caption.lower().replace(".", " .") if "." in words else caption.lower()  # BERT cuts it off
        assert [word.lower() for word in words] == expected.split()
        cut += len(ids) > len(words)
    assert cut


@settings(max_examples=50, deadline=None)
@given(text=st.text(st.characters(), max_size=80), length=st.integers(1, 12))
def test_no_text_breaks_any_model(any_model, text, length):
    for caption in (text, f"[SEP]{text}</s><pad>", f"{text}<|endoftext|>"):
        ids = any_model.encode(caption, length)
        assert 1 <= len(ids) <= length
        assert ids[-1] == EOS_ID
        assert all(UNK_ID <= token < any_model.vocab_size for token in ids[:-1])
        any_model.decode(ids)
    any_model.decode(range(any_model.vocab_size + 3))


def test_ids_are_the_models_own_where_they_fit(trained):
    model = sentencepiece.SentencePieceProcessor(model_proto=trained.model_bytes)
    assert trained.encode(CAPTIONS[0], 64) == [*model.encode(CAPTIONS[0]), EOS_ID]
    assert trained.vocab_size == model.get_piece_size()


def test_ids_are_moved_where_they_do_not_fit():
    data = _sentence_piece(pad_id=3, eos_id=-1, bos_id=1, unk_id=0)
    moved, model = tokenizer.Tokenizer.from_bytes(data), sentencepiece.SentencePieceProcessor(model_proto=data)
    # unk 0 → 2, bos 1 → 3, pad 3 → 0; id 2 is the first after bos, and all from 4 on stay.
    assert moved.vocab_size == model.get_piece_size() + 1
    expected = [{0: 2, 2: 4}.get(id_, id_ + 1) for id_ in model.encode(CAPTIONS[0])]
    assert moved.encode(CAPTIONS[0], 64) == [*expected, EOS_ID]


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="neither a SentencePiece model nor"):
        tokenizer.Tokenizer.from_bytes(b"nonsense")
    for content in (b"{}", b'{"model": 3}', b"{"):
        with pytest.raises(ValueError, match=r"but no tokenizer\.json"):
            tokenizer.Tokenizer.from_bytes(content)
    with pytest.raises(ValueError, match="the file is empty"):
        tokenizer.Tokenizer.from_bytes(b"")
    with pytest.raises(ConfigError, match="is a folder: name the file in it"):
        tokenizer.Tokenizer.load(tmp_path)
    (tmp_path / "vocab").write_bytes(b"[PAD]\n[UNK]")
    with pytest.raises(ConfigError, match="vocab: these 11 bytes"):
        tokenizer.Tokenizer.load(tmp_path / "vocab")


def test_a_json_file_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match=r"pip install -r requirements-tokenizers\.txt"):
        tokenizer.Tokenizer.from_bytes(b"{}")


def test_no_captions_are_refused():
    with pytest.raises(ValueError, match="no captions that a tokenizer could be trained on"):
        tokenizer.train(["", "\n"], SETTINGS)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=80), length=st.integers(1, 12))
def test_any_text_gives_a_caption_of_the_right_form(trained, text, length):
    ids = trained.encode(text, length)
    assert 1 <= len(ids) <= length
    assert ids[-1] == EOS_ID
    assert all(UNK_ID <= token < trained.vocab_size for token in ids[:-1])
    trained.decode(ids)
