"""Pictures from MuJoCo models on a machine without a display. For simulators on MuJoCo, which import it first.

All models of a process share one OpenGL context: two of them in one process silently spoil each other's pictures.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

REQUESTED = os.environ.get("MUJOCO_GL", "").lower()
os.environ["MUJOCO_GL"] = "disable"  # MuJoCo would open a context of its own choice when it is imported

import mujoco  # noqa: E402
import numpy as np  # noqa: E402

BACKENDS = ("egl", "osmesa")
"""Tried in this order unless ``MUJOCO_GL`` names one."""

_SOFTWARE = ("llvmpipe", "softpipe", "swrast", "swiftshader", "software")
"""What the names of renderers have in them that use no graphics processor."""

_MODEL = """
<mujoco><worldbody>
  <light pos="0 0 2"/><geom type="box" size=".3 .3 .3" rgba="1 0 0 1"/>
  <camera name="front" pos="0 -2 0" xyaxes="1 0 0 0 0 1"/>
</worldbody></mujoco>
"""


def open_context(size: int) -> tuple[str, Any]:
    """Find a backend that renders a picture, and make an OpenGL context of it current.

    Args:
        size: Side of the largest picture in pixels.

    Returns:
        The backend's name and the context, which must be kept alive.

    Raises:
        RuntimeError: Nothing renders; the message says what was tried.
    """
    failures = []
    for backend in (REQUESTED,) if REQUESTED else BACKENDS:
        failure = _trial(backend)
        if not failure:
            return backend, _open(backend, size)
        failures.append(f"{backend}: {failure}")
    raise RuntimeError("no rendering backend works (" + "; ".join(failures) + ")")


def renderer(backend: str) -> str:
    """What renders in the current context, such as ``egl, llvmpipe (LLVM 15.0.7, 256 bits) (software)``.

    Args:
        backend: The context's, as `open_context` returned it.
    """
    from OpenGL import GL  # reads PYOPENGL_PLATFORM, which only the open context has settled

    said = GL.glGetString(GL.GL_RENDERER)
    name = said.decode("utf-8", "replace") if said else "unknown renderer"
    kind = "software" if any(word in name.lower() for word in _SOFTWARE) else "GPU"
    return f"{backend}, {name} ({kind})"


def _trial(backend: str) -> str:
    """Render with a backend in a process of its own; returns why that failed, or an empty string.

    A process that has loaded one backend's libraries can never use another's, and drivers may crash.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        failure = ""
        try:
            _context = _open(backend, 64)
            _prove()
        except BaseException as error:  # drivers fail in every conceivable way; all of them are reported
            failure = f"{type(error).__name__}: {error}"
        os.write(writing, failure.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        failure = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return failure or (f"it crashed (status {status})" if status else "")


def _open(backend: str, size: int) -> Any:
    os.environ["PYOPENGL_PLATFORM"] = backend
    context = importlib.import_module(f"mujoco.{backend}").GLContext(size, size)
    context.make_current()
    return context


def _prove() -> None:
    model = mujoco.MjModel.from_xml_string(_MODEL)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    picture = Picture(model, 32, "fast")
    image = picture.render(data, "front")
    picture.close()
    middle, corner = image[16, 16].astype(int), image[0, 0]
    if middle[0] < 2 * middle[1] or middle[0] < 50 or corner.any():
        raise RuntimeError("it renders wrong pictures")


class Picture:
    """Renders one model; an OpenGL context must be current.

    Args:
        model: The model; its quality settings are changed.
        size: Height and width in pixels.
        rendering: ``stock``: as the model's authors set it (shadows, reflections, four samples a pixel).
            ``fast``: without those, about ten times quicker in software.
        hidden: Groups of geoms that are not drawn, besides those that MuJoCo leaves out by itself.
        maxgeom: Most geoms and sites that are drawn; MuJoCo leaves the others out.
    """

    def __init__(
        self, model: mujoco.MjModel, size: int, rendering: str, hidden: tuple[int, ...] = (), maxgeom: int = 1000
    ) -> None:
        self.model = model
        self.size = size
        model.vis.global_.offwidth = model.vis.global_.offheight = size
        if rendering == "fast":
            model.vis.quality.offsamples = 0
            model.vis.quality.shadowsize = 0
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        self._scene = mujoco.MjvScene(model, maxgeom=maxgeom)
        self._options = mujoco.MjvOption()
        for group in hidden:
            self._options.geomgroup[group] = 0
        if rendering == "fast":
            for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
                self._scene.flags[flag] = 0

    def render(self, data: mujoco.MjData, camera: str, turned: bool = False) -> np.ndarray:
        """An upright picture ``(size, size, 3)`` uint8 from a camera of the model.

        Args:
            data: The state of the model.
            camera: The camera's name.
            turned: Whether the camera is mounted upside down: its picture is turned by 180 degrees (never mirrored).
        """
        view = mujoco.MjvCamera()
        view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        view.fixedcamid = self.model.camera(camera).id
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self.model, data, self._options, None, view, everything, self._scene)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        image = np.empty((self.size, self.size, 3), np.uint8)
        rectangle = mujoco.MjrRect(0, 0, self.size, self.size)
        mujoco.mjr_render(rectangle, self._scene, self._context)
        mujoco.mjr_readPixels(image, None, rectangle, self._context)
        # OpenGL's rows run from the bottom up; a turn by 180 degrees undoes that and flips the columns.
        return np.ascontiguousarray(image[:, ::-1] if turned else image[::-1])

    def close(self) -> None:
        """Free what lies on the graphics side."""
        self._context.free()
