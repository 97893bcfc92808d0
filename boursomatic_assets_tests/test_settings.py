from __future__ import annotations

import os
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.settings import Settings, WebSettings, sensor_seconds, starting_status, wait_briefly


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = Settings.from_environment({})
    assert settings.home == Path.home() / ".boursomatic"
    assert settings.database_url is None
    assert settings.artifacts_dir == str(Path.home() / ".boursomatic" / "artifacts")
    assert settings.provider == "sample"
    assert settings.provider_path is None
    assert settings.max_rejected_share == 0.01
    assert settings.threads == 0
    assert settings.universe is None
    assert settings.min_arrived_share == 0.98
    assert settings.overlap_sessions == 5
    assert settings.gateway is None
    assert settings.exchanges == ()
    assert settings.requests_per_second is None


def test_every_variable_is_read() -> None:
    settings = Settings.from_environment(
        {
            "BOURSOMATIC_HOME": "/somewhere",
            "DATABASE_URL": "postgresql://reader:secret@host/prices",
            "ARTIFACTS_DIR": "s3://bucket/artifacts",
            "BOURSOMATIC_PROVIDER": "parquet",
            "BOURSOMATIC_PROVIDER_PATH": "/prices",
            "BOURSOMATIC_MAX_REJECTED_SHARE": "0.05",
            "BOURSOMATIC_THREADS": "2",
            "BOURSOMATIC_UNIVERSE": "/lists/mine.csv",
            "BOURSOMATIC_MIN_ARRIVED_SHARE": "0.9",
            "BOURSOMATIC_OVERLAP_SESSIONS": "10",
            "BOURSOMATIC_RETRAIN_AFTER": "5",
            "BOURSOMATIC_GATEWAY": "https://gate.example/fetch/",
            "BOURSOMATIC_PRICE_FOLDERS": os.pathsep.join(["/feeds", "/archive"]),
            "BOURSOMATIC_EXCHANGES": "XPAR, XAMS",
            "BOURSOMATIC_REQUESTS_PER_SECOND": "0.5",
            "BOURSOMATIC_FEED_HOURS": "6",
        }
    )
    assert settings == Settings(
        home=Path("/somewhere"),
        database_url="postgresql://reader:secret@host/prices",
        artifacts_dir="s3://bucket/artifacts",
        provider="parquet",
        provider_path="/prices",
        price_folders=(Path("/feeds"), Path("/archive")),
        max_rejected_share=0.05,
        threads=2,
        universe="/lists/mine.csv",
        min_arrived_share=0.9,
        overlap_sessions=10,
        retrain_after=5,
        gateway="https://gate.example/fetch",
        exchanges=("XPAR", "XAMS"),
        requests_per_second=0.5,
        feed_hours=6.0,
    )


def test_the_process_environment_is_read_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOURSOMATIC_THREADS", "3")
    assert Settings.from_environment().threads == 3
    monkeypatch.setenv("BOURSOMATIC_THREADS", "4")
    assert Settings.from_environment().threads == 4


def test_a_variable_set_to_nothing_counts_as_unset() -> None:
    names = (
        "BOURSOMATIC_HOME",
        "DATABASE_URL",
        "ARTIFACTS_DIR",
        "BOURSOMATIC_PROVIDER",
        "BOURSOMATIC_PROVIDER_PATH",
        "BOURSOMATIC_MAX_REJECTED_SHARE",
        "BOURSOMATIC_THREADS",
        "BOURSOMATIC_UNIVERSE",
        "BOURSOMATIC_MIN_ARRIVED_SHARE",
        "BOURSOMATIC_OVERLAP_SESSIONS",
        "BOURSOMATIC_RETRAIN_AFTER",
        "BOURSOMATIC_GATEWAY",
        "BOURSOMATIC_EXCHANGES",
        "BOURSOMATIC_REQUESTS_PER_SECOND",
    )
    assert Settings.from_environment(dict.fromkeys(names, "")) == Settings.from_environment({})


def test_artifacts_live_under_the_home_that_is_set(tmp_path: Path) -> None:
    settings = Settings.from_environment({"BOURSOMATIC_HOME": str(tmp_path)})
    assert settings.artifacts_dir == str(tmp_path / "artifacts")


def test_a_relative_home_is_fixed_where_the_program_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment({"BOURSOMATIC_HOME": "here"})
    assert settings.home == tmp_path / "here"


def test_a_tilde_means_the_users_folder() -> None:
    assert Settings.from_environment({"BOURSOMATIC_HOME": "~/b"}).home == Path.home() / "b"


@pytest.mark.parametrize("name", ["BOURSOMATIC_MAX_REJECTED_SHARE", "BOURSOMATIC_MIN_ARRIVED_SHARE"])
@pytest.mark.parametrize("text", ["-0.01", "1.01", "nan", "inf", "one percent", "1%"])
def test_a_share_that_is_no_fraction_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({name: text})
    assert name in str(caught.value)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["0", "1"])
