"""Pretrained weights: where they come from, and what is said when they do not."""

from videopolicy.weights import beginnings, ensure_no_differences, explain_loading, pretrained_folder, without_loading

__all__ = ["beginnings", "ensure_no_differences", "explain_loading", "pretrained_folder", "without_loading"]
