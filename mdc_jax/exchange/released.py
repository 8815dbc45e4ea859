"""What the readers of other libraries' weights return, and how they say that an encoder cannot be expressed."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping

import numpy as np

from mdc_jax.config import ConfigError, sections
from mdc_jax.exchange import positions

# By how a parameter is called: what it belongs to, which the encoder of `models/vit.py` does not have.
_REASONS = (
    (r"\bls[12]\b|gamma_|layer_scale|lambda1", "layer scale"),
    (r"reg_token|register", "register tokens"),
    (r"dist_token|distillation|head_dist", "a distillation token"),
    (r"norm_pre|pre_layrnorm|pre_layernorm|ln_pre", "a LayerNorm before the blocks"),
    (r"[qk]_norm|query_norm|key_norm", "norms of queries and keys"),
    (r"fc_norm", "a final LayerNorm after pooling instead of one of the tokens"),
    (r"rel_pos|rope|freqs", "relative or rotary positions"),
    (r"w12|fc1_g|\bw[123]\b|gate", "a gated MLP"),
    (r"patch_embed.*bias|patch_embedding.*bias", "a patch embedding without bias"),
    (r"pos_embed|position_embedding", "another kind of positions than one table"),
)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """An image encoder in our layout, without what stands around it."""

    leaves: Mapping[str, np.ndarray]  # f32 by name, as in "blocks/mlp/up/kernel"
    section: sections.Encoder  # with every size
    image: sections.Image | None  # size, mean and std; None: the files do not tell
    resample: positions.Resample  # of the learned positions
    left_out: tuple[str, ...]  # what stood around it, by name


def check_all_found(missing: Iterable[str], left: Iterable[str]) -> None:
    """Raises ConfigError where parameters are `missing`, or some are `left` that our encoder has no use for."""
    found: dict[str, str] = {}  # reason → an example
    for name, example in (
        *((name, name) for name in sorted(left)),
        *((name, f"{name} is missing") for name in sorted(missing)),
    ):
        reason = next((reason for pattern, reason in _REASONS if re.search(pattern, name)), "another structure")
        found.setdefault(reason, example)
    if found:
        reasons = ", ".join(f"{reason} ({example})" for reason, example in found.items())
        raise refusal(reasons)


def refusal(has: str) -> ConfigError:
    """The error for an encoder that is another than ours by what it `has`."""
    return ConfigError(
        f"the encoder of mdc_jax cannot express this one, which has {has}; mdc_jax/exchange/README.md lists what it can"
    )


def with_class_position(leaves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The class token as ours, [D]: its row of the positions is added to it.

    Libraries differ in whether the token has a position; which it is shows in the number of rows of `positions`
    [N or 1 + N, D], since patches make a square. Raises ConfigError where they make none.
    """
    leaves = dict(leaves)
    table, patches = leaves["positions"], len(leaves["positions"])
    if "class_token" in leaves:
        token = leaves["class_token"].reshape(-1)
        if math.isqrt(patches) ** 2 != patches:
            token, table, patches = token + table[0], table[1:], patches - 1
        leaves |= {"class_token": token, "positions": table}
    if math.isqrt(patches) ** 2 != patches:
        raise refusal(f"{patches} positions, which make no square")
    return leaves


def checked(encoder: Encoder) -> Encoder:
    """The encoder; raises ConfigError for settings and weights that files may hold, but no model can have."""
    section, image = encoder.section, encoder.image
    wrong = {
        f"{section.heads!r} heads at width {section.width}": not (
            isinstance(section.heads, int) and section.heads > 0 and section.width % section.heads == 0
        ),
        f"the epsilon {section.layer_norm_epsilon!r} in its LayerNorms": not (
            isinstance(section.layer_norm_epsilon, float) and 0 < section.layer_norm_epsilon < 1
        ),
        "weights that are not finite": not all(np.isfinite(leaf).all() for leaf in encoder.leaves.values()),
    }
    if image is not None:
        fits = len(image.mean) == len(image.std) == 3 and np.isfinite([*image.mean, *image.std]).all()
        fits = fits and min(image.std) > 0
        wrong[f"pixels normalised by {image.mean} and {image.std}"] = not fits
    for what, is_wrong in wrong.items():
        if is_wrong:
            raise refusal(what)
    return encoder


def sizes(leaves: Mapping[str, np.ndarray]) -> dict[str, int]:
    """The sizes that show in the shapes, as `config.sections.Encoder` calls them: all but the heads."""
    pixels, width = leaves["patch/kernel"].shape
    depth, _, mlp_dim = leaves["blocks/mlp/up/kernel"].shape
    return {"patch": math.isqrt(pixels // 3), "width": width, "depth": depth, "mlp_dim": mlp_dim}


def image_size(leaves: Mapping[str, np.ndarray]) -> int:
    """Pixels of the square image that the positions cover."""
    return math.isqrt(len(leaves["positions"])) * sizes(leaves)["patch"]
