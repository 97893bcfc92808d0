"""Declarations of all environment variables; reading, listing and documenting start here."""

from __future__ import annotations

import os
from typing import Any

from boursomatic_assets.settings import forms
from boursomatic_assets.settings.dagster_ui import UI_HOSTS, UI_PASSWORD, UI_REPORTS, UI_URL, WEB_ADDRESS
from boursomatic_assets.settings.keeping import (
    KEEP_BAR_CHANGES,
    KEEP_BUNDLES,
    KEEP_PAGES,
    KEEP_RECOMMENDATIONS,
    KEEP_RECORDS,
    KEEP_RUNS,
    KEEP_TICKS,
)
from boursomatic_assets.settings.variable import Secret, Values, Variable

DEFAULT_PROVIDER = "sample"


def _artifacts(values: Values) -> str:
    return str(HOME.read(values) / "artifacts")


def _instance(values: Values) -> str:
    return str(HOME.read(values) / "dagster")


def _prices(values: Values) -> str:
    return str(HOME.read(values) / "prices")


HOME = Variable(
    "BOURSOMATIC_HOME",
    "Folder for everything that the product writes: the embedded database, the artifacts, Dagster's files.",
    "a folder",
    forms.home,
    default="~/.boursomatic",
)
DATABASE_URL = Variable(
    "DATABASE_URL",
    "PostgreSQL server to use. Bring its schema up to date with: boursomatic db upgrade.",
    "postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
    str,
    default_note="an embedded server in BOURSOMATIC_HOME",
    secret=Secret.PASSWORD,
)
DAGSTER_HOME = Variable(
    "DAGSTER_HOME",
    "Folder of the Dagster instance to use, with your own dagster.yaml, which says where runs and events are kept.",
    "an existing folder",
    forms.folder,
    default=_instance,
    default_note="dagster in BOURSOMATIC_HOME",
)
ARTIFACTS_DIR = Variable(
    "ARTIFACTS_DIR",
    "Where models, intermediate results and reports are stored.",
    "a folder, or a URL for fsspec such as s3://BUCKET/PATH",
    forms.place,
    default=_artifacts,
    default_note="artifacts in BOURSOMATIC_HOME",
)
PROVIDER = Variable(
    "BOURSOMATIC_PROVIDER",
    "Price source. `sample` is bundled; `database` uses bars that another program stored.",
    "sample, files, yahoo, stooq, eodhd, tiingo or database",
    str,
    default=DEFAULT_PROVIDER,
)
PROVIDER_PATH = Variable(
    "BOURSOMATIC_PROVIDER_PATH",
    "Prices for the source `files`.",
    "a Parquet or CSV file, or a folder with one file per symbol",
    str,
)
PRICE_FOLDERS = Variable(
    "BOURSOMATIC_PRICE_FOLDERS",
    "Folders below which a run's configuration may name price files, besides BOURSOMATIC_PROVIDER_PATH.",
    f"paths, separated by {os.pathsep}",
    forms.folders,
    default=_prices,
    default_note="`prices` in BOURSOMATIC_HOME",
    example=f"/srv/prices{os.pathsep}/srv/archive",
)
UNIVERSE = Variable(
    "BOURSOMATIC_UNIVERSE",
    "List of the instruments to follow. Check it with: boursomatic universe check.",
    "a CSV file",
    str,
    default_note="universe.csv in BOURSOMATIC_HOME if it exists, else the shipped list",
)
EXCHANGES = Variable(
    "BOURSOMATIC_EXCHANGES",
    "Calendars whose instruments are requested from a network source.",
    "names of calendars, separated by commas, such as XPAR,XAMS",
    forms.without_blanks,
    default_note="all",
)
MAX_REJECTED_SHARE = Variable(
    "BOURSOMATIC_MAX_REJECTED_SHARE",
    "Largest share of a source's bars that may break the bar contract. An update with more fails.",
    "a fraction from 0 to 1",
    forms.share,
    default="0.01",
    example="0.01",
)
MIN_ARRIVED_SHARE = Variable(
    "BOURSOMATIC_MIN_ARRIVED_SHARE",
    "Smallest share of the requested symbols that a network source must deliver. Below it, a blocking check fails.",
    "a fraction from 0 to 1",
    forms.share,
    default="0.98",
    example="0.98",
)
OVERLAP_SESSIONS = Variable(
    "BOURSOMATIC_OVERLAP_SESSIONS",
    "Stored sessions that each update fetches again, to notice that a source has rewritten its history.",
    "a whole number, of sessions",
    forms.count,
    default="5",
    example="2",
)
FEED_HOURS = Variable(
    "BOURSOMATIC_FEED_HOURS",
    "Hours after a close until which its bars are requested again while they are missing. Then a notice is sent.",
    "a number of hours, above 0",
    forms.rate,
    default="8",
    example="8",
)
GATEWAY = Variable(
    "BOURSOMATIC_GATEWAY",
    "Gateway to network sources: https://HOST/PATH is requested as GATEWAY/HOST/PATH.",
    WEB_ADDRESS,
    forms.gateway,
    secret=Secret.PLACE,
)
REQUESTS_PER_SECOND = Variable(
    "BOURSOMATIC_REQUESTS_PER_SECOND",
    "Rate limit for each network source.",
    "a number of requests per second, above 0",
    forms.rate,
    default_note="the source's own limit",
    example="2",
)
STOOQ_KEY = Variable(
    "BOURSOMATIC_STOOQ_KEY", "API key for Stooq, if it asks for one.", "a key", str, secret=Secret.WHOLE
)
EODHD_KEY = Variable(
    "BOURSOMATIC_EODHD_KEY",
    "API key for the source `eodhd`. Each symbol takes three requests; a paid plan has 100,000 a day.",
    "a key",
    str,
    secret=Secret.WHOLE,
)
TIINGO_KEY = Variable(
    "BOURSOMATIC_TIINGO_KEY",
    "API key for the source `tiingo`. Each symbol takes one request; the free plan has 50 an hour.",
    "a key",
    str,
    secret=Secret.WHOLE,
)
THREADS = Variable(
    "BOURSOMATIC_THREADS",
    "Threads for training. Their number never changes a result.",
    "a whole number, 0 for all cores",
    forms.count,
    default="0",
    example="2",
)
RETRAIN_AFTER = Variable(
    "BOURSOMATIC_RETRAIN_AFTER",
    "Sessions whose labels must have matured since the last training before the next one starts by itself.",
    "a whole number, of sessions",
    forms.count,
    default="20",
    example="2",
)
SENSOR_SECONDS = Variable(
    "BOURSOMATIC_SENSOR_SECONDS",
    "Shortest time between two evaluations of a sensor. Sensors that send notices wait twice as long.",
    "a whole number, of seconds",
    forms.count,
    default="15",
    example="2",
)
AUTOMATION = Variable(
    "BOURSOMATIC_AUTOMATION",
    "Whether sensors and schedules start by themselves where Dagster loads the code location. `boursomatic dev` "
    "sets it to on. One that was started or stopped in the UI stays as it is.",
    "on or off",
    forms.on_or_off,
    default="off",
    default_note="on for `boursomatic dev`, else off",
    example="on",
)
NOTICE_WEBHOOK = Variable(
    "BOURSOMATIC_NOTICE_WEBHOOK",
    "Address that receives notices of failures as JSON, such as a Slack webhook.",
    WEB_ADDRESS,
    forms.web_address,
    secret=Secret.WHOLE,
)
NOTICE_TO = Variable(
    "BOURSOMATIC_NOTICE_TO",
    "Receivers of notices by e-mail. A mail server must be set too.",
    "e-mail addresses, separated by commas",
    forms.listed,
)
NOTICE_FROM = Variable(
    "BOURSOMATIC_NOTICE_FROM",
    "Sender of notices by e-mail.",
    "an e-mail address",
    str,
    default_note="the mail server's user if that is an address, else boursomatic@HOST",
)
SMTP_URL = Variable(
    "BOURSOMATIC_SMTP_URL",
    "Mail server. With smtps:// the connection uses TLS from the start; with smtp://, STARTTLS if offered.",
    "smtp://USER:PASSWORD@HOST:PORT or smtps://…, with special characters of user and password as %XX",
    forms.smtp_address,
    secret=Secret.PASSWORD,
)
SMTP_HOST = Variable("BOURSOMATIC_SMTP_HOST", "Mail server, if no BOURSOMATIC_SMTP_URL is set.", "a host name", str)
SMTP_PORT = Variable(
    "BOURSOMATIC_SMTP_PORT",
    "Port of the mail server, if BOURSOMATIC_SMTP_URL names none.",
    "a whole number, a port",
    forms.count,
    default_note="587; 465 with smtps://",
    example="2525",
)
SMTP_USER = Variable(
    "BOURSOMATIC_SMTP_USER",
    "User of the mail server, if BOURSOMATIC_SMTP_URL names none.",
    "a user name",
    str,
    default_note="no login",
)
SMTP_PASSWORD = Variable(
    "BOURSOMATIC_SMTP_PASSWORD",
    "Password for the mail server, if BOURSOMATIC_SMTP_URL names none.",
    "a password",
    str,
    secret=Secret.WHOLE,
)

