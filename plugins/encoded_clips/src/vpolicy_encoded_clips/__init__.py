"""Clips that were encoded ahead of training."""
