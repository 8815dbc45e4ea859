"""SentencePiece: captions to token ids and back."""

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence

import sentencepiece
from etils import epath

from mdc_jax.config import sections
from mdc_jax.data.batch import EOS_ID, PAD_ID, UNK_ID

_THREADS = 4  # fixed, since sums over threads, and with them the model, depend on their number
_CHARACTERS_PER_TOKEN = (
    64  # far above what any piece covers: what follows cannot matter, and huge captions cost no time
)


class Tokenizer:
    """A SentencePiece model whose ids are the batch contract's: pad 0, eos 1, unk 2, no bos."""

    def __init__(self, model_bytes: bytes) -> None:
        """Takes a serialised model; raises ValueError where its special ids are other ones."""
        self.model_bytes = model_bytes
        self.hash = hashlib.sha256(model_bytes).hexdigest()
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_proto=model_bytes)
        except RuntimeError as error:
            raise ValueError(f"these {len(model_bytes)} bytes are no SentencePiece model") from error
        ids = self._model.pad_id(), self._model.eos_id(), self._model.unk_id()
        if ids != (PAD_ID, EOS_ID, UNK_ID):
            raise ValueError(
                f"the SentencePiece model has pad, eos, unk = {ids}, expected {(PAD_ID, EOS_ID, UNK_ID)}: "
                f"train it with pad_id={PAD_ID}, eos_id={EOS_ID}, unk_id={UNK_ID}, bos_id=-1"
            )
        self.vocab_size: int = self._model.get_piece_size()

    @classmethod
    def from_bytes(cls, model_bytes: bytes) -> "Tokenizer":
        return cls(model_bytes)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Tokenizer":
        """Reads a model file; raises FileNotFoundError or ValueError."""
        return cls(epath.Path(path).read_bytes())

    def encode(self, caption: str, max_tokens: int) -> list[int]:
        """Token ids, EOS last; a longer caption keeps its first max_tokens - 1 tokens and EOS."""
        ids = self._model.encode(caption[: _CHARACTERS_PER_TOKEN * max_tokens])
        del ids[max_tokens - 1 :]
        ids.append(EOS_ID)
        return ids

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The piece that each token stands for, as the model spells it."""
        return [self._model.id_to_piece(token) for token in map(int, ids)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text before the first EOS, PAD skipped."""
        kept = []
        for token in map(int, ids):
            if token == EOS_ID:
                break
            if token != PAD_ID:
                kept.append(token)
        return self._model.decode(kept)


def train(captions: Iterable[str], settings: sections.Tokenizer) -> Tokenizer:
    """Trains on the first `settings.train_captions` captions (unigram: arXiv 1804.10959, bpe: arXiv 1508.07909).

    The same captions give the same bytes. `settings.vocab_size` is a bound: few captions give fewer pieces.

    Raises:
      ValueError: there is no caption with a word in it, or the vocabulary cannot hold the characters.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_sentences(captions, settings.train_captions),
            model_writer=model,
            model_type=settings.algorithm,
            vocab_size=settings.vocab_size,
            hard_vocab_limit=False,
            byte_fallback=settings.byte_fallback,
            normalization_rule_name="nmt_nfkc_cf" if settings.lower_case else "nmt_nfkc",
            pad_id=PAD_ID,
            eos_id=EOS_ID,
            unk_id=UNK_ID,
            bos_id=-1,
            num_threads=_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(
            f"no tokenizer of {settings.vocab_size} pieces could be trained on these captions: {error}. "
            "Check that the source has captions, or change tokenizer.vocab_size."
        ) from error
    return Tokenizer(model.getvalue())


def _sentences(captions: Iterable[str], limit: int) -> Iterator[str]:
    count = 0
    for caption in captions:
        caption = " ".join(caption.split())
        if caption:
            yield caption
            count += 1
            if count == limit:
                return
