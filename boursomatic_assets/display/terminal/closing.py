"""Closing tables and sentences of a run, and tables of versions and adjustments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table

from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.portfolio.benchmark import NO_BENCHMARK
from boursomatic_assets.display.ui.evaluation import NONE_FOUND
from boursomatic_assets.display.ui.jumps import jump_words
from boursomatic_assets.display.ui.model_version import activation, comparison_table
from boursomatic_assets.storage.postgres.model_events import ACTIVATED, PRUNED, REFUSED, ROLLED_BACK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from rich.console import RenderableType

    from boursomatic_assets.storage.postgres.model_events import ModelEvent
    from boursomatic_assets.storage.postgres.model_table import ModelRow

# Figure, its baseline, title, and what the baseline is.
_PAIRS = (
    ("val_accuracy", "val_majority_accuracy", "Accuracy, validation", "most frequent class"),
    ("test_accuracy", "test_majority_accuracy", "Accuracy, test", "most frequent class"),
    ("precision_buy_val", "buy_base_rate_val", "BUY precision, validation", "BUY base rate"),
    ("precision_buy_test", "buy_base_rate_test", "BUY precision, test", "BUY base rate"),
    ("matched_lift_buy_test", None, "BUY lift at equal volatility, test", "1 is no skill"),
    ("test_r2_over_prior", None, "R² of the forecast, test", "0 is the training mean"),
    ("sharpe_ratio", "equal_weight_sharpe_ratio", "Sharpe of the BUY book, validation", "equal weight"),
    ("test_sharpe_ratio", "test_equal_weight_sharpe_ratio", "Sharpe of the BUY book, test", "equal weight"),
    ("test_max_drawdown", "test_equal_weight_max_drawdown", "Deepest drawdown, test", "equal weight"),
    ("test_total_return", "test_equal_weight_total_return", "Total return net of cost, test", "equal weight"),
)

# Assets with a verdict, the record of skill first.
_JUDGED = (("walk_forward_summary", "Walk-forward"), ("evaluation", "Test set"))


def assets_table(materialized: Mapping[str, Mapping[str, Any]]) -> Table:
    """Rows, sessions and labels of each materialized asset; values are plain metadata."""
    mix_column = Column("BUY / HOLD / SELL", justify="right")
    columns = ("Asset", Column("Rows", justify="right"), "Sessions", mix_column)
    table = Table(*columns, title="Materialized", title_justify="left")
    for name, metadata in materialized.items():
        rows = metadata.get("dagster/row_count")
        span = f"{metadata['first_session']} .. {metadata['last_session']}" if "first_session" in metadata else ""
        mix = "rows_buy" in metadata and " / ".join(f"{metadata[f'rows_{name.lower()}']:,}" for name in CLASS_NAMES)
        table.add_row(name, f"{rows:,}" if rows is not None else "", span, mix or "")
    return table


def bars_summary(metadata: Mapping[str, Any]) -> list[str]:
    """Results of an update of the bars, as lines."""
    outcomes, sources = metadata["outcomes"], metadata["sources"]
    lines = []
    if outcomes:
        arrived = ", ".join(f"{count:,} from {name}" for name, count in sources.items()) or "none"
        others = [f"{count:,} {outcome}" for outcome, count in outcomes.items() if outcome != "fetched"]
        lines.append("; ".join([f"Symbols: {arrived}", *others]))
    lines += [
        f"  [yellow]{escape(symbol)}[/yellow] {escape(why)}" for symbol, why in metadata["not_arrived"].items()
    ]
    lines.append(
        f"Bars: {metadata['rows_inserted']:,} new, {metadata['rows_updated']:,} changed, "
        f"{metadata['rows_unchanged']:,} as they were"
    )
    if metadata["rewritten_rows"]:
        lines.append(
            f"History rewritten by the source: {metadata['rewritten_rows']:,} bars since "
            f"{metadata['rewritten_since']}"
        )
    if metadata["rejected_rows"]:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in metadata["rejected_reasons"].items())
        lines.append(f"Set aside in rejected_bars: {reasons}")
    if metadata.get("left_out"):
        lines.append(f"Left out: {'; '.join(f'{count:,} {why}' for why, count in metadata['left_out'].items())}")
    if metadata["quarantined"]:
        lines.append(
            "[yellow]Quarantined[/yellow] for an unexplained jump: "
            f"{escape(', '.join(metadata['quarantined']))}. See: [bold]boursomatic adjustments list[/bold]"
        )
    return lines


def metrics_table(figures: Mapping[str, Any]) -> Table:
    """The main figures, each beside its baseline."""
    numbers = (Column(heading, justify="right") for heading in ("Model", "Baseline"))
    meaning_column = Column("The baseline is", style="dim")
    table = Table("Figure", *numbers, meaning_column, title="How good is it", title_justify="left")
    for name, baseline, title, meaning in _PAIRS:
        table.add_row(
            title, _figure(figures.get(name)), _figure(figures.get(baseline)) if baseline else "", meaning
        )
    return table


def conclusion_lines(made: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Verdicts, the smallest effect that could be seen, and survivors, as lines.

    `made` holds metadata by asset as plain values. Assets without a verdict are skipped.
    """
    judged = {title: made[name] for name, title in _JUDGED if name in made}
    lines = []
    for title, metadata in judged.items():
        lines += [
            f"[bold]{title}[/bold]: {escape(metadata['verdict'])}",
            f"  {escape(metadata['could_have_been_seen'])}",
        ]
    # Both assets report on one panel.
    return [*lines, *dict.fromkeys(escape(metadata["survivors"]) for metadata in judged.values())]


