"""What a recipe can say of HDF5 files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from videopolicy import ActionSpace
from videopolicy.parts.options import Options


class RobomimicHDF5Options(Options):
    """Options of `robomimic-hdf5`.

    Args:
        path: An HDF5 file, or a folder; None: the benchmark's experts are asked for demonstrations.
        files: Which files of the folder are read, as a pattern relative to it. RoboCasa lays several sizes and
            kinds of demonstrations beside each other, all under one file name.
        episodes_per_task: How many to collect of every task (50 when left out), or to read of every file at most
            (all).
        filter_key: Only the episodes that the files list under ``mask/<filter_key>`` are read: robomimic's name
            for subsets, such as RoboCasa's ``300_demos`` of 3,000 generated ones.
        skip: Task to episodes that are left out, of the statistics too. Video Policy's code means to leave out two
            of RoboCasa's ``TurnOnStove`` in which the base moves, and through a mismatch of two orders leaves out
            those of the same numbers of ``TurnOffMicrowave`` (``sgm/data/video.py``); its statistics cover all.
        action_noise: For collection: see `DemonstrationRequest`.
        cameras: Recipe's camera name to key under ``obs``, in the order of the views. Left out: every image key,
            called by its name without the ending ``_image`` or ``_rgb``.
        state: Keys under ``obs`` that make up the proprioception, in this order; its dimensions are called
            ``key_0``, ``key_1`` and so on. Left out: the recorded state of collected files, none of others.
        orientation: ``bottom-up`` where the files hold robosuite's raw images (LIBERO's own), which are flipped
            vertically; ``mirrored`` where those were turned by 180 degrees, as OpenVLA and its successors store them,
            which are flipped horizontally; ``upright``. Left out: what the files say of themselves (robosuite's
            ``macros_image_convention``), upright where they say nothing.
        pictures: What a policy gets: ``upright`` ones, or ``mirrored`` ones as OpenVLA and its successors train on
            (LIBERO's preset ``openvla``). Left out: upright, or as they were collected.
        actions: What the actions mean. Needed for files that were not collected here.
        action_dimensions: Columns of the recorded actions that ``actions`` describes, counted from 0; left out: all
            of them. RoboCasa records 12, of which the first 7 move the arm.
        rotation: ``axis-angle-to-6d``: of every recorded action, numbers 3 to 5 (counted from 0) are an orientation as
            axis and angle, and become the first two rows of its matrix, one after the other (Zhou et al. 2019): 7
            numbers become 10. For absolute actions, as Diffusion Policy and Unified Video Action Model have them.
        actionless_tasks: Tasks whose actions nobody sees: their clips teach the video model alone (Video Policy's
            Figure 4). Their actions need not be recorded; in batches they are NaN and masked, and the statistics
            leave them out. A fraction, such as 0.5, chooses that share of the tasks by a hash of their names.
        action_padding: Actions past the end of an episode. ``mask`` leaves them out of the loss. ``zero`` trains
            on zeros in recorded units, as Video Policy's code does (``sgm/data/video.py``): a gripper's zero is
            neither open nor closed. ``repeat`` trains on the last action again and again, as the official codes of
            Diffusion Policy and Unified Video Action Model do (``common/sampler.py``, ``pad_after``), which let their
            windows reach 7 steps past the end; here windows begin at every step.
        instructions: Task to sentence, for files that hold none; it wins over what they hold. ``file-name``: the name
            of the file without ``_demo.hdf5``, words parted by blanks, as Unified Video Action Model reads it: these
            sentences begin with the scene.
        validation: Fraction of every task's episodes that is held out; None: what the files' own ``mask/valid``
            says, if anything.
        window_stride: Training windows begin at every n-th step of an episode. Neighbouring steps look nearly the
            same at high control rates; VPP's official loader takes every second one of videos.
        memory_limit: Images are kept in memory when all of them take less than this many gibibytes, else every
            batch reads its frames from disk.
    """

    path: Path | None = None
    files: str = Field(default="**/*.hdf5", min_length=1)
    episodes_per_task: int | None = Field(default=None, gt=0)
    filter_key: str | None = None
    skip: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    action_noise: float = Field(default=0.0, ge=0)
    cameras: dict[str, str] = Field(default_factory=dict)
    state: tuple[str, ...] = ()
    orientation: Literal["upright", "bottom-up", "mirrored"] | None = None
    pictures: Literal["upright", "mirrored"] | None = None
    actions: ActionSpace | None = None
    action_dimensions: tuple[int, ...] = ()
    rotation: Literal["recorded", "axis-angle-to-6d"] = "recorded"
    actionless_tasks: tuple[str, ...] | Annotated[float, Field(ge=0, lt=1)] = ()
    action_padding: Literal["mask", "zero", "repeat"] = "mask"
    instructions: dict[str, str] | Literal["file-name"] = Field(default_factory=dict)
    validation: float | None = Field(default=None, ge=0, lt=1)
    window_stride: int = Field(default=1, ge=1)
    memory_limit: float = Field(default=2.0, ge=0)

    @model_validator(mode="after")
    def _noise_is_for_collecting(self) -> RobomimicHDF5Options:
        if self.path is not None and self.action_noise:
            raise ValueError("'action_noise' has no effect on the existing data that 'path' names; remove one of them")
        return self

    @model_validator(mode="after")
    def _columns_are_described(self) -> RobomimicHDF5Options:
        described = 0 if self.actions is None else self.actions.dim
        if self.rotation == "axis-angle-to-6d":
            if self.actions is None or self.actions.rotation != "absolute_rotation_6d" or described < 9:
                raise ValueError(
                    "rotation axis-angle-to-6d needs 'actions' of at least 9 numbers with rotation absolute_rotation_6d"
                )
            described -= 3
        if not self.action_dimensions:
            return self
        if len(self.action_dimensions) != described:
            chosen = len(self.action_dimensions)
            raise ValueError(f"'action_dimensions' chooses {chosen} columns, and 'actions' describes {described}")
        if min(self.action_dimensions) < 0 or len(set(self.action_dimensions)) < len(self.action_dimensions):
            raise ValueError("'action_dimensions' must be different columns, counted from 0")
        return self
