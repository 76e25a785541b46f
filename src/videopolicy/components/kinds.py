"""A component: one named, swappable part of a recipe, written as a strict pydantic model.

The class is the plugin's public face: ``type`` is its name, its base class its kind, its fields are its
options, and ``build`` imports the heavy code. `videopolicy.components.fields` has the types of fields that hold one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, field_validator

from videopolicy.components.building import checked_build
from videopolicy.contracts.benchmark import DemonstrationRequest, PublishedNumber, Task, WorkerSpec
from videopolicy.errors import PluginError
from videopolicy.paths import input_paths
from videopolicy.spaces import DeclaredSpaces, Spaces
from videopolicy.types import FeatureLayout, Window

if TYPE_CHECKING:
    from pathlib import Path

    from videopolicy.console.progress import Reporter
    from videopolicy.contracts.backbone import VideoBackbone
    from videopolicy.contracts.dataset import Dataset, Episode, EpisodeWriter
    from videopolicy.contracts.decoder import ActionDecoder
    from videopolicy.contracts.extractor import FeatureExtractor
    from videopolicy.contracts.importer import Checkpoint, Imported
    from videopolicy.contracts.latents import LatentWriter
    from videopolicy.contracts.learner import Learner
    from videopolicy.contracts.multiplier import Multiplier, Source
    from videopolicy.contracts.policy import Policy
    from videopolicy.contracts.text import TextEncoder


class WhenActing:
    """Marks an option that matters only once a model acts or predicts, such as a number of sampling steps.

    Written ``steps: Annotated[int, WhenActing()] = 10``. Stages of training that differ in nothing else are one.
    """


class Component(BaseModel):
    """Base of all components. Subclass one of the kinds below, not this class.

    A subclass declares ``type: Literal["my-name"] = "my-name"`` and its options as fields.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    _paths = field_validator("*")(input_paths)

    kind: ClassVar[str] = ""
    type: str

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        for name in ("build", "open"):
            if name in cls.__dict__:
                setattr(cls, name, checked_build(cls.__dict__[name]))

    @classmethod
    def name(cls) -> str:
        """The name by which recipes ask for this component."""
        values = get_args(cls.model_fields["type"].annotation)
        if len(values) != 1 or not isinstance(values[0], str):
            raise PluginError(
                f"{cls.__module__}.{cls.__qualname__} has no single name.",
                'Declare `type: Literal["my-name"] = "my-name"` on the class.',
            )
        return values[0]

    def fetch(self) -> None:
        """Make sure that what this component needs from elsewhere is on this machine, or say what is missing.

        Called before anything expensive begins, and first only to look: `videopolicy.parts.weights.pretrained_folder`
        then fetches nothing. What fetches in another way asks `videopolicy.parts.weights.only_looking`. Parts are asked
        on their own.

        Raises:
            WeightsError: Pretrained weights cannot be had.
        """

    def parts(self) -> dict[str, Component]:
        """The components directly inside this one, by field name."""
        return {name: value for name in type(self).model_fields if isinstance(value := getattr(self, name), Component)}


class TextComponent(Component):
    """Turns sentences into tokens and one vector."""

    kind: ClassVar[str] = "text"

    @property
    def dim(self) -> int:
        """Width of every token."""
        raise NotImplementedError

    @property
    def length(self) -> int:
        """Number of tokens of every sentence."""
        raise NotImplementedError

    @property
    def pooled_dim(self) -> int:
        """Width of the vector for the whole sentence."""
        raise NotImplementedError

    def build(self) -> TextEncoder:
        raise NotImplementedError


class LearnerComponent(Component):
    """Something that a stage can train on its own: a policy, a video model, or another part of a policy."""

    kind: ClassVar[str] = "learner"

    def window(self) -> Window:
        """The frames and actions that training needs; the horizon is 0 where it needs no actions."""
        raise NotImplementedError

    def picture_size(self) -> tuple[int, int] | None:
        """Height and width to which it brings pictures of any size; None: it takes them as they come. Recordings of
        several sizes are mixed at this one."""
        return None

    def frame_encoder(self) -> dict[str, Any] | None:
        """What decides the latent of a frame, plain data, where training can do without the frames themselves and what
        is built is an `EncodesFrames`; None: it needs the frames."""
        return None

    def check(self, spaces: Spaces) -> list[str]:
        """Say what does not fit the spaces or inside the part, one sentence each."""
        return []

    def build(self, spaces: Spaces) -> Learner:
        raise NotImplementedError


