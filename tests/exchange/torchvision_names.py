"""Lets torchvision be imported where PyTorch is a CPU build and torchvision none: timm and transformers ask for it."""

from typing import Any

_kept: list[Any] = []  # an operation lives as long as its library


def define() -> None:
    """The import asks for the names of two operations, which are in a file that needs the libraries of a GPU."""
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
