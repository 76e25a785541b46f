"""Pretrained weights: where they come from, and what is said when they do not."""

from videopolicy.weights import (
    ToBeFetchedError,
    beginnings,
    ensure_no_differences,
    explain_loading,
    only_looking,
    pretrained_folder,
    quiet_transformers,
    without_loading,
)

__all__ = [
    "ToBeFetchedError",
    "beginnings",
    "ensure_no_differences",
    "explain_loading",
    "only_looking",
    "pretrained_folder",
    "quiet_transformers",
    "without_loading",
]