class BackboneComponent(LearnerComponent):
    """A video model whose insides can be read; its window has the frames that one clip spans."""

    kind: ClassVar[str] = "backbone"

    def taps(self) -> dict[str, FeatureLayout]:
        """Readable feature maps by name: channels as ``dim``, axes frames, height, width (for one view)."""
        raise NotImplementedError

    def chosen_taps(self, names: Sequence[str]) -> list[FeatureLayout]:
        """Some of the taps, in this order.

        Raises:
            ValueError: There is no such tap; for the validators of whoever reads them.
        """
        known = self.taps()
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(f"backbone '{self.type}' has no tap {', '.join(unknown)}; it has {', '.join(known)}")
        return [known[name] for name in names]

    def build(self, spaces: Spaces) -> VideoBackbone:
        raise NotImplementedError


class ExtractorComponent(Component):
    """Turns observations into features."""

    kind: ClassVar[str] = "extractor"

    def window(self) -> Window:
        """Observed frames, and future frames where training needs them; the horizon is 0."""
        raise NotImplementedError

    def layout(self, spaces: Spaces) -> FeatureLayout:
        """Width and unfolding of the tokens that the stream will yield."""
        raise NotImplementedError

    def check(self, spaces: Spaces) -> list[str]:
        """Say what does not fit the spaces, one sentence each."""
        return []

    def build(self, spaces: Spaces) -> FeatureExtractor:
        raise NotImplementedError


class DecoderComponent(Component):
    """Turns features into action chunks."""

    kind: ClassVar[str] = "decoder"

    horizon: int

    def check(self, layout: FeatureLayout, spaces: Spaces) -> list[str]:
        """Say what this decoder misses in the features or spaces, one sentence each."""
        return []

    def build(self, layout: FeatureLayout, spaces: Spaces) -> ActionDecoder:
        raise NotImplementedError


class PolicyComponent(LearnerComponent):
    """A whole policy.

    ``learns`` says whether it has weights; a recipe of one without any has no stages of training.
    """

    kind: ClassVar[str] = "policy"
    learns: ClassVar[bool] = True

    def build(self, spaces: Spaces) -> Policy:
        raise NotImplementedError


class DatasetComponent(Component):
    """Recorded episodes on disk."""

    kind: ClassVar[str] = "dataset"

    def demonstrations(self) -> DemonstrationRequest | None:
        """What a benchmark must collect before this dataset can be opened; None when it exists already."""
        return None

    def declared(self) -> DeclaredSpaces:
        """What the options say of cameras, actions and state; a recipe in which it does not fit the benchmark is
        wrong, which is found without the data."""
        return DeclaredSpaces()

    def build(self, folder: Path | None) -> Dataset:
        """Open the dataset.

        Args:
            folder: Where the collected demonstrations lie, when ``demonstrations`` asked for some.
        """
        raise NotImplementedError

    def open(self, folder: Path | None, cache: Path, reporter: Reporter) -> Dataset:
        """What everybody calls to open the dataset. Override it where ``build`` takes long enough to be waited for.

        Args:
            folder: As for ``build``.
            cache: Folder for what was found on the way and makes the next time quick. Any number of processes use it
                at once, and it may vanish.
            reporter: Where its progress goes.
        """
        return self.build(folder)

    def episodes(self, folder: Path | None) -> Sequence[Episode]:
        """Recorded episodes without pictures, with the simulator's states and the attempts that they were; ``folder``
        as for ``build``. Raises `DataError` where one does not hold them."""
        raise PluginError(f"Dataset '{self.type}' holds no states of a simulator.", "Name a dataset type that does.")

    def latent_writer(self, folder: Path) -> LatentWriter:
        """A writer of this dataset's layout, for latents of one camera of one split below ``folder``; see
        `videopolicy.data.encoding`."""
        raise PluginError(f"Dataset '{self.type}' holds no latents.", "Name a dataset type that does.")

    def writer(self, folder: Path, spaces: Spaces) -> EpisodeWriter:
        """A writer of this dataset's layout, for collecting demonstrations into ``folder``."""
        raise PluginError(
            f"Dataset '{self.type}' can be read but not written.",
            "Name the path of existing data in the recipe, or use a dataset type that can be collected.",
        )


