"""``vpolicy quality``: how well a run's video model predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videopolicy.console.text import say


def quality(
    run: Annotated[Path, typer.Argument(help="Run folder, such as runs/quickstart.", show_default=False)],
    clips: Annotated[int, typer.Option(min=1, help="Clips, spread evenly over the held-out episodes.")] = 64,
    lpips_weights: Annotated[
        Path | None, typer.Option(help="AlexNet's weights, alexnet-owt-7be5be79.pth: LPIPS too.", show_default=False)
    ] = None,
    fvd_weights: Annotated[
        Path | None, typer.Option(help="I3D network, i3d_torchscript.pt: FVD too.", show_default=False)
    ] = None,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust", help="Run the code in the I3D network's file and the Python files that the recipe names."
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Compare a run's predicted videos with real ones on held-out episodes: PSNR, SSIM, LPIPS, FVD."""
    from videopolicy.errors import DataError, VpolicyError
    from videopolicy.recipes.recipe import load_recipe
    from videopolicy.storage.files import ensure_no_link_out
    from videopolicy.storage.run_folder import RunFolder
    from videopolicy.storage.store import Store

    folder = RunFolder(run)
    folder.ensure_exists()
    ensure_no_link_out(run)
    recipe, store = load_recipe(folder.recipe_file, trust=trust), Store()
    # These need torch: everything that can be checked without it has been.
    from videopolicy.bench.subject import trained_stages
    from videopolicy.console.progress import Reporter
    from videopolicy.data.preparation import open_data
    from videopolicy.quality.measure import described, measure_quality
    from videopolicy.quality.networks import Networks
    from videopolicy.training.session import Session
    from videopolicy.training.stages import load_policy

    reporter = Reporter(quiet)
    dataset = open_data(recipe, store, reporter) if recipe.data else None
    if dataset is None:
        raise DataError(
            "The data of this run are not on this machine, or a simulator with other code has collected them.",
            f"Collect them here: vpolicy data collect {run / 'recipe.yaml'}.",
        )
    trained = trained_stages(recipe, run, store, reporter)
    assert trained is not None  # of a run that is named
    session = Session.here(recipe, store, reporter)
    policy = load_policy(recipe, trained.stages).ready(session.device)
    networks = Networks(lpips_weights, fvd_weights, trust)
    found = measure_quality(session, policy, dataset, folder, clips, networks)
    if found is None:
        raise VpolicyError(
            f"Nothing was measured of {recipe.name}: its policy predicts no video, or no episode was held out.",
            "Hold some episodes out with data.validation=0.1, and run it again.",
        )
    say(f"{recipe.name}: {described(found)}")
