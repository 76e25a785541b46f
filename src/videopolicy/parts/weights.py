"""Pretrained weights: where they come from, and what is said when they do not."""

from videopolicy.weights import explain_loading, pretrained_folder, refuse_differences, without_loading

__all__ = ["explain_loading", "pretrained_folder", "refuse_differences", "without_loading"]