class BenchmarkComponent(Component):
    """A benchmark. The component is itself the contract: nothing heavy has to be built.

    ``ordinal`` names the score of an episode where it says more than success, such as a chain length or a
    coverage; it is empty where it does not. ``guided`` says whether the simulator implements
    `vpolicy_worker.Simulator.guide` and ``replay``; ``rerenders``, whether it implements ``render``.

    A subclass with stored initial states may have a field ``demonstrations_from: tuple[int, int] | None = None``: the
    first and the last + 1 of those from which its experts begin, attempt i from the i-th of them. Without it no
    demonstration begins in a stored state.
    """

    kind: ClassVar[str] = "benchmark"
    ordinal: ClassVar[str] = ""
    guided: ClassVar[bool] = False
    rerenders: ClassVar[bool] = False

    def spaces(self) -> Spaces:
        """Cameras, state and actions of the simulator as configured."""
        raise NotImplementedError

    def tasks(self) -> tuple[Task, ...]:
        """The chosen tasks, in the order in which they are reported."""
        raise NotImplementedError

    def stored_states(self) -> int | None:
        """How many stored initial states each task has, of which episode i begins in the i-th; None: any index is
        drawn from a seed. A simulator raises ``ValueError`` for an index that does not exist; nothing wraps."""
        return None

    def launch(self) -> WorkerSpec:
        """How to start a simulator worker."""
        raise NotImplementedError

    def protocol(self) -> dict[str, Any]:
        """Everything that must be equal for two results to be comparable; hashed into a fingerprint."""
        raise NotImplementedError

    def metrics(self, records: Sequence[dict[str, Any]]) -> dict[str, float]:
        """Further numbers over the finished episodes of one task or of all, by name.

        Args:
            records: Lines of ``episodes.jsonl`` without those that ended in an error.
        """
        return {}

    def published(self) -> tuple[PublishedNumber, ...]:
        """Numbers from papers on this benchmark, with their source."""
        return ()

    def remarks(self) -> tuple[str, ...]:
        """What every reader of a result has to know, such as that assets are stand-ins; without a full stop."""
        return ()

    def demonstrating(self) -> BenchmarkComponent:
        """The same benchmark as demonstrations are collected with: what is marked `WhenActing` is at its default.

        So are visual disturbances of evaluation episodes, say; a policy that was trained need not be trained again.
        """
        fields = type(self).model_fields
        usual = {
            name: field.get_default(call_default_factory=True)
            for name, field in fields.items()
            if any(isinstance(mark, WhenActing) for mark in field.metadata)
        }
        return self.model_copy(update=usual) if usual else self

    def closeup(self) -> BenchmarkComponent:
        """The same benchmark with cameras that are large enough to look at, for videos in reports."""
        return self


class ImporterComponent(Component):
    """Reads weights that the authors of a method have published; ``vpolicy import`` asks for it by name."""

    kind: ClassVar[str] = "importer"

    def files(self, folder: Path) -> Path | dict[str, Path]:
        """What to read where a folder is named in place of a file.

        Returns:
            One file; or several, by the entries of `Checkpoint.content` that they become. By default the folder itself,
            which is then said to be no file.

        Raises:
            WeightsError: What is published in such a folder is not there.
        """
        return folder

    def convert(self, checkpoint: Checkpoint) -> Imported:
        """Put the tensors of a checkpoint under the names of our modules.

        Raises:
            WeightsError: The checkpoint is of something else.
        """
        raise NotImplementedError


class MultiplierComponent(Component):
    """Makes ``episodes_per_task`` demonstrations of every task out of at most ``sources`` recorded ones."""

    kind: ClassVar[str] = "multiplier"

    sources: int
    episodes_per_task: int

    def check(self, tasks: Sequence[str]) -> list[str]:
        """Say what does not fit the tasks, one sentence each."""
        return []

    def build(self, sources: Sequence[Source]) -> Multiplier:
        """Learn from replayed demonstrations, at least one a task; raises `DataError` where these will not do."""
        raise NotImplementedError


KINDS: dict[str, type[Component]] = {
    cls.kind: cls
    for cls in (
        TextComponent,
        LearnerComponent,
        BackboneComponent,
        ExtractorComponent,
        DecoderComponent,
        PolicyComponent,
        DatasetComponent,
        BenchmarkComponent,
        ImporterComponent,
        MultiplierComponent,
    )
}
