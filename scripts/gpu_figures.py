"""Measures policies of published size with random weights on one accelerator; `scripts/gpu.sh` runs it.

Sections run in order of importance until the deadline. Each is guarded: what fails is written down with its message,
and the next one runs. ``figures.json`` is complete after every figure.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from videopolicy.console.threads import wait_briefly

wait_briefly()

import torch  # noqa: E402
from gpu_subjects import FLOORS, GOAL, SUBJECTS, table  # noqa: E402

from videopolicy.bench.acting import fixed_actions, latency_of, split_by_part, timed_plans  # noqa: E402
from videopolicy.bench.counting import operations, parameters_by_part  # noqa: E402
from videopolicy.bench.learning import time_stage  # noqa: E402
from videopolicy.bench.settings import DTYPES, Settings  # noqa: E402
from videopolicy.bench.subject import Subject, UnfoldingEpisode  # noqa: E402
from videopolicy.bench.timing import peak_memory, peak_rate, synchronize  # noqa: E402
from videopolicy.console.progress import Reporter  # noqa: E402
from videopolicy.evaluation.compiling import compile_modules  # noqa: E402
from videopolicy.evaluation.graphs import capture, released  # noqa: E402
from videopolicy.recipes.recipe import Recipe, load_recipe  # noqa: E402
from videopolicy.storage.files import write_json  # noqa: E402
from videopolicy.storage.surroundings import machine  # noqa: E402

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
STARTED = time.monotonic()


class SectionTimeout(BaseException):
    """A section has used up its time; not an `Exception`, which libraries catch and go on."""


class Record:
    """What was found so far, on disk after every figure.

    Args:
        folder: Where it lies.
        deadline: Seconds from the start after which nothing begins.
    """

    def __init__(self, folder: Path, deadline: float) -> None:
        self.path, self.deadline = folder / "figures.json", deadline
        self.facts: dict[str, Any] = {"floors": FLOORS, "acting": [], "training": [], "sections": []}

    @property
    def left(self) -> float:
        return self.deadline - (time.monotonic() - STARTED)

    def write(self) -> None:
        self.facts["seconds"] = time.monotonic() - STARTED
        write_json(self.path, self.facts)

    def add(self, kind: str, row: dict[str, Any]) -> None:
        self.facts[kind].append(row)
        self.write()
        say(f"{kind}: " + ", ".join(_short(name, value) for name, value in row.items() if _short(name, value)))

    @contextmanager
    def guarded(self, name: str) -> Iterator[None]:
        """Write down why what is inside failed, and go on behind it."""
        try:
            yield
        except Exception as error:
            text = f"{type(error).__name__}: {str(error).strip()[:1000]}"
            self.facts["sections"].append(
                {"name": name, "error": text, "where": traceback.format_exc().strip().splitlines()[-9:]}
            )
            say(f"{name}: {text[:300]}")

    def section(self, name: str, seconds: float, call: Callable[[], object]) -> None:
        """Run something within some seconds, whatever happens there."""
        facts: dict[str, Any] = {"name": name, "error": None}
        self.facts["sections"].append(facts)
        began, limit = time.monotonic(), min(seconds, self.left)
        say(f"section {name}, {limit:.0f} s at most")
        before = signal.signal(signal.SIGALRM, _out_of_time)
        try:
            if limit < 3:
                raise SectionTimeout("no time was left for it")
            signal.setitimer(signal.ITIMER_REAL, limit)
            call()
        except (Exception, SectionTimeout) as error:
            facts["error"] = f"{type(error).__name__}: {str(error).strip()[:1000]}"
            facts["where"] = traceback.format_exc().strip().splitlines()[-9:]
            say(f"section {name} ended: {facts['error'][:300]}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            facts["seconds"] = time.monotonic() - began
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.write()


def _out_of_time(*_: Any) -> None:
    raise SectionTimeout("its time is over")


def say(text: str) -> None:
    print(f"[{time.monotonic() - STARTED:6.1f} s] {text}", flush=True)


def _short(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{name} {value:.4g}"
    return ""


class Bench:
    """The sections.

    Args:
        record: Where figures go.
        tiny: Toy sizes, for trying the plumbing.
    """

    def __init__(self, record: Record, tiny: bool) -> None:
        self.record, self.tiny = record, tiny
        self.quiet = Reporter(quiet=True)
        self.settings = Settings(warmup=1, calls=1) if tiny else Settings(warmup=2, seconds=1.0)
        self.device = self.settings.torch_device
        self.peaks: dict[str, float] = {}
        self.operations: dict[tuple[str, int], dict[str, int]] = {}
        """Of one plan, by model and steps."""

    def recipe(self, model: str, *overrides: str) -> Recipe:
        known = SUBJECTS[model]
        return load_recipe(RECIPES / known.recipe, [*(known.tiny if self.tiny else ()), *overrides])

    def steps(self, model: str) -> tuple[int, ...]:
        return (2, 3)[: len(SUBJECTS[model].steps[1])] if self.tiny else SUBJECTS[model].steps[1]

    def peak(self) -> None:
        """What large products reach."""
        for dtype in ("tf32", "bfloat16"):
            with dataclasses.replace(self.settings, dtype=dtype).numbers():
                self.peaks[dtype] = peak_rate(self.device, DTYPES[dtype], 128 if self.tiny else None)
        self.record.facts["peaks"] = self.peaks
        say("peaks: " + ", ".join(f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in self.peaks.items()))

    def subject(self, model: str, dtype: str) -> Subject:
        """A policy with random weights, made where it runs."""
        began = time.monotonic()
        subject = Subject(self.recipe(model), dataclasses.replace(self.settings, dtype=dtype), None)
        synchronize(self.device)
        say(f"{model} built in {time.monotonic() - began:.1f} s")
        return subject

    def take_steps(self, subject: Subject, model: str, steps: int) -> None:
        """Let a policy sample in another number of steps; its weights stay."""
        recipe = self.recipe(model, f"{SUBJECTS[model].steps[0]}={steps}")
        policy: Any = subject.policy
        if model == "uva":
            policy.action.options = recipe.part("policy.action")
            policy.action.head.options = policy.action.options.head
        else:
            policy.decoder.options = recipe.part("policy.decoder")

    def eager(self, model: str) -> None:
        """As written, in two kinds of numbers; then captured."""
        subject = self.subject(model, "bfloat16")
        self.record.facts.setdefault("parameters", {})[model] = parameters_by_part(subject.policy)
        reference: dict[int, torch.Tensor] = {}
        for dtype in ("tf32", "bfloat16"):
            subject.settings = dataclasses.replace(self.settings, dtype=dtype)
            for steps in self.steps(model):
                self.take_steps(subject, model, steps)
                if steps >= 30 and model == "video_policy":  # takes half a minute, and is six times the 5 steps
                    if dtype == "bfloat16":
                        self.operations[model, steps] = operations(subject, plan=subject.plans + 1)
                    continue
                profiled = dtype == "bfloat16" and steps == self.steps(model)[0]
                with subject.settings.numbers(), self.record.guarded(f"{model} eager {dtype} {steps}"):
                    self.acted(subject, model, steps, "eager", reference, profiled)
        if self.device.type != "cuda":
            raise NotImplementedError("CUDA graphs need a CUDA device")
        with subject.settings.numbers(), released(subject.policy):
            graphs = capture(subject.policy, lambda: subject.act(subject.observation(1)), self.device)
            for steps in self.steps(model):
                self.take_steps(subject, model, steps)
                with self.record.guarded(f"{model} graphs {steps}"):
                    row = self.acted(subject, model, steps, "graphs", reference)
                    row["captured"], row["failures"] = graphs.captured, graphs.failures
                say(f"captured {graphs.captured}, not captured {graphs.failures}")

    def compiled(self, model: str) -> None:
        """Compiled by torch, in bfloat16."""
        subject = self.subject(model, "bfloat16")
        self.take_steps(subject, model, self.steps(model)[:2][-1])
        with subject.settings.numbers():
            reference: dict[int, torch.Tensor] = {}
            modules = compile_modules(subject.policy, lambda: subject.act(subject.observation(1)))
            began = time.monotonic()
            subject.act(subject.observation(1))
            synchronize(self.device)
            seconds = time.monotonic() - began
            say(f"{model}: {len(modules)} modules compiled in {seconds:.0f} s")
            for count in self.steps(model):
                self.take_steps(subject, model, count)
                with self.record.guarded(f"{model} compiled {count}"):
                    row = self.acted(subject, model, count, "compiled", reference)
                    row["compiled_modules"], row["compile_seconds"] = modules, seconds

    def acted(
        self,
        subject: Subject,
        model: str,
        steps: int,
        mode: str,
        reference: dict[int, torch.Tensor],
        profiled: bool = False,
    ) -> dict[str, Any]:
        """Everything about one plan at a time, added to the record."""
        actions = fixed_actions(subject)  # with what happens once
        began = time.monotonic()
        actions = fixed_actions(subject)
        slow = time.monotonic() - began > 0.4
        difference = float((actions - reference.setdefault(steps, actions)).abs().max())
        usual = subject.settings
        if slow:
            subject.settings = dataclasses.replace(usual, warmup=1, calls=1 if self.tiny else 3)
        timing = timed_plans(subject, f"{model} {mode}", 1, self.quiet)
        subject.settings = usual
        one = latency_of(timing)
        parts = split_by_part(subject, 1 if slow or self.tiny else 3, self.quiet)
        episode = UnfoldingEpisode(subject)
        episode.unfold()
        memory = peak_memory(episode.act, self.device)
        # Counted with nothing captured: a graph's operations cannot be seen.
        if (model, steps) not in self.operations:
            self.operations[model, steps] = operations(subject, plan=subject.plans + 1)
        counted = self.operations[model, steps]
        total = sum(counted.values())
        row: dict[str, Any] = {
            "model": model,
            "mode": mode,
            "dtype": subject.settings.dtype,
            "steps": steps,
            "median": one.median,
            "p95": one.p95,
            "fastest": one.fastest,
            "calls": one.calls,
            "share_of_peak": total / one.median / self.peaks.get(subject.settings.dtype, GOAL),
            "floor": total / GOAL,
            "peak_memory_bytes": memory,
            "difference": difference,
            "largest_action": float(actions.abs().max()),
            "finite": bool(actions.isfinite().all()),
            "seconds": timing.seconds,
            "warmup_seconds": timing.warmup_seconds,
            "parts": parts.seconds,
            "new_sentence": parts.new_sentence_text,
            "operations": counted,
        }
        if profiled and self.device.type == "cuda":
            try:
                row["kernels"] = self.kernels(episode)
            except Exception as error:  # a profiler that does not work here takes no other figure along
                row["kernels"] = {"error": str(error)}
        self.record.add("acting", row)
        return row

    def kernels(self, episode: UnfoldingEpisode) -> dict[str, Any]:
        """What the device does in one plan: the rest of the time it waits for the processor."""
        from torch.profiler import ProfilerActivity, profile

        episode.unfold()
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            episode.act()
            synchronize(self.device)
        found = [event for event in profiler.key_averages() if event.self_device_time_total > 0]
        found.sort(key=lambda event: -event.self_device_time_total)
        return {
            "count": sum(event.count for event in found),
            "seconds": sum(event.self_device_time_total for event in found) / 1e6,
            "longest": [[event.key[:100], event.count, event.self_device_time_total / 1e6] for event in found[:15]],
        }

    def trained(self, model: str, name: str, batches: tuple[int, ...]) -> None:
        """A step of a stage in the recipe's numbers, at the largest batch of several that fits."""
        settings = dataclasses.replace(self.settings, calls=1 if self.tiny else 5)
        for batch in batches[-1:] if self.tiny else batches:
            recipe = self.recipe(model, f"train.{name}.batch_size={batch}")
            stage = next(stage for stage in recipe.train if stage.name == name)
            try:
                timing, memory = time_stage(recipe, stage, settings, self.quiet)
            except torch.OutOfMemoryError as error:
                say(f"{model} {name}: a batch of {batch} does not fit")
                self.record.facts["training"].append(
                    {"model": model, "stage": name, "batch": batch, "error": str(error)}
                )
                error.__traceback__ = None
                gc.collect()
                torch.cuda.empty_cache()
                continue
            row = {
                "model": model,
                "stage": name,
                "precision": stage.precision,
                "batch": batch,
                "step": timing.median,
                "samples_per_second": batch / timing.median,
                "peak_memory_bytes": memory,
                "seconds": timing.seconds,
            }
            self.record.add("training", row)
            return


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="Folder for figures.json and table.txt.")
    parser.add_argument("--deadline", type=float, default=400, help="Seconds after which nothing begins.")
    parser.add_argument("--only", default="", help="Sections whose names hold one of these words, behind commas.")
    parser.add_argument("--tiny", action="store_true", help="Toy sizes: plumbing only. Implied without CUDA.")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    tiny = given.tiny or not torch.cuda.is_available()
    record = Record(given.out, given.deadline)
    record.facts |= {"tiny": tiny, "machine": machine().model_dump(), "torch": torch.__version__}
    bench = Bench(record, tiny)
    say(f"{machine().accelerator or machine().processor}, torch {torch.__version__}, tiny: {tiny}")
    sections: list[tuple[str, float, Callable[[], None]]] = [("peaks", 20, bench.peak)]
    for model, seconds in (("vpp", 60), ("video_policy", 130), ("uva", 60)):
        sections.append((f"acting {model}", seconds, lambda model=model: bench.eager(model)))
    for model, known in SUBJECTS.items():
        for name, batches in known.stages:
            work = lambda model=model, name=name, batches=batches: bench.trained(model, name, batches)  # noqa: E731
            sections.append((f"training {model} {name}", 45, work))
    for model in () if tiny else ("vpp", "uva", "video_policy"):
        sections.append((f"compiled {model}", 150, lambda model=model: bench.compiled(model)))
    words = given.only.split(",")
    for name, seconds, call in sections:
        if name == "peaks" or any(word in name for word in words):
            record.section(name, 20 * seconds if tiny else seconds, call)  # a processor may be busy
    text = table(record.facts)
    (given.out / "table.txt").write_text(text + "\n", encoding="utf-8")
    print("\n" + text, flush=True)
    serious = [one for one in record.facts["sections"] if one["error"] and "CUDA graphs need" not in one["error"]]
    return 1 if serious else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # what compiles in the background need not be waited for
