"""Simulators' own virtual environments, made by uv on first use and kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import vpolicy_worker

from videopolicy.components.sources import distribution_of, package_code
from videopolicy.contracts.benchmark import WorkerSpec
from videopolicy.errors import SimulationError, StorageError
from videopolicy.simulators.assets import (
    assets_are_there,
    assets_folder,
    assets_to_be_made,
    assets_variable,
    ensure_assets,
    ensure_written,
)
from videopolicy.simulators.checkouts import ensure_checkout, source_folder, source_variable, to_be_cloned
from videopolicy.storage.files import locked_file, storage_errors
from videopolicy.storage.store import Store
from videopolicy.storage.temporary import temporary_folder

_WORKER_NEEDS = ("numpy", "msgpack")
_LAST_LINES = 12
KEPT_BACK = {name: f"VPOLICY_SIMULATOR_{name}" for name in ("PYTHONPATH", "LD_LIBRARY_PATH")}
"""Variables of the shell that are made for other programs, and those by which they reach a simulator on purpose."""
_HEADLESS = ("egl", "osmesa")
"""Values of MUJOCO_GL that need no display."""


def override_variable(spec: WorkerSpec) -> str:
    """Name of the environment variable that points to an interpreter which the user already has."""
    return f"VPOLICY_{spec.environment.upper().replace('-', '_')}_PYTHON"


def environment_folder(spec: WorkerSpec, root: Path | None = None) -> Path | None:
    """Where the environment lies or will lie; None where it is not ours (an override, or no requirements).

    The name carries a hash of the requirements, so that a change of versions makes another environment.
    """
    if os.environ.get(override_variable(spec)) or spec.requirements is None:
        return None
    content = "\n".join([spec.requirements.read_text(encoding="utf-8"), spec.python, *_WORKER_NEEDS])
    key = hashlib.sha256(content.encode()).hexdigest()[:12]
    return Store(root).root / "environments" / f"{spec.environment}-{key}"


def is_ready(spec: WorkerSpec, root: Path | None = None) -> bool:
    """Whether the interpreter, and what it runs, is there without anything having to be installed."""
    try:
        return _interpreter_is_ready(spec, root) and not to_be_cloned(spec, root) and assets_are_there(spec, root)
    except SimulationError:  # whoever needs it gets the error
        return False


def _interpreter_is_ready(spec: WorkerSpec, root: Path | None) -> bool:
    folder = environment_folder(spec, root)
    return folder is None or _usable(folder)


def _usable(folder: Path) -> bool:
    """Whether an environment was finished and has its interpreter still: a copy from another machine may not."""
    try:
        finished = Store.finished(folder) is not None
    except StorageError:  # it is made again in a minute
        finished = False
    return finished and (folder / "bin" / "python").is_file()


def interpreter(spec: WorkerSpec, root: Path | None = None, say: Callable[[str], None] = lambda text: None) -> Path:
    """The Python that runs a simulator; its environment is made when it is not there yet.

    An environment that was left half made, by a crash or ``kill -9``, or whose interpreter is not on this machine, is
    thrown away and made again. Two processes that want the same one wait for each other.

    Args:
        spec: What to run. ``VPOLICY_<NAME>_PYTHON`` overrides its environment.
        root: Folder of artifacts; None: ``VPOLICY_HOME`` or ``.vpolicy`` in the current folder.
        say: Gets one line when something has to be made.

    A repository that the simulator runs from is cloned, too, and assets that need no download are written.

    Raises:
        SimulationError: The override does not exist, or uv, git or the assets' script failed; with their last lines.
    """
    python = _interpreter(spec, root, say)
    ensure_written(spec, python, _variables(spec, root), root, say)
    return python


def fetch_assets(spec: WorkerSpec, root: Path | None = None, say: Callable[[str], None] = lambda text: None) -> Path:
    """The folder of a simulator's assets, which are written and downloaded where they are not there yet.

    Raises:
        SimulationError: It needs none, or they cannot be made; see `ensure_assets`.
    """
    python = _interpreter(spec, root, say) if spec.assets and spec.assets.script else Path(sys.executable)
    return ensure_assets(spec, python, _variables(spec, root), root, say)


def _interpreter(spec: WorkerSpec, root: Path | None, say: Callable[[str], None]) -> Path:
    ensure_checkout(spec, root, say)
    override = os.environ.get(override_variable(spec))
    if override:
        return _given(Path(override).expanduser(), spec)
    folder = environment_folder(spec, root)
    if folder is None:
        return Path(sys.executable)
    python = folder / "bin" / "python"
    if _usable(folder):
        Store.used(folder)
        return python
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with locked_file(folder.with_name(f".{folder.name}.lock"), f"the environment {folder}", say):
        if not _usable(folder):
            say(f"Making the environment of '{spec.environment}' in {folder}")
            _make(spec, folder, python)
    return python


def to_be_made(spec: WorkerSpec, root: Path | None = None) -> str:
    """What would have to be installed for a simulator; empty where its interpreter is there.

    Nothing is asked for over the network.

    Raises:
        SimulationError: It can neither be used nor made: the override does not exist, there is no uv, no list of
            packages, or no Python for it.
    """
    parts = (_to_be_installed(spec, root), to_be_cloned(spec, root), assets_to_be_made(spec, root))
    return " ".join(filter(None, parts))


def _to_be_installed(spec: WorkerSpec, root: Path | None) -> str:
    if override := os.environ.get(override_variable(spec)):
        _given(Path(override).expanduser(), spec)
        return ""
    if spec.requirements is not None and not spec.requirements.is_file():
        raise SimulationError(
            f"The environment of '{spec.environment}' cannot be made: {spec.requirements} does not exist.",
            "Install the benchmark's package again.",
        )
    if _interpreter_is_ready(spec, root):
        return ""
    elsewhere = f"or point {override_variable(spec)} to a Python that has what the simulator needs."
    try:
        program = _uv()
    except FileNotFoundError as error:
        raise SimulationError(
            f"The environment of '{spec.environment}' cannot be made: uv is not here ({error}).",
            f"Install it (pip install uv), {elsewhere}",
        ) from None
    command = [program, "python", "find", "--offline", "--no-python-downloads", _python_version(spec)]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", env=without_the_shells_paths()
    )
    what = f"The environment of '{spec.environment}' has to be made, with packages from the registry"
    if done.returncode == 0:
        return f"{what}."
    version = _python_version(spec)
    if os.environ.get("UV_PYTHON_DOWNLOADS", "").lower() in ("never", "manual") or os.environ.get("UV_OFFLINE"):
        raise SimulationError(
            f"The environment of '{spec.environment}' cannot be made: there is no Python {version} here, and uv may "
            "not download one.",
            f"Install one, unset UV_PYTHON_DOWNLOADS and UV_OFFLINE, {elsewhere}",
        )
    return f"{what} and a Python {version} that uv downloads."


def checks_rendering(spec: WorkerSpec) -> bool:
    """Whether the simulator has something to say on whether it can render here."""
    return "check_rendering" in spec.module.read_text(encoding="utf-8", errors="replace")


def worker_code() -> str:
    """Says which code the package of the workers is, as part of the key of what they collect."""
    return package_code(vpolicy_worker, distribution_of("vpolicy-worker"))


def worker_variables(spec: WorkerSpec, folder: Path) -> dict[str, str]:
    """Environment variables of a worker process, through which it finds the worker package.

    Args:
        spec: What to run.
        folder: An own folder for a link to that package, whose real place may be a site-packages that must not
            leak into the simulator's environment.
    """
    link = folder / "vpolicy_worker"
    if not link.exists():
        link.symlink_to(Path(vpolicy_worker.__file__).parent)
    shell = without_the_shells_paths()
    search = [str(folder), spec.variables.get("PYTHONPATH", ""), shell.get("PYTHONPATH", "")]
    return {**_variables(spec), "PYTHONPATH": os.pathsep.join(filter(None, search))}


def _variables(spec: WorkerSpec, root: Path | None = None) -> dict[str, str]:
    """Environment variables of whatever a simulator's interpreter runs."""
    # A log is a file, whatever the terminal's encoding.
    ours = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"}
    if (source := source_folder(spec, root)) is not None:
        ours[source_variable(spec)] = str(source)
    if (assets := assets_folder(spec, root)) is not None:
        ours[assets_variable(spec)] = str(assets)
    return {**without_the_shells_paths(), **ours, **spec.variables}