GROUPS: dict[str, tuple[Variable[Any], ...]] = {
    "Places": (HOME, DATABASE_URL, ARTIFACTS_DIR, DAGSTER_HOME),
    "Prices": (
        PROVIDER, PROVIDER_PATH, PRICE_FOLDERS, UNIVERSE, EXCHANGES, MAX_REJECTED_SHARE, MIN_ARRIVED_SHARE,
        OVERLAP_SESSIONS, FEED_HOURS, GATEWAY, REQUESTS_PER_SECOND, STOOQ_KEY, EODHD_KEY, TIINGO_KEY,
    ),
    "Training and sensors": (THREADS, RETRAIN_AFTER, AUTOMATION, SENSOR_SECONDS),
    "Retention": (
        KEEP_RECOMMENDATIONS, KEEP_BAR_CHANGES, KEEP_RUNS, KEEP_TICKS, KEEP_RECORDS, KEEP_PAGES, KEEP_BUNDLES,
    ),
    "Dagster UI": (UI_URL, UI_PASSWORD, UI_HOSTS, UI_REPORTS),
    "Notices": (
        NOTICE_WEBHOOK, NOTICE_TO, NOTICE_FROM, SMTP_URL, SMTP_HOST, SMTP_PORT, SMTP_USER, SMTP_PASSWORD,
    ),
}  # fmt: skip
VARIABLES = tuple(variable for group in GROUPS.values() for variable in group)

# Variables of other programs, and one that the product sets for Dagster. Besides `VARIABLES`, only these are used.
OTHERS = {
    "BOURSOMATIC_DAGSTER_URL": "Set for Dagster's processes: address of the Dagster instance's storage.",
    "DAGSTER_DISABLE_TELEMETRY": "Set to 1.",
    "MPLCONFIGDIR": "Set to `matplotlib` in BOURSOMATIC_HOME, unless it is set already.",
    "GOMP_SPINCOUNT": "Set to 1000 for training, unless it or OMP_WAIT_POLICY is set already.",
    "OMP_WAIT_POLICY": "Read: if it is set, GOMP_SPINCOUNT is left alone.",
    "PYTHONWARNINGS": "Set for the UI and the daemon, to silence warnings of Dagster about its own interfaces.",
    "TZ": "Read: time zone of the embedded server.",
    "XDG_RUNTIME_DIR": "Read: preferred folder for the socket of the embedded server.",
    "PG*": "Removed while the embedded server is used, so that libpq does not connect to another one.",
}
