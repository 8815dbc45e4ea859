"""`tokenizer.json` files, as BERT, CLIP, GPT-2 and most models on Hugging Face have one."""

import contextlib
import json
from collections.abc import Iterator

import numpy as np

from mdc_jax.config import ConfigError
from mdc_jax.data.tokenizer import limits
from mdc_jax.data.tokenizer.base import Tokenizer

# What models call them; the first that the file has. CLIP has one token for all three.
_PAD = ("[PAD]", "<pad>", "<|padding|>")
_EOS = ("[SEP]", "</s>", "<|endoftext|>", "<eos>", "<|end_of_text|>")
_UNK = ("[UNK]", "<unk>")


class HuggingFace(Tokenizer):
    """A tokenizer.json; the package `tokenizers` reads it."""

    def __init__(self, model_bytes: bytes) -> None:
        """Takes the file's bytes.

        Raises:
          ValueError: they are no tokenizer.json, or one that is made to fill the memory; or `tokenizers` is not
            installed.
        """
        try:
            import tokenizers
        except ModuleNotFoundError as error:
            raise ValueError(
                "a tokenizer.json needs the package tokenizers: pip install -r requirements-tokenizers.txt"
            ) from error
        limits.check_size(len(model_bytes))
        with _refused(ValueError, f"these {len(model_bytes)} bytes are JSON, but no tokenizer.json"):
            content = json.loads(model_bytes)
            for part in ("normalizer", "pre_tokenizer", "decoder"):
                limits.check_rules(content.get(part))
            self._model = tokenizers.Tokenizer.from_buffer(model_bytes)
            suffix = content["model"].get("end_of_word_suffix")
        self._suffix: str = suffix or ""
        # A caption that spells "[SEP]" is text, and of any length.
        self._model.encode_special_tokens = True
        self._model.no_truncation()
        self._model.no_padding()
        size = 1 + max(self._model.get_vocab(with_added_tokens=True).values(), default=-1)
        super().__init__(model_bytes, size, pad=self._id(_PAD), eos=self._id(_EOS), unk=self._id(_UNK))

    def word_starts(self) -> np.ndarray:
        if self._suffix:
            raise ConfigError(
                f'the pieces of this tokenizer say with "{self._suffix}" where words end, as those of CLIP, not where '
                "they start: use another, or set objective.mask_words=False"
            )
        return super().word_starts()

    def _id(self, names: tuple[str, ...]) -> int | None:
        return next((id_ for id_ in map(self._model.token_to_id, names) if id_ is not None), None)

    def _encode(self, caption: str) -> list[int]:
        with _refused(ConfigError, f"this tokenizer.json cannot encode {caption[:80]!r}; use another"):
            return self._model.encode(caption, add_special_tokens=False).ids

    def _decode(self, ids: list[int]) -> str:
        with _refused(ConfigError, f"this tokenizer.json cannot decode {ids[:20]}; use another"):
            text = self._model.decode(ids, skip_special_tokens=False)
        # The end of a word, which not every file's own decoder takes away.
        return text.replace(self._suffix, " ").strip() if self._suffix else text

    def _piece(self, id_: int) -> str:
        return self._model.id_to_token(id_) or ""


@contextlib.contextmanager
def _refused(kind: type[Exception], reason: str) -> Iterator[None]:
    """Raises `kind` for what the package raises: plain Exception, and where it panics, as at a regular expression that
    takes too long, something that is none.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise kind(f"{reason}: {error}") from error
