"""Checkpoints as often as a test wants them, however long this machine takes to write one."""

from pytest import MonkeyPatch


def save_after_every_step(patch: MonkeyPatch) -> None:
    """Without regard to the time since the last one, and to the share of the time that saving takes."""
    patch.setattr("videopolicy.training.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    patch.setattr("videopolicy.training.SHARE_OF_SAVING", float("inf"))
