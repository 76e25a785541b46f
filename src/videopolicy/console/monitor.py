"""What a run takes: memory, its simulator workers included, and time, also over several processes one after another."""

from __future__ import annotations

import threading
import time
from types import TracebackType

import psutil


class Clock:
    """Time of one piece of work that may be killed and continued by another process.

    Args:
        spent: What `spent` said when the work was last saved; empty for new work.
    """

    def __init__(self, spent: dict[str, float] | None = None) -> None:
        before = spent or {}
        self._began = time.monotonic() - before.get("seconds", 0.0)
        self._processor = time.process_time() - before.get("processor_seconds", 0.0)

    def spent(self) -> dict[str, float]:
        """``seconds`` by the clock, and ``processor_seconds`` over all threads."""
        return {
            "seconds": time.monotonic() - self._began,
            "processor_seconds": time.process_time() - self._processor,
        }


class MemoryMonitor:
    """Samples the resident memory of this process and its descendants.

    The sum counts pages that processes share several times, so it is an upper bound.

    Args:
        seconds: Between two samples.
        descendants: Whether other processes that this one has started count.
    """

    def __init__(self, seconds: float = 1.0, descendants: bool = True) -> None:
        self.peak_bytes = 0
        self._seconds, self._descendants = seconds, descendants
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        me = psutil.Process()
        while True:
            total = 0
            for process in [me, *(me.children(recursive=True) if self._descendants else ())]:
                try:
                    total += process.memory_info().rss
                except psutil.Error:  # it has ended meanwhile
                    continue
            self.peak_bytes = max(self.peak_bytes, total)
            if self._stop.wait(self._seconds):
                return

    def __enter__(self) -> MemoryMonitor:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
