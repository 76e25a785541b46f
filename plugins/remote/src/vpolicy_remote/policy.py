"""A policy that asks a server."""

from __future__ import annotations

import weakref

import torch
from torch import Tensor

from videopolicy import Batch, Observation, PluginError, Policy, RowGenerator, Spaces, Window
from vpolicy_remote.adapter import Adapter
from vpolicy_remote.client import Client
from vpolicy_remote.options import RemoteOptions


class RemotePolicy(Policy):
    """See `vpolicy_remote.options.RemoteOptions` for the options.

    Every row has a connection, made in the order of the rows with the first decision: a server that keeps a state for
    each connection keeps one for each episode. All rows of a decision are asked before the first answer is waited for.
    """

    def __init__(self, options: RemoteOptions, spaces: Spaces) -> None:
        super().__init__()
        self.options = options
        self._adapter = Adapter(options, spaces)
        self._clients: list[Client] = []
        self._begun: set[int] = set()
        self._noise: dict[int, torch.Generator] = {}
        weakref.finalize(self, _close, self._clients)

    @property
    def window(self) -> Window:
        return self.options.window()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        raise PluginError("A policy behind a server cannot be trained here.", "Leave `train` out of the recipe.")

    def reset(self, rows: list[int]) -> None:
        self._begun |= set(rows)

    @torch.no_grad()
    def act(self, observation: Observation, generator: RowGenerator) -> Tensor:
        rows = observation.rows if observation.rows is not None else tuple(range(len(observation)))
        self._connect(len(observation))
        begun = [row for row in rows if row in self._begun]
        self._begun -= set(begun)
        if self.options.reset != "none":
            for row in begun:
                self._clients[row].send(self._reset(row, generator.generators[row]))
            for row in begun:
                self._clients[row].receive()
        for row in rows:
            self._clients[row].send(self._adapter.question(observation, row))
        chunks = {row: self._adapter.chunk(self._clients[row].receive(), self.window) for row in rows}
        filling = chunks[rows[0]]
        device = next(iter(observation.images.values())).device
        return torch.stack([chunks.get(row, filling) for row in range(len(observation))]).to(device)

    def _connect(self, rows: int) -> None:
        while len(self._clients) < rows:
            client = Client(self.options.url, self.options.timeout)
            said = client.greet()
            self._clients.append(client)
            if len(self._clients) == 1:
                self._adapter.ensure_fits(said)

    def _reset(self, row: int, noise: torch.Generator) -> dict[str, str | int]:
        """What says that an episode begins: with the seed of its noise, where the noise is new and not only another
        sub-task begins."""
        message: dict[str, str | int] = {"endpoint": "reset"}
        if self.options.reset == "seeded" and self._noise.get(row) is not noise:
            message["seed"] = noise.initial_seed()
        self._noise[row] = noise
        return message


def _close(clients: list[Client]) -> None:
    for client in clients:
        client.close()
