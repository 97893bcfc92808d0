from __future__ import annotations

import math

import pytest

from boursomatic_assets.core.evaluation.evaluation import RecordedFigure
from boursomatic_assets.core.measures.figures import Figure
from boursomatic_assets.display.ui.evaluation import figures_table, shown


def recorded(figure: Figure) -> RecordedFigure:
    return RecordedFigure.model_validate(figure.to_json())


def test_a_figure_is_a_row_of_the_table() -> None:
    ic = Figure("rank_ic", "Rank IC", "ranking", 0.0213, -0.0101, 0.0527, 0.0874, 0.0, 0.03, "12-1 momentum")
    table = figures_table([recorded(ic)])
    assert table.splitlines()[2:] == [
        "| Rank IC | 0.021 | -0.010 to 0.053 | 0.087 | 0.000 | 0.030 | 12-1 momentum |"
    ]


def test_percentages_are_shown_times_a_hundred() -> None:
    accuracy = Figure("accuracy", "Accuracy", "classification", 0.41234, 0.4, 0.425, unit="percent", no_skill=0.38)
    table = figures_table([recorded(accuracy)])
    assert table.splitlines()[2:] == ["| Accuracy | 41.23 % | 40.00 % to 42.50 % |  | 38.00 % |  |  |"]


def test_what_is_undefined_says_why_and_leaves_the_rest_empty() -> None:
    lift = Figure("lift_buy", "BUY lift", "classification", math.nan, why_undefined="no BUY call")
    table = figures_table([recorded(lift)])
    assert table.splitlines()[2:] == ["| BUY lift | no BUY call |  |  |  |  |  |"]


def test_every_row_has_as_many_cells_as_the_head() -> None:
    figures = [recorded(Figure(str(number), "A", "ranking", number)) for number in range(3)]
    lines = figures_table(figures).splitlines()
    assert len(lines) == 5
    assert {line.count("|") for line in lines} == {8}


@pytest.mark.parametrize(("unit", "expected"), [("number", "-0.500"), ("percent", "-50.00 %")])
def test_any_number_of_a_figure_is_shown_in_its_unit(unit: str, expected: str) -> None:
    figure = recorded(Figure("a", "A", "ranking", math.nan, baseline=-0.5, unit=unit))
    assert shown(figure, "baseline") == expected
    assert not shown(figure, "low")
