"""The report: one page that says what a careful reader may conclude of the models, and on what grounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from boursomatic_assets.display.report.chapter import chapter, named, size, span
from boursomatic_assets.display.report.definitions import definitions
from boursomatic_assets.display.report.importance import ReportImportance, importance_charts
from boursomatic_assets.display.report.page import document, element, escaped, figure, paragraph, section
from boursomatic_assets.display.report.proofs import checks_table, pairs_table, proof_runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from boursomatic_assets.display.report.canvas import Chart
    from boursomatic_assets.storage.dagster.check_results import CheckResult

    Judgement = Mapping[str, Any]

HASH_SHOWN = 12


@dataclass(frozen=True)
class ReportProofs:
    """What vouches for the figures.

    Attributes
    ----------
    checks : sequence of CheckResult
        Checks of this installation with their last results.
    runs : mapping or None
        What the proof runs of the product measured: `null`, `power`, `leaks`, `measured`.
    """

    checks: Sequence[CheckResult] = ()
    runs: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ReportModel:
    """What was judged and how the page came about.

    Attributes
    ----------
    version : str or None
        None where no version is recorded of these models.
    params_hash : str
        SHA-256 of the experiment.
    experiment : mapping
    first_session, last_session : str or None
        Span of the labelled prices.
    run_id : str
    made_at : datetime
        UTC.
    code, packages : mapping of str to str
    no_walk_forward : str
        Why the walk-forward is not in the report, and what to do.
    """

    version: str | None
    params_hash: str
    experiment: Mapping[str, Any]
    first_session: str | None
    last_session: str | None
    run_id: str
    made_at: datetime
    code: Mapping[str, str | None] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    no_walk_forward: str = "There is no walk-forward yet. Run it: boursomatic materialize --select walk_forward+"


def report_page(
    evaluation: Judgement,
    walk_forward: Judgement | None,
    importance: ReportImportance,
    proofs: ReportProofs,
    model: ReportModel,
) -> str:
    """Write the report.

    Parameters
    ----------
    evaluation : mapping
        The asset `evaluation`: figures, comparisons, curves and verdict of the test set.
    walk_forward : mapping or None
        The asset `walk_forward_summary`, of the same shape with `folds`; shown first where it is there.
    importance : ReportImportance
    proofs : ReportProofs
    model : ReportModel

    Returns
    -------
    str
        A whole HTML document that loads nothing and works from a file.
    """
    judged = [scope for scope in (walk_forward, evaluation) if scope]
    chapters = [chapter(scope) for scope in judged]
    looked_at = importance_charts(importance)
    body = "".join(
        [
            _header(judged, model),
            _conclusions(judged, model, walk_forward),
            *(html for html, _ in chapters),
            _importance(looked_at),
            _proofs(proofs),
            _definitions(),
            _provenance(model),
        ]
    )
    charts = [chart for _, own in chapters for chart in own] + looked_at
    return document(f"Report {model.version or model.params_hash[:HASH_SHOWN]}", body, charts)


def _header(judged: Sequence[Judgement], model: ReportModel) -> str:
    horizon = model.experiment.get("horizon", "?")
    sessions = {named(found)[1].partition(":")[0]: f"{span(found)}, {size(found)}" for found in judged}
    facts = {
        "Version": model.version or "none recorded of these models",
        "Experiment": model.params_hash[:HASH_SHOWN],
        "Prices": f"{model.first_session or '?'} to {model.last_session or '?'}",
        **sessions,
    }
    listed = "".join(
        element("div", element("dt", escaped(name)) + element("dd", escaped(fact))) for name, fact in facts.items()
    )
    places = [
        ("conclusions", "Conclusions"),
        *((name, title.partition(":")[0]) for name, title in map(named, judged)),
        ("importance", "Importance"),
        ("proofs", "Proofs"),
        ("definitions", "Definitions"),
        ("made", "How it was made"),
    ]
    links = "".join(element("li", element("a", escaped(title), href=f"#{name}")) for name, title in places)
    title = element("h1", "What these models are worth")
    under = paragraph(f"BUY, HOLD and SELL over {horizon} sessions, judged on prices they had not seen.", "faint")
    contents = element("nav", element("ul", links), **{"aria-label": "Contents"})
    return element("header", title + under + element("dl", listed, **{"class": "facts"}) + contents)


def _conclusions(judged: Sequence[Judgement], model: ReportModel, walk_forward: Judgement | None) -> str:
    said = "".join(map(_verdict, judged))
    missing = "" if walk_forward else paragraph(model.no_walk_forward, "note")
    return section("conclusions", "What a careful reader may conclude", said + missing)


def _verdict(judgement: Judgement) -> str:
    verdict = judgement.get("verdict") or {}
    remarks = "".join(element("li", escaped(remark)) for remark in verdict.get("remarks") or ())
    sentence = paragraph(
        str(verdict.get("sentence") or "There is no verdict: too little could be measured."), "verdict"
    )
    about = element("h3", escaped(f"{named(judgement)[1].partition(':')[0]}, {span(judgement)}"))
    kind = "said skill" if verdict.get("skill") else "said"
    return element("div", about + sentence + (element("ul", remarks) if remarks else ""), **{"class": kind})


def _importance(charts: Sequence[Chart]) -> str:
    shown = "".join(figure(chart, "") for chart in charts)
    return section("importance", "What the models look at", shown or paragraph("No split was made.", "nothing"))


def _proofs(proofs: ReportProofs) -> str:
    about = paragraph(
        "What has to hold before any figure is worth reading. A failed check that blocks stops the model."
    )
    runs = proof_runs(proofs.runs) if proofs.runs else _no_runs()
    return section("proofs", "Proofs", about + checks_table(proofs.checks) + runs)


def _no_runs() -> str:
    proofs = "no skill on random walks, a planted signal found, planted leaks stopped"
    command = element("code", "boursomatic bench --proofs")
    return element("p", f"The proofs of the product ({proofs}) were not run here: {command}", **{"class": "note"})


def _definitions() -> str:
    terms = "".join(
        element("div", element("dt", escaped(term)) + element("dd", escaped(text))) for term, text in definitions()
    )
    return section("definitions", "What each figure means", element("dl", terms, **{"class": "terms"}))


def _provenance(model: ReportModel) -> str:
    made = {
        "Version": model.version or "none recorded of these models",
        "Run": model.run_id,
        "Written": f"{model.made_at:%Y-%m-%d %H:%M} UTC",
        "Experiment (SHA-256)": model.params_hash,
        "Code": model.code.get("package") or "?",
        "Code (SHA-256 of the sources)": model.code.get("source_sha256") or "?",
        "Code (git)": model.code.get("git") or "not from a checkout",
    }
    inside = pairs_table("Where it comes from", made)
    settings = pairs_table("The experiment", {name: _setting(value) for name, value in model.experiment.items()})
    packages = pairs_table("Packages that can change a model", model.packages)
    folded = {"The experiment": settings, "Packages": packages}
    details = "".join(f"<details><summary>{title}</summary>{held}</details>" for title, held in folded.items())
    return section("made", "How it was made", inside + details)


def _setting(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
