"""A service that a recipe tracks with is asked before anything is computed."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from videopolicy.errors import VpolicyError
from videopolicy.training.tracking import ensure_trackers


class FakeError(Exception):
    """Of wandb."""


def fake(login: object, mode: str = "online", after: str | None = None) -> ModuleType:
    module = ModuleType("wandb")
    settings = SimpleNamespace(mode=mode)

    def answer(verify: bool, timeout: float) -> object:
        assert verify and timeout
        settings.mode = after or mode
        if isinstance(login, Exception):
            raise login
        return login

    module.Error = FakeError
    module.setup = lambda: SimpleNamespace(settings=settings)
    module.login = answer
    return module


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (None, "not installed"),
        (fake(FakeError("api_key not configured (no-tty)")), "api_key not configured"),
        (fake(FakeError("Failed to verify credentials")), "Failed to verify credentials"),
        (fake(ValueError("mode: Input should be online")), "mode: Input should be"),
        (fake(False, after="disabled"), "nobody is logged in"),
    ],
)
def test_a_service_without_login_is_an_error(monkeypatch: pytest.MonkeyPatch, module: ModuleType | None, message: str):
    monkeypatch.setitem(sys.modules, "wandb", module)
    with pytest.raises(VpolicyError, match="tracks with wandb") as caught:
        ensure_trackers(("tensorboard", "wandb"))
    assert message in caught.value.message and caught.value.hint


@pytest.mark.parametrize(
    "module",
    [
        fake(True),
        fake(RuntimeError("asked"), "offline"),
        fake(RuntimeError("asked"), "disabled"),
        fake(False, after="offline"),
    ],
)
def test_a_login_or_an_offline_mode_is_enough(monkeypatch: pytest.MonkeyPatch, module: ModuleType):
    monkeypatch.setitem(sys.modules, "wandb", module)
    ensure_trackers(("wandb",))


def test_what_is_not_tracked_is_not_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    ensure_trackers(("tensorboard",))


def test_trackio_has_to_be_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(VpolicyError, match="tracks with trackio, which is not installed") as caught:
        ensure_trackers(("trackio",))
    assert "videopolicy[trackio]" in caught.value.hint
    ensure_trackers(("tensorboard",))
