"""Masked Diffusion Captioning (arXiv 2510.26799) in JAX: visual features learned from captions."""

__version__ = "0.1.0"
