"""Options of the component `remote`, and what is known of published servers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from videopolicy import Window
from videopolicy.parts.options import Options

Preset = Literal["videopolicy", "pi0-libero", "pi0-fast-libero"]
# openpi, examples/libero/main.py (keys, size, turned images, order of the state) and training/config.py (horizons).
_LIBERO: dict[str, Any] = {
    "cameras": {"agentview": "observation/image", "robot0_eye_in_hand": "observation/wrist_image"},
    "state": (*(f"ee_states_{index}" for index in range(6)), "gripper_states_0", "gripper_states_1"),
    "image_size": (224, 224),
    "orientation": "mirrored",
    "gripper": "positive_closes",
    "reset": "none",
}
PRESETS: dict[Preset, dict[str, Any]] = {
    "videopolicy": {"reset": "seeded"},
    "pi0-libero": {**_LIBERO, "horizon": 50},
    "pi0-fast-libero": {**_LIBERO, "horizon": 10},
}


class RemoteOptions(Options):
    """Options of `remote`.

    Args:
        url: Such as ``ws://127.0.0.1:8000``.
        preset: What is known of a published server; the following fields replace parts of it.
        horizon: H, the actions of a chunk that are used; the server may send more.
        observed: Offsets of the frames that the server sees, of which all but a single one are sent as
            ``(T, height, width, 3)``.
        past_actions: P, the executed actions that are sent as ``observation/past_actions``.
        cameras: By camera of the benchmark the key of its images; None: every camera under ``observation/NAME``.
        state: Names of the benchmark's state in the order in which the server wants them; None: all, as they are.
        state_key, prompt_key, actions_key: Of the server's messages.
        image_size: Height and width of the server's images; None: as the benchmark's.
        orientation: Of the server's images; images of another one are mirrored. None: as the benchmark's.
        gripper: Which sign closes the gripper in the server's actions, whose last dimension then is the gripper and
            is turned round where the benchmark's means the opposite; None: as the benchmark's.
        reset: What the server receives when an episode begins: ``none``, ``plain`` (``{"endpoint": "reset"}``, as
            vLLM-Omni has it), or ``seeded``, with a seed of the episode's noise.
        timeout: Seconds that the server may take for an answer, the first of which may compile something.
    """

    url: str = Field(pattern=r"^wss?://\S+$", examples=["ws://127.0.0.1:8000"])
    preset: Preset = "videopolicy"
    horizon: int = Field(ge=1, le=1000)
    observed: tuple[int, ...] = (0,)
    past_actions: int = Field(0, ge=0)
    cameras: dict[str, str] | None = None
    state: tuple[str, ...] | None = None
    state_key: str = "observation/state"
    prompt_key: str = "prompt"
    actions_key: str = "actions"
    image_size: tuple[int, int] | None = None
    orientation: Literal["upright", "mirrored"] | None = None
    gripper: Literal["positive_closes", "positive_opens"] | None = None
    reset: Literal["none", "plain", "seeded"] = "none"
    timeout: float = Field(120.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        name = given.get("preset", "videopolicy")
        return {**next((known for preset, known in PRESETS.items() if preset == name), {}), **given}

    @field_validator("observed")
    @classmethod
    def _ascends(cls, offsets: tuple[int, ...]) -> tuple[int, ...]:
        Window(offsets)
        return offsets

    def window(self) -> Window:
        return Window(self.observed, horizon=self.horizon, past_actions=self.past_actions)
