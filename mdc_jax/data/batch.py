"""The batch contract: what every source, transform, objective and evaluator agrees on.

Shapes: B examples, C captions of an image, L tokens, H x W pixels.

    image    u8[B, H, W, 3]   decoded and resized; normalised on the device
    text     i32[B, C, L]     token ids; EOS is the last real token, then PAD
    length   i32[B, C]        real tokens, EOS included; 0 for a missing caption
    id       i32[B]           the record within its source
    _mask    bool[B]          false: padding or an unreadable record, in no loss and no metric
    label/X  i32[B, ...]      labels by family, only where an evaluator or the objective asks for them

L is data.max_tokens, or less in a training batch with data.buckets. A bad or missing example keeps its row, so that
positions never shift.
"""

from collections.abc import Mapping, Sequence

import numpy as np

Batch = Mapping[str, np.ndarray]

PAD_ID, EOS_ID, UNK_ID = 0, 1, 2  # the same in every tokenizer; MASK is no token: it is row V of the input embedding
LABEL_PREFIX = "label/"


def padded_captions(rows: Sequence[Sequence[Sequence[int]]], tokens: int) -> dict[str, np.ndarray]:
    """`text` i32[B, C, tokens] and `length` i32[B, C] of the token ids of C captions of each of B images."""
    return {
        "text": np.array([[[*ids, *[PAD_ID] * (tokens - len(ids))] for ids in row] for row in rows], np.int32),
        "length": np.array([[len(ids) for ids in row] for row in rows], np.int32),
    }
