"""What training costs and what the hardware could do: parameters, FLOPs, model FLOPs utilisation (MFU).

MFU is the arithmetic that the model needs, over the arithmetic that the devices could do in that time
(PaLM, arXiv 2204.02311, appendix B). Work that an implementation repeats, as rematerialisation does,
does not count, nor do tokens without a loss in the output layer, which is not run on them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from mdc_jax.objectives.base import Objective

# Dense bfloat16 FLOP/s that makers state, by the device kinds of JAX; a kind takes the first name that begins it.
# A device of TPU v2 and v3 is one of the two cores of a chip.
PEAKS: Mapping[str, float] = {
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4 lite": 138e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "TPU7x": 1153.5e12,  # of one of a chip's two halves, each a device of JAX
    "NVIDIA A100": 312e12,
    "NVIDIA A10G": 70e12,
    "NVIDIA A10": 125e12,
    "NVIDIA GH200": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200 NVL": 835e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA L40": 181e12,
    "NVIDIA L4": 121e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA GB200": 2500e12,
}


def peak(device_kind: str) -> float | None:
    """Dense bfloat16 FLOP/s of a device; None where it is not known, as of a part of one (MIG)."""
    if " MIG " in device_kind:
        return None
    return next((flops for name, flops in PEAKS.items() if device_kind.startswith(name)), None)


def utilisation(flops_per_second: float, device_kind: str, devices: int) -> float | None:
    """Share of the peak of `devices` devices; None where that is not known."""
    one = peak(device_kind)
    return None if one is None else flops_per_second / (one * devices)


def parameters(params: Any) -> int:
    """Number of parameters in a (possibly abstract) tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def describe(params: Mapping[str, Any]) -> str:
    """How many parameters there are, and in which part, as in "1.30 M parameters (encoder 0.80, text_encoder 0.50)"."""
    parts = {name: f"{parameters(part) / 1e6:.2f}" for name, part in params.items()}
    listed = ", ".join(f"{name} {millions}" for name, millions in parts.items() if float(millions))
    return f"{parameters(params) / 1e6:.2f} M parameters" + (f" ({listed})" if listed else "")


@dataclasses.dataclass(frozen=True)
class Cost:
    """What an image costs in training, on `devices` devices of one kind."""

    objective: Objective
    captions_per_image: int
    device_kind: str
    devices: int
    frozen: bool = False  # some parameters are: what their backward pass would take is counted, though it may never run

    def flops(self, metrics: Mapping[str, float]) -> float:
        """Of the matrix products of a training step for an image, given its `metrics`, or the means over some steps.

        They tell how many tokens had a loss, and how long texts were. Of a mean over several lengths, attention between
        the tokens of a text, which grows with their square, is counted at the mean.
        """
        counts = metrics.get("predicted_tokens"), metrics.get("text_tokens")
        return self.objective.flops(self.captions_per_image, *counts)["train"]

    def mfu(self, metrics: Mapping[str, float], images_per_second: float) -> float | None:
        """Share in [0, 1] of the peak of all devices; None where that, or what is computed, is not known."""
        if self.frozen:
            return None
        return utilisation(self.flops(metrics) * images_per_second, self.device_kind, self.devices)

    def describe(self) -> str:
        """One line: what an image costs at most, and what MFU is measured against."""
        flops = self.objective.flops(self.captions_per_image)["train"]
        one = peak(self.device_kind)
        if self.frozen:
            against = "MFU unknown: how much of the backward pass optimizer.lr_multipliers spares is not counted"
        elif one:
            against = f"MFU against {one / 1e12:,.0f} bfloat16 TFLOP/s a device"
        else:
            against = f'MFU unknown: no peak is listed for "{self.device_kind}"'
        return f"{flops / 1e9:,.3g} GFLOP an image and step where every token has a loss; {against}"
