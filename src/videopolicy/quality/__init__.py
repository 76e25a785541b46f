"""How well a policy predicts clips of episodes that nothing was trained on, and infers their actions.

May import `importing` (for networks), `evaluation` and below; `running` measures, `compare` reads what was measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from videopolicy.quality.model import VideoQuality, read_quality

if TYPE_CHECKING:
    from videopolicy.quality.measure import measure_quality


def __getattr__(name: str) -> Any:
    """Measuring needs torch; reading what was measured does not."""
    if name != "measure_quality":
        raise AttributeError(f"module 'videopolicy.quality' has no attribute '{name}'")
    from videopolicy.quality import measure

    return measure.measure_quality


__all__ = ["VideoQuality", "measure_quality", "read_quality"]