def worker_command(spec: WorkerSpec, python: Path, socket: Path) -> list[str]:
    """What starts a worker that connects to a socket."""
    command = [str(python), "-m", "vpolicy_worker", "--connect", str(socket)]
    command += ["--module", str(spec.module), "--simulator", spec.simulator]
    return [*command, "--config", json.dumps(spec.config), "--timeout", str(spec.timeout)]


def without_the_shells_paths() -> dict[str, str]:
    """The environment of this process, with paths of libraries only where they are meant for simulators.

    ``PYTHONPATH`` and ``LD_LIBRARY_PATH`` of a shell name libraries for the interpreter that runs the core. In another
    one they hide its own. What a simulator needs is named by ``VPOLICY_SIMULATOR_PYTHONPATH`` and
    ``VPOLICY_SIMULATOR_LD_LIBRARY_PATH``, or by its benchmark in `WorkerSpec.variables`.
    """
    kept = {name: value for name, value in os.environ.items() if name not in KEPT_BACK}
    return kept | {name: os.environ[meant] for name, meant in KEPT_BACK.items() if os.environ.get(meant)}


def advice(spec: WorkerSpec, said: str = "") -> str:
    """What the shell's variables may have to do with a simulator that does not start.

    Args:
        spec: What was to be run.
        said: What is known about the reason.

    Returns:
        Sentences that each begin with a space; empty where no variable comes into question.
    """
    chosen = "" if "MUJOCO_GL" in spec.variables else os.environ.get("MUJOCO_GL", "")
    if chosen and (chosen.lower() not in _HEADLESS or "render" in said.lower()):
        return f" Unset MUJOCO_GL (it is {chosen}), or set it to {' or '.join(_HEADLESS)}: it chooses how to render."
    return "".join(
        f" {name} of the shell was not passed on; set {meant} if the simulator needs it."
        for name, meant in KEPT_BACK.items()
        if os.environ.get(name) and not os.environ.get(meant) and name not in spec.variables
    )


