"""Publishes a run's policy on the Hugging Face Hub."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from videopolicy.deployment.card import model_card
from videopolicy.deployment.exporting import FILES, PLUGINS, export
from videopolicy.deployment.hub import HubName, hub_errors
from videopolicy.errors import HubError, StorageError, listing
from videopolicy.recipes.recipe import load_recipe
from videopolicy.report.contents import RunContents, read_run
from videopolicy.storage.run_folder import RunFolder
from videopolicy.storage.store import Store
from videopolicy.storage.temporary import temporary_folder
from videopolicy.training.weight_files import WEIGHTS

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

CARD = "README.md"
_ANYBODYS = (".gitattributes", ".gitignore", "LICENSE", "LICENSE.md", CARD)
"""What a repository may hold that holds nothing else."""


@dataclass(frozen=True)
class Pushed:
    """What was published.

    Args:
        url: Its page.
        revision: Commit.
        files: Number of them.
        bytes: Of all of them.
    """

    url: str
    revision: str
    files: int
    bytes: int


def push(
    run: Path, name: str, licence: str, private: bool = False, trust: bool = False, store: Store | None = None
) -> Pushed:
    """Publish the trained policy of a run with its recipe, its episodes and a model card.

    Args:
        run: Folder of a finished run, or one that ``vpolicy export`` wrote.
        name: ``user/name`` on the Hub. What an earlier push has put there is replaced; its history keeps it.
        licence: The Hub's identifier of the licence.
        private: Make a new repository private.
        trust: Whether the Python files that its recipe names may be run.
        store: Where the run's stages lie.

    Raises:
        HubError: The name is none, there is no token, or the Hub does not take the policy.
        StorageError: There is no run, or it is unfinished or damaged.
        WeightsError: A stage has not been finished, or published weights cannot be had.
    """
    where = HubName.read(name)
    if where is None or where.revision is not None:
        raise HubError(f"'{name}' is no name on the Hub.", "Write USER/NAME, in letters, digits, '-', '_' and '.'.")
    folder = RunFolder(run)
    folder.ensure_exists()
    recipe = load_recipe(folder.recipe_file, trust=trust)
    contents = read_run(run, recipe.benchmark)
    _ensure_finished(contents)
    _ensure_token(where)
    with ExitStack() as stack:
        whole = run
        if not (run / WEIGHTS).is_file():
            whole = export(run, stack.enter_context(temporary_folder()) / "policy", trust=trust, store=store)
        card = model_card(contents, recipe, where, licence, whole)
        return _upload(where, whole, card, private, f"Policy '{recipe.name}' by vpolicy push")


def _ensure_token(name: HubName) -> None:
    from huggingface_hub import get_token

    with hub_errors(f"Nothing was pushed to '{name}'", name):
        token = get_token()
    if token is None:
        raise HubError(
            f"Nothing was pushed to '{name}': there is no token for the Hub.",
            "Log in with `hf auth login`, or set HF_TOKEN to a token that may write.",
        )


def _ensure_finished(run: RunContents) -> None:
    """Check that nothing of a run is missing or damaged.

    Raises:
        StorageError: Something is.
    """
    if run.problems:
        raise StorageError(f"{run.folder.path} is damaged: {run.problems[0]}.", "Restore it, or run its recipe again.")
    if missing := run.missing():
        raise StorageError(
            f"{run.folder.path} is not finished: {'; '.join(missing)}.", "Run its recipe to the end, then push it."
        )


def _upload(name: HubName, folder: Path, card: str, private: bool, message: str) -> Pushed:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    files = {file: folder / file for file in FILES if (folder / file).is_file()}
    files |= {f"{PLUGINS}/{file.name}": file for file in sorted((folder / PLUGINS).glob("*.py"))}
    contents: dict[str, Path | bytes] = {CARD: card.encode(), **files}
    api = HfApi(library_name="videopolicy", library_version=version("videopolicy"))
    with hub_errors(f"Nothing was pushed to '{name}'", name):
        there = _repository(api, name, private)
        present = [file.rfilename for file in there.siblings or ()]
        ours = [file for file in present if file in FILES or file.startswith(f"{PLUGINS}/")]
        additions = [CommitOperationAdd(file, content) for file, content in contents.items()]
        removals = [CommitOperationDelete(file) for file in ours if file not in contents]
        done = api.create_commit(
            name.repository,
            [*additions, *removals],  # one commit: nobody loads half of it
            commit_message=message,
            parent_commit=there.sha,
        )
    size = sum(content.stat().st_size if isinstance(content, Path) else len(content) for content in contents.values())
    return Pushed(f"{api.endpoint}/{name}", done.oid, len(contents), size)


def _repository(api: HfApi, name: HubName, private: bool) -> ModelInfo:
    """The repository, made where there is none.

    Raises:
        HubError: It holds something else, or is public and was to be private.
    """
    api.create_repo(name.repository, private=private or None, exist_ok=True)
    there = api.model_info(name.repository)
    if private and not there.private:
        raise HubError(
            f"Nothing was pushed to '{name}': it is there already, and public.",
            f"Make it private at {api.endpoint}/{name}/settings, choose another name, or leave --private out.",
        )
    present = [file.rfilename for file in there.siblings or ()]
    foreign = [file for file in present if file not in _ANYBODYS]
    if foreign and "recipe.yaml" not in present:
        raise HubError(
            f"Nothing was pushed to '{name}': it holds something else ({listing(foreign, 4)}).", "Choose another name."
        )
    return there
