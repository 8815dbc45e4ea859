"""Augmentations of training images beside the random crop."""

import numpy as np

from mdc_jax.config import sections

_LUMA = np.asarray((0.299, 0.587, 0.114), np.float32)  # of R, G and B in a pixel's grey (ITU-R BT.601)


def wanted(settings: sections.Image) -> dict[str, bool]:
    """Which augmentations the settings ask for, by their names there."""
    return {
        "random_crop": settings.random_crop < 1,
        "flip": settings.flip,
        "color_jitter": settings.color_jitter > 0,
    }


def augment(pixels: np.ndarray, settings: sections.Image, rng: np.random.Generator) -> np.ndarray:
    """Mirrors half of the images, and changes brightness, contrast and saturation; u8[S, S, 3] to the same."""
    if settings.flip and rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    if settings.color_jitter:
        strength = np.float32(settings.color_jitter)
        brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3).astype(np.float32)
        colors = pixels.astype(np.float32) * brightness
        grey = (colors @ _LUMA)[..., None]
        # Contrast moves every grey away from their mean, saturation every colour away from its grey.
        colors = (colors - grey) * (saturation * contrast) + grey * contrast + grey.mean() * (1 - contrast)
        pixels = np.clip(np.rint(colors), 0, 255).astype(np.uint8)
    return pixels
