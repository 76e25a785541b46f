"""What a user can choose about a measurement, checked before anything is built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from videopolicy.errors import VpolicyError, did_you_mean, listing

DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Args:
        device: ``cpu`` or ``cuda``; None takes the accelerator where there is one.
        dtype: Numbers in which matrix products and convolutions are computed; weights stay float32. ``tf32`` is what
            training and evaluation compute with on an accelerator that has it, ``float32`` is exact, the others are
            autocast.
        compile: Whether ``torch.compile`` is applied to the policy's modules.
        threads: Processor threads; None leaves torch's own number.
        batch_sizes: Rows of a forward pass for which throughput is measured. Latency is always that of one row.
        warmup, calls: Calls that are not timed and calls that are; None adapts both to how long one takes.
        seconds: What adapting aims at for one figure.
        training: Whether a training step of every stage is measured.
        meta: Count parameters and operations from shapes alone; nothing is allocated and nothing timed.

    Raises:
        VpolicyError: A value makes no sense, or the device is not there.
    """

    device: str | None = None
    dtype: str = "float32"
    compile: bool = False
    threads: int | None = None
    batch_sizes: tuple[int, ...] = (1, 4, 16)
    warmup: int | None = None
    calls: int | None = None
    training: bool = True
    meta: bool = False
    seconds: float = 5.0

    def __post_init__(self) -> None:
        _one_of("dtype", self.dtype, DTYPES)
        if self.device is not None:
            _one_of("device", self.device, DEVICES)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise VpolicyError("There is no CUDA device that torch can use.", "Use --device cpu.")
        counts = {"threads": self.threads, "calls": self.calls, **{"batch size": min(self.batch_sizes, default=0)}}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise VpolicyError(f"The number of {name} must be at least 1, not {value}.", "Give a larger number.")
        if self.warmup is not None and self.warmup < 0:
            raise VpolicyError(f"The number of warm-up calls cannot be {self.warmup}.", "Give 0 or more.")

    @property
    def torch_device(self) -> torch.device:
        if self.meta:
            return torch.device("meta")
        return torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))

    @contextmanager
    def numbers(self) -> Iterator[None]:
        """Computes in ``dtype`` inside."""
        kind = "cpu" if self.meta else self.torch_device.type
        with tensor_float_32(self.dtype != "float32"), torch.autocast(kind, DTYPES[self.dtype], enabled=self.casts):
            yield

    @property
    def casts(self) -> bool:
        """Whether weights and inputs of matrix products and convolutions are cast."""
        return DTYPES[self.dtype] != torch.float32

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Uses the chosen number of threads inside."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@contextmanager
def tensor_float_32(allowed: bool) -> Iterator[None]:
    """Inside, whether an accelerator may round the factors of float32 products and convolutions to 10 bits."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def _one_of(what: str, value: str, known: Any) -> None:
    if value not in known:
        raise VpolicyError(
            f"There is no {what} '{value}'.{did_you_mean(value, known)}", f"Choose one of {listing(known)}."
        )


def parse_sizes(text: str) -> tuple[int, ...]:
    """``1,4,16`` as numbers.

    Raises:
        VpolicyError: It is something else.
    """
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise VpolicyError(f"'{text}' is no list of batch sizes.", "Write them as 1,4,16.") from None
