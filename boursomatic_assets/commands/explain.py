"""The command `boursomatic explain`: the contribution of each feature to a call, in the terminal."""

from typing import Annotated

import typer

from boursomatic_assets.commands.opening import console, open_database, program
from boursomatic_assets.commands.options import ProfileName


def explain(
    symbol: Annotated[str, typer.Argument(help="As `boursomatic recommendations` writes it.")],
    *,
    profile: Annotated[ProfileName, typer.Option(help="The recommendation for this profile.")] = "moderate",
) -> None:
    """Show why an instrument is recommended as it is: probabilities, and each feature's contribution as a bar."""
    from boursomatic_assets.display.terminal.recommendation_tables import explanation
    from boursomatic_assets.errors import UnknownRecommendationError
    from boursomatic_assets.storage.postgres.stored_recommendations import find_recommendation

    _, database = open_database()
    found = [row for row in find_recommendation(database, symbol) if row["profile"] == profile]
    if not found:
        message = (
            f"nothing is recommended on {symbol!r} for the profile {profile}. Write the symbol as in: "
            "boursomatic recommendations. Or make recommendations: boursomatic recommend lists the instruments "
            "left out, with reasons"
        )
        raise UnknownRecommendationError(message)
    evidence = found[0]["snapshot"]
    if not isinstance(evidence, dict) or "contributions" not in evidence:
        message = (
            f"the recommendation on {symbol!r} was written by another program, without contributions. "
            "Make a new one: boursomatic recommend"
        )
        raise UnknownRecommendationError(message)
    for part in explanation(found[0]):
        console.print(part, soft_wrap=isinstance(part, str))
    console.print(f"Follow it to its source: [bold]{program()} trace {found[0]['id']}[/bold]", soft_wrap=True)
