"""SentencePiece models, given or trained on captions."""

import io
import itertools
from collections.abc import Iterable, Iterator

import sentencepiece

from mdc_jax.config import sections
from mdc_jax.data.batch import EOS_ID, PAD_ID, UNK_ID
from mdc_jax.data.tokenizer import limits
from mdc_jax.data.tokenizer.base import Tokenizer

_THREADS = 4  # fixed, since sums over threads, and with them the model, depend on their number


class SentencePiece(Tokenizer):
    """A SentencePiece model: those trained here, T5's, Gemma's, Llama's ..."""

    def __init__(self, model_bytes: bytes) -> None:
        """Takes a serialised model; raises ValueError for all else, and for one that is made to fill the memory."""
        limits.check_size(len(model_bytes))
        if not model_bytes:
            raise ValueError("the file is empty")
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_proto=model_bytes)
        except RuntimeError as error:
            raise ValueError(
                f"these {len(model_bytes)} bytes are neither a SentencePiece model nor a tokenizer.json"
            ) from error
        for table in _tables(model_bytes):
            limits.check_table(table)
        ids = {"pad": self._model.pad_id(), "eos": self._model.eos_id(), "unk": self._model.unk_id()}
        given = {name: None if id_ < 0 else id_ for name, id_ in ids.items()}
        super().__init__(model_bytes, self._model.get_piece_size(), **given)

    def _encode(self, caption: str) -> list[int]:
        return self._model.encode(caption)

    def _decode(self, ids: list[int]) -> str:
        return self._model.decode(ids)

    def _piece(self, id_: int) -> str:
        return self._model.id_to_piece(id_)


def _tables(model: bytes) -> Iterator[bytes]:
    """The tables of characters of a serialised model: those by which it normalises a text and undoes that."""
    for number, rules in _parts(model):
        if number in (3, 5):  # normalizer_spec, denormalizer_spec
            yield from (table for number, table in _parts(rules) if number == 2)  # precompiled_charsmap


def _parts(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message of protocol buffers that are bytes or messages, by their numbers.

    The package's own module of its messages works with some versions of protobuf only.
    """
    file = io.BytesIO(message)
    while file.tell() < len(message):
        number, kind = divmod(_varint(file), 8)
        if kind == 0:
            _varint(file)
        elif kind in (1, 5):
            file.seek(8 if kind == 1 else 4, io.SEEK_CUR)
        elif kind == 2:
            yield number, file.read(_varint(file))
        else:
            raise ValueError(f"its model has a field of kind {kind}, which no version of SentencePiece writes")


def _varint(file: io.BytesIO) -> int:
    value = 0
    for shift, byte in enumerate(iter(lambda: file.read(1), b"")):
        value |= (byte[0] & 127) << 7 * shift
        if byte[0] < 128:
            break
    return value


def train(captions: Iterable[str], settings: sections.Tokenizer) -> SentencePiece:
    """Trains on the first `settings.train_captions` captions (unigram: arXiv 1804.10959, bpe: arXiv 1508.07909).

    The same captions give the same bytes. `settings.vocab_size` is a bound: few captions give fewer pieces.

    Raises:
      ValueError: there is no caption with a word in it, or the vocabulary cannot hold the characters.
      Exception: whatever the captions raise.
    """
    model = io.BytesIO()
    sentences = _Sentences(captions, settings.train_captions)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
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
        if sentences.fault is not None:
            raise sentences.fault from None
        if not sentences.any:
            raise ValueError("the source has no captions that a tokenizer could be trained on") from error
        # Its messages are a place in its code, what is wrong, and options of its own command.
        reason = str(error).rpartition("] ")[2].partition(" Increase ")[0].removesuffix(".")
        raise ValueError(
            f"no tokenizer of {settings.vocab_size} pieces could be trained on these captions: {reason}. "
            "Change tokenizer.vocab_size (--vocab_size where a tokenizer is prepared)."
        ) from error
    return SentencePiece(model.getvalue())


class _Sentences:
    """At most `limit` captions with a word in them; `fault` is what they raised, which the library swallows.

    `any` says whether there was one.
    """

    def __init__(self, captions: Iterable[str], limit: int) -> None:
        self._captions = captions
        self._limit = limit
        self.fault: Exception | None = None
        self.any = False

    def __iter__(self) -> Iterator[str]:
        try:
            sentences = filter(None, (" ".join(text.split()) for text in self._captions))
            for sentence in itertools.islice(sentences, self._limit):
                self.any = True
                yield sentence
        except Exception as error:
            self.fault = error
            raise