def check_rendering(spec: WorkerSpec, python: Path) -> str:
    """Render one picture for real, and say with what.

    Returns:
        One line such as ``egl renders``.

    Raises:
        SimulationError: Nothing renders; the message says what was tried.
    """
    command = [str(python), "-m", "vpolicy_worker", "--module", str(spec.module), "--check-rendering"]
    try:
        with temporary_folder() as folder:
            done = subprocess.run(
                command,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=spec.start_timeout,
                env=worker_variables(spec, folder),
            )
    except subprocess.TimeoutExpired:
        raise SimulationError(
            f"'{spec.environment}' did not render a picture within {spec.start_timeout:g} s.",
            advice(spec, "rendering").strip() or "Set MUJOCO_GL=osmesa (or egl) to choose another way to render.",
        ) from None
    if done.returncode != 0:
        raise SimulationError(
            f"'{spec.environment}' cannot render here.\n{_tail(done.stderr or done.stdout)}",
            advice(spec, "rendering").strip()
            or "On Debian or Ubuntu: apt-get install libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri (or libosmesa6).",
        )
    return done.stdout.strip().splitlines()[-1]


def _given(python: Path, spec: WorkerSpec) -> Path:
    name = override_variable(spec)
    if not python.is_file():
        raise SimulationError(f"{name} is {python}, which does not exist.", f"Correct {name}, or unset it.")
    needs = "import " + ", ".join(_WORKER_NEEDS)
    variables = without_the_shells_paths()
    done = subprocess.run(
        [str(python), "-c", needs], capture_output=True, encoding="utf-8", errors="replace", env=variables
    )
    if done.returncode != 0:
        raise SimulationError(
            f"{name} is {python}, which lacks what the worker needs.\n{_tail(done.stderr)}",
            f"Run: {python} -m pip install {' '.join(_WORKER_NEEDS)}",
        )
    return python


def _make(spec: WorkerSpec, folder: Path, python: Path) -> None:
    program = _uv()
    with storage_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
    version = _python_version(spec)
    # What uv puts into a relocatable environment finds its interpreter when the folder has been moved.
    _run([program, "venv", "--relocatable", "--python", version, str(folder)], spec)
    needs = ["--requirements", str(spec.requirements), *_WORKER_NEEDS]
    _run([program, "pip", "install", "--python", str(python), *needs], spec)
    facts = {"requirements": str(spec.requirements), "python": version, "environment": spec.environment}
    Store.finish(folder, facts, hashed=False)  # ten thousands of files, which are made again in a minute


def _uv() -> str:
    import uv

    return str(uv.find_uv_bin())


def _python_version(spec: WorkerSpec) -> str:
    return spec.python or f"{sys.version_info.major}.{sys.version_info.minor}"


def _run(command: list[str], spec: WorkerSpec) -> None:
    variables = without_the_shells_paths()
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=variables,
    )
    if done.returncode != 0:
        raise SimulationError(
            f"uv could not make the environment of '{spec.environment}' from {spec.requirements}:\n"
            f"{_tail(done.stdout)}",
            f"Check the network and the disk and run this again, or point {override_variable(spec)} to a Python "
            "that has these packages.",
        )


def _tail(text: str) -> str:
    return "\n".join(f"  | {line}" for line in text.strip().splitlines()[-_LAST_LINES:])
