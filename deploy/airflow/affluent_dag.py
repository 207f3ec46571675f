"""Starts a run of the ingester and waits for its end.

The connection ``affluent_ingester`` says where the ingester is: host, port, schema (``http`` or ``https``), and its
bearer token as the password, where it asks for one. Let the ingester start nothing by itself then
(``schedule.cron = "0 0 29 2 *"`` or a far interval), or take Airflow's runs as additional ones.

A DAG run is done once however often its tasks are: the logical date is the seed, the ingester keeps the seed in its
history, and a run of that seed which waits, runs or ended well is taken for the one that was asked for.

Params: ``users``, how many; the ingester's own setting where it is not given.
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
# For one answer; the ingester gives each at once.
DEADLINE_S = 30
# In the history's page that is searched for the seed: more than runs start within the retries of a task.
LOOK_BACK = 200
# How a run stands that needs no other in its place.
GOOD = {"queued", "running", "complete", "rejected"}


class Ingester:
    """The ingester's API."""

    def __init__(self) -> None:
        connection = BaseHook.get_connection(CONNECTION)
        scheme = connection.schema or "http"
        self.address = f"{scheme}://{connection.host}:{connection.port or 8081}"
        self.token = connection.password

    def ask(self, method: str, path: str, body: dict | None = None) -> dict:
        request = urllib.request.Request(f"{self.address}{path}", method=method)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            said = error.read(2000).decode(errors="replace")
            # Another run is under way, or the ingester is in trouble: that may pass, and the task is tried again.
            passing = error.code == 409 or error.code >= 500
            kind = AirflowException if passing else AirflowFailException
            raise kind(f"{method} {path}: {error.code} {said}") from None


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
        """Asks for the run of this logical date, unless there is one."""
        context = get_current_context()
        moment = context.get("logical_date") or context["dag_run"].run_after
        seed = f"airflow-{moment.astimezone(timezone.utc):%Y%m%dT%H%M%S.%f}"
        ingester = Ingester()
        history = ingester.ask("GET", "/v1/runs?" + urlencode({"limit": LOOK_BACK}))
        for run in history["runs"]:
            if run["seed"] == seed and run["state"] in GOOD:
                print(f"run {run['id']} of seed {seed} is {run['state']} already")
                return run["id"]
        wanted = {"seed": seed}
        if context["params"]["users"] is not None:
            wanted["users"] = context["params"]["users"]
        run = ingester.ask("POST", "/v1/runs", wanted)
        print(f"run {run['id']} of seed {seed} was started")
        return run["id"]

    @task.sensor(poke_interval=15, timeout=6 * 3600, mode="reschedule")
    def wait(run: str) -> PokeReturnValue:
        """Looks now and then, and takes no worker meanwhile. The counts are the task's result."""
        found = Ingester().ask("GET", f"/v1/runs/{run}")
        state, counts = found["state"], found["counts"]
        if state in ("queued", "running"):
            print(f"{state}: {counts['fetched']} of {counts['requested']} fetched, {counts['accepted']} accepted")
            return PokeReturnValue(is_done=False)
        if state != "complete":
            raise AirflowFailException(f"the run is {state}: {found['reason'] or counts['rejected_reasons']}")
        return PokeReturnValue(is_done=True, xcom_value=counts)

    wait(start())


affluent_users()
