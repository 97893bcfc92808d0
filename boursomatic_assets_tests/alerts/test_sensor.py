"""The sensor on a real instance: one message for a failure, and one for its recovery."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import dagster as dg
import pytest

from boursomatic_assets.alerts import sensor as automation
from boursomatic_assets.alerts.outbox import count_waiting, list_notices
from boursomatic_assets.alerts.recording import open_failures
from boursomatic_assets.alerts.sensor import failure_notices
from boursomatic_assets.definitions import defs
from boursomatic_assets.errors import ConfigurationError, NotEnoughHistoryError
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.dagster.instance import open_instance
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets_tests.support.receivers import WebReceiver

FOLDS = dg.StaticPartitionsDefinition(["fold 1", "fold 2"])


@dataclass
class Behaviour:
    """What fails in the graph."""

    errors: dict[str, Exception] = field(default_factory=dict)
    broken_rows: int = 0

    def act(self, name: str) -> None:
        if name in self.errors:
            raise self.errors[name]


BEHAVIOUR = Behaviour()


@dg.asset
def bars() -> None:
    BEHAVIOUR.act("bars")


@dg.asset(deps=[bars])
def features() -> None:
    BEHAVIOUR.act("features")


@dg.asset_check(asset=features, blocking=True)
def rows_are_whole() -> dg.AssetCheckResult:
    """No row is broken."""
    BEHAVIOUR.act("check")
    return dg.AssetCheckResult(passed=BEHAVIOUR.broken_rows == 0, metadata={"broken_rows": BEHAVIOUR.broken_rows})


@dg.asset_check(asset=features)
def rows_are_many() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)


@dg.asset(deps=[features])
def labels() -> None:
    BEHAVIOUR.act("labels")


@dg.multi_asset(specs=[dg.AssetSpec("train_set"), dg.AssetSpec("test_set")])
def sets() -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
    yield dg.MaterializeResult(asset_key="train_set")
    BEHAVIOUR.act("sets")
    yield dg.MaterializeResult(asset_key="test_set")


@dg.asset(partitions_def=FOLDS)
def walk_forward(context: dg.AssetExecutionContext) -> None:
    BEHAVIOUR.act(context.partition_key)


GRAPH = dg.Definitions(
    assets=[bars, features, labels, sets, walk_forward],
    asset_checks=[rows_are_whole, rows_are_many],
    jobs=[
        dg.define_asset_job("update", selection=["bars", "features", "labels"]),
        dg.define_asset_job("split", selection=["train_set", "test_set"]),
        dg.define_asset_job("folds", selection=["walk_forward"]),
    ],
    sensors=[failure_notices],
)


@pytest.fixture
def instance(settings: Settings, database: Database) -> Iterator[dg.DagsterInstance]:
    BEHAVIOUR.errors, BEHAVIOUR.broken_rows = {}, 0
    with open_instance(settings, database) as opened:
        yield opened


@pytest.fixture
def web(web: WebReceiver, monkeypatch: pytest.MonkeyPatch) -> WebReceiver:
    monkeypatch.setenv("BOURSOMATIC_NOTICE_WEBHOOK", web.url)
    return web


def execute(instance: dg.DagsterInstance, job: str = "update", **options: object) -> str:
    result = GRAPH.resolve_job_def(job).execute_in_process(
        instance=instance,
        raise_on_error=False,
        **options,  # type: ignore[arg-type]
    )
    return result.run_id


def tick(instance: dg.DagsterInstance) -> str:
    context = dg.build_sensor_context(instance, definitions=GRAPH)
    message = failure_notices.evaluate_tick(context).skip_message
    assert message
    return message


@pytest.fixture
def watched(instance: dg.DagsterInstance, web: WebReceiver) -> WebReceiver:
    """The sensor has begun, and messages arrive at this receiver."""
    tick(instance)
    return web


def told(receiver: WebReceiver) -> list[str]:
    return [f"{body['asset']} {body['kind']}" for body in receiver.bodies]


def test_sensor_tells_a_failure_once_and_its_recovery_once(
    instance: dg.DagsterInstance, watched: WebReceiver
) -> None:
    BEHAVIOUR.errors["features"] = NotEnoughHistoryError("'FB' has 12 sessions")
    first = execute(instance)
    assert tick(instance) == "Runs that ended: 1; new messages: 1; deliveries: 2; waiting: 0."
    BEHAVIOUR.errors["features"] = NotEnoughHistoryError("'FB' has 13 sessions")
    execute(instance)
    assert tick(instance) == "Runs that ended: 1; new messages: 0; deliveries: 0; waiting: 0."
    BEHAVIOUR.errors.clear()
    over = execute(instance)
    tick(instance)
    failure, recovery = watched.bodies
    assert failure["text"].startswith("features failed on ")
    assert failure["cause"] == "NotEnoughHistoryError: 'FB' has 12 sessions"
    assert (failure["job"], failure["run_id"]) == ("update", first)
    assert failure["run_url"] == f"http://127.0.0.1:3000/runs/{first}"
    assert (recovery["kind"], recovery["times"], recovery["run_id"]) == ("recovery", 2, over)
    assert tick(instance).startswith("Runs that ended: 0;")


def test_sensor_tells_a_failed_blocking_check_with_its_figures(
    instance: dg.DagsterInstance, database: Database, watched: WebReceiver
) -> None:
    BEHAVIOUR.broken_rows = 3
    execute(instance)
    tick(instance)
    # The run failed for it, and later steps were skipped: one message. A warning is none.
    (body,) = watched.bodies
    assert body["cause"] == "the blocking check rows_are_whole did not pass (No row is broken): broken_rows 3"
    assert body["asset"] == "features"
    BEHAVIOUR.broken_rows = 4
    execute(instance)
    tick(instance)
    assert open_failures(database)[0].times == 2
    # Materialized without its check: not recovered.
    execute(instance, asset_selection=[dg.AssetKey("features")])
    BEHAVIOUR.broken_rows = 0
    execute(instance)
    tick(instance)
    assert told(watched) == ["features failure", "features recovery"]


@pytest.mark.parametrize(
    ("name", "error", "cause"),
    [
        ("check", KeyError("close"), "check rows_are_whole could not be evaluated: KeyError: 'close'"),
        (
            "labels",
            dg.Failure("checks are missing: features", allow_retries=False),
            "Failure: checks are missing: features",
        ),
    ],
    ids=["error in a check", "dagster's failure"],
)
def test_sensor_words_the_cause(
    instance: dg.DagsterInstance, watched: WebReceiver, name: str, error: Exception, cause: str
) -> None:
    BEHAVIOUR.errors[name] = error
    execute(instance)
    tick(instance)
    assert [body["cause"] for body in watched.bodies] == [cause]


def test_sensor_names_the_missing_asset_of_a_multi_asset(
    instance: dg.DagsterInstance, watched: WebReceiver
) -> None:
    BEHAVIOUR.errors["sets"] = ValueError("x")
    execute(instance, "split")
    BEHAVIOUR.errors.clear()
    execute(instance, "split")
    tick(instance)
    assert told(watched) == ["test_set failure", "test_set recovery"]


def test_sensor_awaits_each_failed_partition(instance: dg.DagsterInstance, watched: WebReceiver) -> None:
    for fold in ("fold 1", "fold 2"):
        BEHAVIOUR.errors[fold] = ValueError("x")
        execute(instance, "folds", partition_key=fold)
    BEHAVIOUR.errors.clear()
    execute(instance, "folds", partition_key="fold 2")
    tick(instance)
    assert told(watched) == ["walk_forward failure"]
    execute(instance, "folds", partition_key="fold 1")
    tick(instance)
    assert told(watched) == ["walk_forward failure", "walk_forward recovery"]


def test_sensor_names_what_a_dead_run_had_not_done(instance: dg.DagsterInstance, watched: WebReceiver) -> None:
    run = instance.create_run_for_job(GRAPH.resolve_job_def("update"))
    # As Dagster's monitor does when a process is gone.
    instance.report_run_failed(run, "Detected run worker status FAILED: exit code -9")
    tick(instance)
    (body,) = watched.bodies
    assert body["asset"] == "bars, features, labels"
    assert "exit code -9" in body["cause"]
    execute(instance)
    tick(instance)
    assert told(watched)[1:] == ["bars, features, labels recovery"]


def test_sensor_ignores_a_cancelled_run(instance: dg.DagsterInstance, watched: WebReceiver) -> None:
    run = instance.create_run_for_job(GRAPH.resolve_job_def("update"))
    instance.report_run_canceled(run)
    assert tick(instance).startswith("Runs that ended: 1; new messages: 0;")
    assert watched.bodies == []


def test_sensor_tells_nothing_from_before_its_first_tick(instance: dg.DagsterInstance, web: WebReceiver) -> None:
    BEHAVIOUR.errors["bars"] = ValueError("x")
    execute(instance)
    tick(instance)
    tick(instance)
    assert web.bodies == []


def test_sensor_tells_later_what_failed_while_the_daemon_was_down(
    instance: dg.DagsterInstance, watched: WebReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    BEHAVIOUR.errors["bars"] = ValueError("x")
    execute(instance)
    BEHAVIOUR.errors["labels"] = BEHAVIOUR.errors.pop("bars")
    execute(instance)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    # Killed after it has recorded the runs and before delivery.
    with monkeypatch.context() as patch:
        patch.setattr(automation, "deliver_due", die)
        with pytest.raises(KeyboardInterrupt):
            tick(instance)
    assert watched.bodies == []
    assert tick(instance) == "Runs that ended: 0; new messages: 0; deliveries: 6; waiting: 0."
    # The second run brought the bars.
    assert sorted(told(watched)) == ["bars failure", "bars recovery", "labels failure"]


def test_sensor_reports_an_undelivered_message_in_its_tick(
    instance: dg.DagsterInstance, database: Database, watched: WebReceiver
) -> None:
    watched.status = 500
    BEHAVIOUR.errors["bars"] = ValueError("x")
    failed = execute(instance)
    said = tick(instance)
    assert said.endswith("waiting: 1. Not delivered, will be tried again: webhook: answered 500.")
    BEHAVIOUR.errors.clear()
    succeeded = execute(instance)
    tick(instance)
    statuses = [instance.get_run_by_id(run).status for run in (failed, succeeded)]  # type: ignore[union-attr]
    assert statuses == [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS]
    assert count_waiting(database) == 2


def test_sensor_keeps_secrets_out_of_messages_outbox_and_tick(
    instance: dg.DagsterInstance,
    database: Database,
    watched: WebReceiver,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BOURSOMATIC_STOOQ_KEY", "key-of-stooq")
    BEHAVIOUR.errors["bars"] = OSError(f"{watched.url}?apikey=key-of-stooq postgresql://me:hush@db/prices refused")
    watched.status = 404
    execute(instance)
    capfd.readouterr()
    said = tick(instance)
    (notice,) = list_notices(database, limit=9)
    assert notice.message.details["cause"] == "OSError: ***?apikey=*** postgresql://me:***@db/prices refused"
    everything = f"{said} {notice} {''.join(capfd.readouterr())}"
    for secret in ("hush", "key-of-stooq"):
        assert secret not in everything


def test_sensor_loses_nothing_by_an_invalid_setting(
    instance: dg.DagsterInstance, watched: WebReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    BEHAVIOUR.errors["bars"] = ValueError("x")
    execute(instance)
    with monkeypatch.context() as patch:
        patch.setenv("BOURSOMATIC_NOTICE_TO", "ops@x.org")
        with pytest.raises(ConfigurationError, match="BOURSOMATIC_SMTP_URL"):
            tick(instance)
    tick(instance)
    assert told(watched) == ["bars failure"]


def test_sensor_starts_with_the_others_and_is_described() -> None:
    sensor = defs.resolve_sensor_def("failure_notices")
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
    assert sensor.description
