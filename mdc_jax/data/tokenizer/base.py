"""The contract of a tokenizer: whatever its model calls them, PAD, EOS and UNK have the ids of the batch contract."""

import abc
import hashlib
import os
import re
from collections.abc import Iterable, Sequence

import numpy as np
from etils import epath

from mdc_jax.config import ConfigError
from mdc_jax.data.batch import EOS_ID, PAD_ID, UNK_ID
from mdc_jax.data.texts import MAX_CAPTION
from mdc_jax.data.tokenizer import limits

_SURROGATES = re.compile("[\ud800-\udfff]")  # JSON can spell these halves of a character, and no model reads them
# How pieces say where words start: "_" of SentencePiece and the "G" of GPT-2 open one, "##" of BERT goes on with one.
_OPENS, _GOES_ON = ("\N{LOWER ONE EIGHTH BLOCK}", "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}"), "##"
_NO_LIMIT = 2**17  # tokens, more than a caption of MAX_CAPTION characters has
_LARGEST = 2**22  # tokens of a model, several times those of the largest: an id alone must not fill the memory
_CHARACTERS_PER_TOKEN = 64  # far above what any token covers, so that a huge caption costs no time


class Tokenizer(abc.ABC):
    """A model of tokens; `hash` is that of its bytes.

    Its ids are the model's own where PAD, EOS and UNK have the right ones there. Else these three come first, and the
    other tokens follow in the model's order. A begin of text, like [CLS] and [MASK], is a token that is never used.
    """

    def __init__(self, model_bytes: bytes, size: int, *, pad: int | None, eos: int | None, unk: int | None) -> None:
        """Takes the number of the model's tokens and its ids of three of them, None for one that it does not have.

        Where they share an id, as in CLIP, it is EOS before PAD, and PAD before UNK. Raises ValueError for a model that
        has too many, or too long ones.
        """
        if size > _LARGEST:
            raise ValueError(f"its ids go up to {size - 1:,}; at most {_LARGEST:,} tokens are read")
        limits.check_pieces(max((len(self._piece(id_)) for id_ in range(size)), default=0))
        self.model_bytes = model_bytes
        self.hash = hashlib.sha256(model_bytes).hexdigest()
        special = {id_: own for own, id_ in ((UNK_ID, unk), (PAD_ID, pad), (EOS_ID, eos)) if id_ is not None}
        others = (id_ for id_ in range(size) if id_ not in special)
        own_ids = special | {id_: own for own, id_ in enumerate(others, start=max(PAD_ID, EOS_ID, UNK_ID) + 1)}
        self._models = {own: id_ for id_, own in own_ids.items()}
        # A text holds no PAD and no EOS: where a model gives their id, the character was unknown to it.
        self._encoded = {id_: max(own, UNK_ID) for id_, own in own_ids.items()}
        self.vocab_size: int = max(own_ids.values(), default=UNK_ID) + 1

    @classmethod
    def from_bytes(cls, model_bytes: bytes) -> "Tokenizer":
        """The tokenizer of the kind that the bytes are: JSON, or a serialised SentencePiece model.

        Raises:
          ValueError: they are neither, or an optional package is missing; says which.
        """
        if model_bytes.lstrip()[:1] == b"{":
            from mdc_jax.data.tokenizer import hugging_face

            return hugging_face.HuggingFace(model_bytes)
        from mdc_jax.data.tokenizer import sentence_piece

        return sentence_piece.SentencePiece(model_bytes)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Tokenizer":
        """Reads a model file; raises FileNotFoundError, and ConfigError for what `from_bytes` cannot take."""
        path = epath.Path(path)
        if path.is_dir():
            raise ConfigError(f"{path} is a folder: name the file in it, as in {path}/tokenizer.json")
        try:
            limits.check_size(path.stat().length)
            return cls.from_bytes(path.read_bytes())
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from error

    def encode(self, caption: str, max_tokens: int) -> list[int]:
        """Token ids, EOS last; a longer caption keeps its first max_tokens - 1 tokens and EOS."""
        caption = _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", caption[: _CHARACTERS_PER_TOKEN * max_tokens])
        ids = self._encode(caption)[: max_tokens - 1]
        ids = [self._encoded[id_] for id_ in ids]
        ids.append(EOS_ID)
        return ids

    def encode_whole(self, caption: str, max_tokens: int) -> list[int]:
        """As `encode`, where nothing may be lost: raises ValueError for a caption that is longer."""
        if len(caption) > MAX_CAPTION:
            raise ValueError(
                f"a caption has {len(caption):,} characters, at most {MAX_CAPTION:,} are read: {caption[:80]!r}"
            )
        ids = self.encode(caption, _NO_LIMIT)
        if len(ids) > max_tokens:
            raise ValueError(f"a caption has {len(ids):,} tokens, and the model reads {max_tokens:,}: {caption[:80]!r}")
        return ids

    def longest(self, captions: Iterable[str]) -> int:
        """Tokens of the longest caption, EOS included; 0 where there is none."""
        return max((len(self.encode(caption, _NO_LIMIT)) for caption in captions), default=0)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The piece that each token stands for, as the model spells it; "" for ids that it does not have."""
        return [self._piece(self._models[token]) if token in self._models else "" for token in map(int, ids)]

    def word_starts(self) -> np.ndarray:
        """Which tokens start a word, bool[V]; the others go on with the word before them. PAD and EOS stand alone.

        Words are what spaces separate: punctuation belongs to the word that it follows, unless the model cuts it off.

        Raises:
          ConfigError: the pieces of this model do not say it.
        """
        pieces = self.pieces(range(self.vocab_size))
        marks = {mark: sum(piece.startswith(mark) for piece in pieces) for mark in (*_OPENS, _GOES_ON)}
        mark = max(marks, key=marks.__getitem__)
        if not marks[mark]:
            raise ConfigError(
                f"no piece of this tokenizer starts with any of {' '.join(marks)}, so that it is not known where words "
                "start: use a SentencePiece, WordPiece or byte-level BPE model, or set objective.mask_words=False"
            )
        starts = np.array([piece.startswith(mark) != (mark == _GOES_ON) for piece in pieces])
        starts[[PAD_ID, EOS_ID]] = True
        return starts

    def decode(self, ids: Sequence[int]) -> str:
        """The text before the first EOS; PAD, and ids that the model does not have, are skipped."""
        kept = []
        for token in map(int, ids):
            if token == EOS_ID:
                break
            if token != PAD_ID and token in self._models:
                kept.append(self._models[token])
        return self._decode(kept)

    @abc.abstractmethod
    def _encode(self, caption: str) -> list[int]:
        """The model's own ids, without a begin or end of text; raises ConfigError where the model has none."""

    @abc.abstractmethod
    def _decode(self, ids: list[int]) -> str:
        """The text of the model's own ids."""

    @abc.abstractmethod
    def _piece(self, id_: int) -> str:
        """What the model calls one of its own ids."""
