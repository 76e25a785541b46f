"""The component `remote`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from videopolicy import Component, PolicyComponent, Spaces, did_you_mean, hookimpl, listing
from vpolicy_remote.options import RemoteOptions

if TYPE_CHECKING:
    from vpolicy_remote.policy import RemotePolicy


class Remote(RemoteOptions, PolicyComponent):
    """A policy that a server of openpi's WebSocket protocol holds.

    See `RemoteOptions` for the options.
    """

    learns: ClassVar[bool] = False

    type: Literal["remote"] = "remote"

    def check(self, spaces: Spaces) -> list[str]:
        names = [camera.name for camera in spaces.cameras]
        found = [
            f"the server's '{key}' is to come from camera '{camera}', which the benchmark does not have."
            f"{did_you_mean(camera, names)} It has {listing(names)}"
            for camera, key in (self.cameras or {}).items()
            if camera not in names
        ]
        own = spaces.state.names if spaces.state else ()
        if missing := [name for name in self.state or () if name not in own]:
            found.append(f"the server wants the state {listing(missing)}, and the benchmark's has {listing(own, 24)}")
        if self.gripper is not None and spaces.actions.gripper == "none":
            found.append("gripper says which sign closes the server's, and the benchmark's actions have none")
        return found

    def fetch(self) -> None:
        from vpolicy_remote.client import Client

        with Client(self.url, self.timeout) as client:
            client.greet()

    def build(self, spaces: Spaces) -> RemotePolicy:
        from vpolicy_remote.policy import RemotePolicy

        return RemotePolicy(self, spaces)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [Remote]