def rests_on_lines(materialized: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Suspect prices behind the figures, and the sessions that the benchmark covers, as lines."""
    judged = {title.lower(): materialized[name] for name, title in _JUDGED if name in materialized}
    suspects = {scope: metadata["suspect_prices"] for scope, metadata in judged.items()}
    covered = {scope: metadata["benchmark"] for scope, metadata in judged.items()}
    return [
        *(f"[yellow]{escape(said)}[/yellow] ({scope})" for scope, said in suspects.items() if said != NONE_FOUND),
        *(f"Benchmark, {scope}: {escape(said)}" for scope, said in covered.items() if said != NO_BENCHMARK),
    ]


def versions_table(rows: Sequence[ModelRow], price_levels: Mapping[str, Sequence[str]]) -> Table:
    """Model versions, the newest first. Those in `price_levels` are coloured."""
    title = "Model versions (named by their training time, UTC; figures of the test set)"
    # Version names never wrap: other commands need them whole.
    columns = (Column("Version", no_wrap=True), "Active", "Gate", "Experiment")
    numbers = (Column(heading, justify="right") for heading in ("Accuracy", "Baseline", "Sharpe"))
    # Without padding, all headings fit 80 columns.
    table = Table(*columns, *numbers, title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.padding = 0
    names = ("test_accuracy", "test_majority_accuracy", "test_sharpe_ratio")
    for row in rows:
        figures = row.metrics if isinstance(row.metrics, dict) else {}
        active = "[green]yes[/green]" if row.is_active else ""
        decided = "" if row.gate is None else "promoted" if row.gate.promoted else "[yellow]refused[/yellow]"
        name = f"[yellow]{row.version}[/yellow]" if row.version in price_levels else row.version
        table.add_row(name, active, decided, row.params_hash[:8], *(_figure(figures.get(name)) for name in names))
    return table


def price_level_note(version: str, inputs: Sequence[str]) -> str:
    """A warning that a version reads price levels."""
    return (
        f"[yellow]{version}[/yellow] reads price levels ({', '.join(inputs)}). They know the future, "
        "so its figures may show skill that is not there. New versions do not read them."
    )


def version_report(
    row: ModelRow, events: Sequence[ModelEvent], price_levels: Sequence[str]
) -> list[RenderableType]:
    """A version: facts, the gate's decision and comparison, and its events."""
    refused = row.gate is not None and not row.gate.promoted
    facts = {
        "Version": row.version,
        "Active": "yes" if row.is_active else "no",
        "Trained at": f"{row.trained_at} UTC",
        "Experiment": row.params_hash,
        "Bundle": row.model_path or "none",
        "Manifest": row.manifest_sha256 or "not recorded",
        "Gate": row.gate.reason if row.gate else "no decision is recorded",
        **({"To activate": activation(row.version)} if refused and not row.is_active else {}),
    }
    # Lines, not a grid: a narrow window wraps them and cuts nothing off.
    shown: list[RenderableType] = [f"{name:<12}{escape(value)}" for name, value in facts.items()]
    if price_levels:
        shown.append(price_level_note(row.version, price_levels))
    if row.gate and row.gate.sessions:
        shown.append(_comparison(row.gate.figures))
    if events:
        shown += ["What was done with it (UTC)", *map(_event_line, events)]
    return shown


def _comparison(figures: Mapping[str, Any]) -> Table:
    span = f"{figures['sessions']} sessions, {figures['first_session']} to {figures['last_session']}"
    headings = ("New", "Active then", "Difference", "From", "To (95 %)", "At most (95 %)")
    columns = (Column(heading, justify="right") for heading in headings)
    table = Table("Figure", *columns, title=f"What the gate compared ({span})", title_justify="left")
    for title, *numbers in comparison_table(figures).iter_rows():
        table.add_row(title, *("" if number is None else f"{number:.4f}" for number in numbers))
    return table


def _event_line(event: ModelEvent) -> str:
    versions = {
        ACTIVATED: f"{event.version_to} activated in place of {event.version_from or 'none'}",
        REFUSED: f"{event.version_to} refused, {event.version_from} stayed",
        ROLLED_BACK: f"rolled back from {event.version_from} to {event.version_to}",
        PRUNED: f"{event.version_from} pruned: its bundle was removed",
    }
    done = versions.get(event.event, f"{event.event} {event.version_from} {event.version_to}")
    return f"  {event.at:%Y-%m-%d %H:%M:%S}  {escape(f'{done}, by {event.who}: {event.why}')}"


def adjustments_table(entries: Sequence[tuple[Any, ...]], moved: Mapping[tuple[str, date], float]) -> Table:
    """Adjustments, and jumps without one: symbol, session, ratio, nearest split ratio, note.

    `moved` gives the price after a jump as a multiple of the close before, by symbol and session.
    """
    columns = ("Symbol", "Session", Column("Ratio", justify="right"), "", Column("Price went to", justify="right"))
    table = Table(*columns, title="Adjustments", title_justify="left")
    for symbol, session, ratio, split_ratio, note in entries:
        if ratio:
            table.add_row(escape(symbol), str(session), f"{ratio:.6g}", escape(note or ""))
            continue
        price_ratio = moved[symbol, session]
        jump = f"[yellow]quarantined: {jump_words(price_ratio, split_ratio)}[/yellow]"
        table.add_row(escape(symbol), str(session), "", jump, f"{price_ratio:.4g}")
    return table


def _figure(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float | int) else "undefined"
