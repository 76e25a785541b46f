"""Fully sharded data parallel training (FSDP): each of several processes holds a share of all weights and their states.

The layers of which a module says that it consists (`RepeatedLayers`) are gathered while they compute and given back
behind it; whatever else is trained is gathered for a step. Between steps a process holds its share of weights,
gradients, states of the optimiser and averages, and no more. What is saved is whole, and like that of any other
strategy.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor, distributed
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_flatten, tree_map_only

from videopolicy.contracts.learner import Learner
from videopolicy.contracts.measured import repeated_layers
from videopolicy.errors import VpolicyError, listing
from videopolicy.recipes.recipe import Stage

Tree = TypeVar("Tree")


def strategy_for(stage: Stage, learner: Learner) -> Any:
    """Lightning's strategy for a stage.

    Raises:
        VpolicyError: The learner cannot be sharded.
    """
    if stage.devices == 1:
        return "auto"
    if stage.strategy == "ddp":
        return DDPStrategy(find_unused_parameters=not learner.every_parameter_learns)
    _ensure_can_be_sharded(stage, learner)
    return Sharded(stage.devices)


def _ensure_can_be_sharded(stage: Stage, learner: Learner) -> None:
    otherwise = f"Set train.{stage.name}.strategy=ddp"
    if not learner.every_parameter_learns:
        raise VpolicyError(
            f"Stage '{stage.name}' cannot be trained with strategy 'fsdp': {stage.target} does not declare that every "
            "parameter learns at every step, and processes in which different ones do would wait for each other.",
            f"{otherwise}, or declare `every_parameter_learns` where it is true.",
        )
    if single := [name for name, one in learner.named_parameters() if one.requires_grad and one.ndim == 0]:
        raise VpolicyError(
            f"Stage '{stage.name}' cannot be trained with strategy 'fsdp': {listing(single, 4)} cannot be divided, "
            "being single numbers without an axis.",
            f"{otherwise}, or give them the shape (1,).",
        )


def shard(learner: Learner, mesh: DeviceMesh) -> None:
    """Divide a learner among processes, in place; of its methods only ``loss`` can be called from now on.

    Args:
        learner: What is trained. It is equal in all processes.
        mesh: The processes, along one axis.
    """
    # torch divides neither single numbers, which are frozen here, nor what lies in memory in another order.
    whole = {parameter for parameter in learner.parameters() if parameter.ndim == 0}
    for parameter in learner.parameters():
        parameter.data = parameter.data.contiguous()
    layers = [layer for module in learner.modules() for layer in repeated_layers(module)]
    for module in (*dict.fromkeys(layers), learner):
        fully_shard(module, mesh=mesh, ignored_params=whole)
        if mesh.device_type == "cpu":  # whose processes can add, but not average
            assert isinstance(module, FSDPModule)
            module.set_force_sum_reduction_for_comms(True)
    register_fsdp_forward_method(learner, "loss")


def give_back(learner: Learner) -> None:
    """Give back what was gathered for a forward pass that no backward pass follows, where anything is sharded."""
    for module in learner.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def local(values: Tensor) -> Tensor:
    """What this process holds of a tensor, in the same memory: all of it unless it is sharded."""
    return values.to_local() if isinstance(values, DTensor) else values


def like(values: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, which all processes have, sharded like another one, or not."""
    if not isinstance(other, DTensor) or isinstance(values, DTensor):
        return values
    return distribute_tensor(values.to(other.device), other.device_mesh, other.placements, src_data_rank=None)


@torch.no_grad()
def gathered(state: Tree) -> Tree | dict[str, Any]:
    """Whole tensors in place of shares.

    All processes have to ask. The first one gets a copy in the processor's memory, one tensor after the other.

    Args:
        state: A tree of dictionaries and lists.

    Returns:
        The state itself where nothing in it is sharded.
    """
    if not any(isinstance(one, DTensor) for one in tree_flatten(state)[0]):
        return state
    first = distributed.get_rank() == 0

    def one(values: Tensor) -> Tensor | None:
        whole = values.full_tensor() if isinstance(values, DTensor) else values
        return whole.detach().to("cpu", copy=True) if first else None

    found = tree_map_only(Tensor, one, state)
    return found if first else {}


class Sharded(ModelParallelStrategy):
    """Lightning's strategy for `fully_shard`, with checkpoints as all others have them.

    Lightning's own checkpoints of it must hold every weight, frozen ones too, and number the states of an optimiser in
    another way.

    Args:
        devices: The number of processes.
    """

    def __init__(self, devices: int) -> None:
        super().__init__(data_parallel_size=devices, tensor_parallel_size=1, save_distributed_checkpoint=False)

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    @property
    def mesh(self) -> DeviceMesh:
        """The processes, along one axis."""
        return self.device_mesh["data_parallel"]

    def lightning_module_state_dict(self) -> dict[str, Any]:
        return gathered(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        plain = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        return gathered(plain.state_dict())

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        if self.is_global_zero:
            self.checkpoint_io.save_checkpoint(checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        found: dict[str, Any] = torch.load(checkpoint_path, map_location="cpu", weights_only=weights_only, mmap=True)
        return found

    def load_model_state_dict(self, checkpoint: dict[str, Any], strict: bool = True) -> None:
        own = self.lightning_module.state_dict()
        shares = {name: like(values, own.get(name, values)) for name, values in checkpoint["state_dict"].items()}
        self.lightning_module.load_state_dict(shares, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: dict[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [one for group in optimizer.param_groups for one in group["params"]]
            shares = {
                number: {
                    name: like(value, parameters[number]) if value.ndim else value for name, value in values.items()
                }
                for number, values in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": shares})

    def teardown(self) -> None:
        super().teardown()
        self.checkpoint_io.teardown()