def test_the_ends_of_the_share_are_allowed(text: str) -> None:
    assert Settings.from_environment({"BOURSOMATIC_MAX_REJECTED_SHARE": text}).max_rejected_share == float(text)
    assert Settings.from_environment({"BOURSOMATIC_MIN_ARRIVED_SHARE": text}).min_arrived_share == float(text)


# The last is a superscript two, which str.isdigit takes for a digit and int() does not.
@pytest.mark.parametrize(
    "name", ["BOURSOMATIC_THREADS", "BOURSOMATIC_OVERLAP_SESSIONS", "BOURSOMATIC_RETRAIN_AFTER"]
)
@pytest.mark.parametrize("text", ["-1", "1.5", "two", " 2", "²"])
def test_a_count_that_is_no_whole_number_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({name: text})
    assert name in str(caught.value)
    assert repr(text) in str(caught.value)


def test_sensors_look_every_quarter_of_a_minute_or_as_often_as_is_said() -> None:
    assert sensor_seconds({}) == 15
    assert sensor_seconds({"BOURSOMATIC_SENSOR_SECONDS": "4"}) == 4
    assert starting_status({"BOURSOMATIC_AUTOMATION": "on"}) == "RUNNING"
    assert starting_status({"BOURSOMATIC_AUTOMATION": "off"}) == starting_status({}) == "STOPPED"
    with pytest.raises(ConfigurationError, match="BOURSOMATIC_AUTOMATION must be on or off"):
        starting_status({"BOURSOMATIC_AUTOMATION": "yes"})
    with pytest.raises(ConfigurationError, match="BOURSOMATIC_SENSOR_SECONDS must be a whole number, of seconds"):
        sensor_seconds({"BOURSOMATIC_SENSOR_SECONDS": "often"})


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "two", "2/s"])
def test_a_rate_that_is_no_number_above_0_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({"BOURSOMATIC_REQUESTS_PER_SECOND": text})
    assert "BOURSOMATIC_REQUESTS_PER_SECOND" in str(caught.value)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["gate.example", "ftp://gate.example", "/gate", "https:gate", "https://gate.example/?a=b", "https://gate:0"],
)
def test_a_gateway_that_is_no_web_address_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({"BOURSOMATIC_GATEWAY": text})
    assert "BOURSOMATIC_GATEWAY must be an http:// or https:// address" in str(caught.value)
    # Its path may be secret.
    assert text not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "exchanges"),
    [("XPAR", ("XPAR",)), (" XPAR , XNYS ", ("XPAR", "XNYS")), (",XPAR,,", ("XPAR",)), (" ", ())],
)
def test_exchanges_are_listed_with_commas_and_blanks_mean_nothing(text: str, exchanges: tuple[str, ...]) -> None:
    assert Settings.from_environment({"BOURSOMATIC_EXCHANGES": text}).exchanges == exchanges


def test_a_home_under_a_user_who_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="BOURSOMATIC_HOME"):
        Settings.from_environment({"BOURSOMATIC_HOME": "~no-such-user-here/b"})


def test_the_database_password_never_shows_in_repr() -> None:
    settings = Settings.from_environment({"DATABASE_URL": "postgresql://reader:secret@host/prices"})
    assert "secret" not in repr(settings)
    assert "secret" not in str(settings)


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings.from_environment({}).threads = 1  # type: ignore[misc]


def test_threads_of_a_training_wait_briefly_unless_a_policy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    wait_briefly()
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.delenv("OMP_WAIT_POLICY")
    wait_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    wait_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == "7"


@pytest.mark.parametrize("name", ["a[x]", "a*", "a?b/c"])
def test_a_home_that_dagster_would_take_for_a_pattern_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"BOURSOMATIC_HOME must be a folder.*pattern"):
        Settings.from_environment({"BOURSOMATIC_HOME": f"/homes/{name}"})


@pytest.mark.parametrize("text", ["*", "*.example", "a.example:3000", "http://a.example", "a/b"])
def test_hosts_of_the_ui_are_names_without_ports_and_patterns(text: str) -> None:
    with pytest.raises(ConfigurationError, match="BOURSOMATIC_UI_HOSTS"):
        WebSettings.from_environment({"BOURSOMATIC_UI_HOSTS": text})
    assert WebSettings.from_environment({"BOURSOMATIC_UI_HOSTS": "a.example, ::1"}).hosts == ("a.example", "::1")


def test_a_blank_password_of_the_ui_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="BOURSOMATIC_UI_PASSWORD"):
        WebSettings.from_environment({"BOURSOMATIC_UI_PASSWORD": "  "})
