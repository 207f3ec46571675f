"""Starts a run of the ingester and waits for its end.

The connection ``affluent_ingester`` has the ingester's address: host, port, schema (``http`` or ``https``). The
password is its bearer token, if required. Set ``schedule.enabled = false``, or treat Airflow's runs as additional ones.
Do not pause the ingester's schedule instead: a pause also skips retries.

A DAG run is idempotent: the logical date is the seed, and the ingester stores the seed of each run. A queued, running
or successful run with that seed is reused. The ingester retries a failed run by itself (``schedule.retries``,
``schedule.retry_delay``). The DAG waits for that retry, and fails only when it fails or does not come.

Params: ``users``, the number of users; by default the ingester's setting.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone
from urllib.parse import urlencode

from airflow.exceptions import AirflowException, AirflowFailException
from airflow.sdk import BaseHook, Param, PokeReturnValue, dag, get_current_context, task

CONNECTION = "affluent_ingester"
# Timeout of one request; the ingester responds immediately.
TIMEOUT_S = 30
POKE_INTERVAL_S = 15
# Number of latest runs searched for the seed: more than start within the retries of a task.
LOOK_BACK = 200
# States of a run that can be reused.
REUSABLE = {"queued", "running", "complete", "rejected"}
# How long after its time a retry is expected: other runs may be active.
RETRY_SLACK = timedelta(minutes=5)
UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Ingester:
    """Client of the ingester's API."""

    def __init__(self) -> None:
        connection = BaseHook.get_connection(CONNECTION)
        scheme = connection.schema or "http"
        self.address = f"{scheme}://{connection.host}:{connection.port or 8081}"
        self.token = connection.password

    def send(self, method: str, path: str, body: dict | None = None) -> dict:
        request = urllib.request.Request(f"{self.address}{path}", method=method)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            body = error.read(2000).decode(errors="replace")
            # Another run is active, or the ingester has a problem: the task is retried.
            transient = error.code == 409 or error.code >= 500
            kind = AirflowException if transient else AirflowFailException
            raise kind(f"{method} {path}: {error.code} {body}") from None

    def latest(self, seed: str) -> dict | None:
        """The latest run of a seed: the retry, if a run was retried."""
        page = self.send("GET", "/v1/runs?" + urlencode({"limit": LOOK_BACK}))
        return next((run for run in page["runs"] if run["seed"] == seed), None)

    def will_retry(self, run: dict) -> bool:
        """Whether the ingester will retry a failed run by itself."""
        view = self.send("GET", "/v1/schedule")
        schedule = view["schedule"]
        if run["state"] != "failed" or view["paused"] or run["retry"] >= schedule["retries"]:
            return False
        # Without the fraction, whose number of digits varies.
        ended = datetime.fromisoformat(run["ended"][:19] + "+00:00")
        due = ended + duration(schedule["retry_delay"])
        return datetime.now(timezone.utc) < due + RETRY_SLACK


def duration(text: str) -> timedelta:
    """Parses a duration of the ingester's settings, such as ``5m`` or ``1h 30m``."""
    parts = re.findall(r"([\d.]+)\s*(ms|s|m|h|d)", text)
    return timedelta(seconds=sum(float(number) * UNITS_S[unit] for number, unit in parts))


@dag(
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=5)},
    params={"users": Param(None, type=["null", "integer"], minimum=1)},
    doc_md=__doc__,
    tags=["affluent"],
)
def affluent_users():
    @task
    def start() -> str:
        """Starts the run of this logical date, unless it exists."""
        context = get_current_context()
        moment = context.get("logical_date") or context["dag_run"].run_after
        seed = f"airflow-{moment.astimezone(timezone.utc):%Y%m%dT%H%M%S.%f}"
        ingester = Ingester()
        run = ingester.latest(seed)
        if run and (run["state"] in REUSABLE or ingester.will_retry(run)):
            print(f"run {run['id']} of seed {seed} is already {run['state']}")
            return seed
        request = {"seed": seed}
        if context["params"]["users"] is not None:
            request["users"] = context["params"]["users"]
        run = ingester.send("POST", "/v1/runs", request)
        print(f"run {run['id']} of seed {seed} was started")
        return seed

    @task.sensor(poke_interval=POKE_INTERVAL_S, timeout=6 * 3600, mode="reschedule")
    def wait(seed: str) -> PokeReturnValue:
        """Polls without occupying a worker. The counts are the task's result."""
        ingester = Ingester()
        run = ingester.latest(seed)
        if run is None:
            raise AirflowFailException(f"the run of seed {seed} is no longer among the latest {LOOK_BACK}")
        state, counts = run["state"], run["counts"]
        if state in ("queued", "running", "cancelling"):
            print(f"{state}: {counts['fetched']} of {counts['requested']} fetched, {counts['accepted']} accepted")
            return PokeReturnValue(is_done=False)
        if ingester.will_retry(run):
            print(f"failed: {run['reason']}; waiting for the ingester's retry {run['retry'] + 1}")
            return PokeReturnValue(is_done=False)
        if state != "complete":
            raise AirflowFailException(f"the run is {state}: {run['reason'] or counts['rejected_reasons']}")
        return PokeReturnValue(is_done=True, xcom_value=counts)

    wait(start())


affluent_users()
