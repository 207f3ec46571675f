"""Starts a run of the ingester and waits for its end.

The connection ``affluent_ingester`` has the ingester's address: host, port, schema (``http`` or ``https``). The
password is its bearer token, if required. Disable the ingester's own schedule (``schedule.cron = "0 0 29 2 *"`` or a
long interval), or treat Airflow's runs as additional ones.

A DAG run is idempotent: the logical date is the seed, and the ingester stores the seed of each run. A queued, running
or successful run with that seed is reused.

Params: ``users``, the number of users; by default the ingester's setting.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone
from urllib.parse import urlencode

from airflow.exceptions import AirflowException, AirflowFailException
from airflow.sdk import BaseHook, Param, PokeReturnValue, dag, get_current_context, task

CONNECTION = "affluent_ingester"
# Timeout of one request; the ingester responds immediately.
TIMEOUT_S = 30
# Number of latest runs searched for the seed: more than start within the retries of a task.
LOOK_BACK = 200
# States of a run that can be reused.
REUSABLE = {"queued", "running", "complete", "rejected"}


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
        page = ingester.send("GET", "/v1/runs?" + urlencode({"limit": LOOK_BACK}))
        for run in page["runs"]:
            if run["seed"] == seed and run["state"] in REUSABLE:
                print(f"run {run['id']} of seed {seed} is already {run['state']}")
                return run["id"]
        request = {"seed": seed}
        if context["params"]["users"] is not None:
            request["users"] = context["params"]["users"]
        run = ingester.send("POST", "/v1/runs", request)
        print(f"run {run['id']} of seed {seed} was started")
        return run["id"]

    @task.sensor(poke_interval=15, timeout=6 * 3600, mode="reschedule")
    def wait(run: str) -> PokeReturnValue:
        """Polls without occupying a worker. The counts are the task's result."""
        found = Ingester().send("GET", f"/v1/runs/{run}")
        state, counts = found["state"], found["counts"]
        if state in ("queued", "running", "cancelling"):
            print(f"{state}: {counts['fetched']} of {counts['requested']} fetched, {counts['accepted']} accepted")
            return PokeReturnValue(is_done=False)
        if state != "complete":
            raise AirflowFailException(f"the run is {state}: {found['reason'] or counts['rejected_reasons']}")
        return PokeReturnValue(is_done=True, xcom_value=counts)

    wait(start())


affluent_users()
