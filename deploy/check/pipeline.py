"""Brings docker-compose.yml up, queries it like a user, injects faults, and takes it down.

podman-compose starts everything at once; Docker's Compose waits for health.

Grafana is left out: its image is not available here. Its dashboards' queries run against the file's Prometheus.
"""

import json
import os
import re
import signal
import urllib.error
import urllib.request
from contextlib import contextmanager

import compose_file
import dashboards
import fake_site
from results import eventually, expect
from workspace import WORK

SERVICES = ["credentials", "kafka", "cassandra", "publisher", "streamer", "random-user", "ingester", "prometheus",
            "alertmanager", "alerts"]  # fmt: skip
# Third-party images.
OTHERS = ["kafka", "cassandra", "prometheus", "alertmanager"]
ADMIN = {"ingester": 9081, "publisher": 9082, "streamer": 9083}
# The share of its memory limit that a service may use while rows flow.
SHARE = 0.5
USER = {
    "id": "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071",
    "first_name": "Zoë",
    "last_name": "Lindqvist",
    "gender": "female",
    "address": "12 Kaivokatu, Turku, Pirkanmaa, Finland",
    "post_code": "0378",
    "email": "zoe@example.org",
    "username": "quietheron12",
    "dob": "1961-08-04T20:05:09.123Z",
    "registered_date": "2019-02-28T00:00:00.000Z",
    "phone": "02-345-678",
    "picture": "https://example.org/med/1.jpg",
}
# An invalid record, and a user without a key.
LINES = "no record\n" + json.dumps({**USER, "id": "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6072"}) + "\n"


def check(results, engine):
    """Runs all checks with one engine."""
    pipeline = Pipeline(results, engine)
    failed = len(results.failed)
    try:
        pipeline.start()
        # Without a running pipeline the other checks are pointless.
        if len(results.failed) > failed:
            return
        for service in ["streamer", "publisher", "ingester", "cassandra"]:
            with pipeline.check(f"{service} is killed and restarts, and rows continue"):
                pipeline.crash(service)
        # After the crashes, because a killed service's counters restart at 0.
        pipeline.check_behavior()
        if engine.name == "podman":
            dashboards.check_queries(results, pipeline.prometheus())
        if engine.name == "docker":
            with pipeline.check("tokens are rotated as documented, and rows continue"):
                pipeline.change_tokens()
            with pipeline.check("live.yml switches the ingester to randomuser.me, and back without it"):
                pipeline.fetch_live()
        with pipeline.check("every record is in the table"):
            output = pipeline.streamer("verify")
            print(f"        {output.splitlines()[-1]}")
    finally:
        with pipeline.check("compose down leaves nothing"):
            engine.compose("down", "--volumes", "--timeout", "40")
            expect(engine.left() == "", engine.left())


class Pipeline:
    """The Compose project, run by one engine."""

    def __init__(self, results, engine):
        self.results = results
        self.engine = engine
        self.publisher_token = self.ingester_token = ""

    def check(self, name):
        return self.results.check(f"{self.engine.name}: {name}")

    def start(self):
        with self.check("compose up without settings"):
            self.up()
        with self.check("tokens are generated and printed as documented"):
            self.publisher_token = self.secret("ingester/publisher-token")
            self.ingester_token = self.secret("operator/ingester-token")
            for secret in [self.publisher_token, self.ingester_token, self.secret("grafana/password")]:
                expect(re.fullmatch("[0-9a-f]{64}", secret), secret)
        with self.check("rows arrive"):
            eventually("rows", lambda: rows() > 0, 240)
        for service, port in ADMIN.items():
            with self.check(f"curl {service}: /healthz, /readyz, /metrics"):
                eventually(f"{service} ready", lambda port=port: get(port, "/readyz")[0] == 200, 120)
                status, body = get(port, "/healthz")
                expect(status == 200 and json.loads(body)["live"], body)
                status, body = get(port, "/metrics")
                expect(status == 200 and f"{service}_build_info" in body, body[:500])
            with self.check(f"health check of the container {service}"):
                eventually("healthy", lambda service=service: self.engine.is_healthy(service), 60)
        how = "after Cassandra is healthy" if self.engine.starts_in_order else "with Cassandra, and waits for it"
        with self.check(f"the streamer starts {how}, and no service restarts"):
            # Kafka may be reported in any case, right after the topic's creation.
            waited = '"dependency not ready","dependency":"cassandra"' in self.engine.logs("streamer")
            expect(waited != self.engine.starts_in_order, self.engine.logs("streamer")[:2000])
            for service in ["streamer", "publisher", "ingester", "credentials", "cassandra", "kafka"]:
                again = self.state(service)["RestartCount"]
                expect(again == 0, f"{service}: {again} restarts")
        with self.check("each container has a memory limit, and each of ours a read-only root"):
            for service in SERVICES:
                given = self.state(service)["HostConfig"]
                expect(given["Memory"] > 0, f"{service} has no memory limit")
                expect(given["ReadonlyRootfs"] or service in OTHERS, f"{service} has a writable root")
        with self.check(f"each service uses less than {SHARE:.0%} of its memory limit while rows flow"):
            for service, port in ADMIN.items():
                held = resident(port)
                print(f"        {service}: {held / 2**20:.1f} MiB")
                limit = self.state(service)["HostConfig"]["Memory"]
                expect(0 < held < SHARE * limit, f"{service} uses {held} bytes of {limit}")

    def up(self, **options):
        self.engine.compose("up", "--detach", "--no-build", *self.engine.waiting, *SERVICES, **options)

    def secret(self, name):
        return self.engine.command("exec", self.engine.container("credentials"), "cat", f"/run/credentials/{name}")

    def check_behavior(self):
        with self.check("only the documented ports are published, on loopback"):
            published = set(re.findall(r"(\S+):(\d+)->", self.engine.command("ps", "--format", "{{.Ports}}")))
            expected = {("127.0.0.1", port) for port in ["8080", "8081", "9081", "9082", "9083", "9090", "9093"]}
            expect(published == expected, published)
        with self.check("the publisher accepts records only with the token"):
            expect(post_users([USER], None)[0] == 401, "no token")
            expect(post_users([USER], "wrong")[0] == 403, "a wrong token")
            status, body = post_users([USER], self.publisher_token)
            expect(status == 200 and json.loads(body)["accepted"] == 1, body)
            status, body = post_users([USER, {**USER, "email": "invalid"}], self.publisher_token)
            expect(status == 207 and json.loads(body)["rejected"] == 1, body)
        with self.check("the ingester's API requires its token"):
            expect(get(8081, "/v1/runs")[0] == 401, "no token")
        with self.check("a run without the API fails, is counted, and the next one completes"):
            self.without_api()
        with self.check("the failed run's alert is in the receiver's log"):
            eventually("the alert", lambda: "firing IngesterRunFailed: " in self.engine.logs("alerts"), 120)
        with self.check("the publisher returns 503 without Kafka, and rows continue with it"):
            self.without_kafka()
        with self.check("an invalid record becomes a dead letter, and one without a key is counted"):
            self.engine.command("exec", "--interactive", self.engine.container("kafka"), "java", "-cp",
                                "/opt/kafka/libs/*", "org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server",
                                "kafka:9092", "--topic", "users_created", text=LINES)  # fmt: skip
            eventually("a dead letter", lambda: count("streamer_dead_letters_total") > 0, 60)
            eventually("a row without a key", lambda: count("streamer_partition_mismatch_total", 'kind="key"') > 0, 60)

    def without_api(self):
        with self.stopped("random-user", 10):
            # 409 while a scheduled run is active.
            eventually("a run begins", lambda: post(8081, "/v1/runs", {"users": 10}, self.ingester_token)[0] == 202, 60)
            eventually("it has failed", lambda: count("ingester_runs_total", 'outcome="failed"') > 0, 180)
        complete = count("ingester_runs_total", 'outcome="complete"')
        eventually("a complete run", lambda: count("ingester_runs_total", 'outcome="complete"') > complete, 120)

    def without_kafka(self):
        with self.stopped("kafka", 20):
            eventually("503", lambda: post_users([USER], self.publisher_token)[0] == 503, 60)
        self.rows_continue()

    @contextmanager
    def stopped(self, service, grace):
        """Stops a service while the context is open."""
        container = self.engine.container(service)
        self.engine.command("stop", "--time", grace, container)
        try:
            yield
        finally:
            self.engine.command("start", container)

    def rows_continue(self):
        for name, port in ADMIN.items():
            eventually(f"{name} ready", lambda port=port: get(port, "/readyz")[0] == 200, 180)
        seen = rows()
        # A run starts every 30 s.
        eventually("more rows", lambda: rows() > seen, 120)

    def crash(self, service):
        """Kills the process like a crash, so that the engine must restart it."""
        before = self.state(service)["State"]["Pid"]
        # 0 would be this process and its group.
        expect(before > 0, f"{service} is not running")
        try:
            if service == "cassandra":
                # During a write.
                os.kill(before, signal.SIGSTOP)
                post_users([USER], self.publisher_token)
                eventually("a write is retried", lambda: count("streamer_retries_total") > 0, 60)
        finally:
            os.kill(before, signal.SIGKILL)

        def is_back():
            state = self.state(service)["State"]
            return state["Running"] and state["Pid"] not in (0, before)

        eventually(f"{service} runs again", is_back, 60)
        self.rows_continue()

    def change_tokens(self):
        """Sets another token and runs compose up. The publisher reloads its file, and the ingester restarts. The
        next compose up without the variable keeps the token."""
        changed = WORK / "changed.env"
        changed.write_text("PUBLISHER_TOKEN=another-token\n")
        publisher = self.state("publisher")["State"]["Pid"]
        self.up(environment=changed)
        eventually("the new token", lambda: post_users([USER], "another-token")[0] == 200, 60)
        expect(post_users([USER], self.publisher_token)[0] == 403, "the old token is still accepted")
        expect(self.state("publisher")["State"]["Pid"] == publisher, "the publisher was restarted")
        self.rows_continue()
        self.up()
        expect(self.secret("ingester/publisher-token") == "another-token", "the token was not kept")
        self.rows_continue()
        expect(post_users([USER], "another-token")[0] == 200, "the kept token is rejected")

    def fetch_live(self):
        """Uses the file unchanged. Only the name's address and the ingester's CA are replaced."""
        [network] = self.state("ingester")["NetworkSettings"]["Networks"].values()
        [api] = self.state("random-user")["NetworkSettings"]["Networks"].values()
        ours = WORK / "fake-site.yml"
        trusted = f"{fake_site.AUTHORITY}:/etc/ssl/certs/ca-certificates.crt:ro"
        there = {"extra_hosts": [f"{fake_site.NAME}:{network['Gateway']}"], "volumes": [trusted]}
        ours.write_text(json.dumps({"services": {"ingester": there}}))
        files = [word for file in [compose_file.FILE, compose_file.LIVE, ours] for word in ["--file", file]]
        seen = rows()
        with fake_site.site(network["Gateway"], f"http://{api['IPAddress']}:8000") as requests:
            self.engine.compose(*files, "up", "--detach", "--no-build", *self.engine.waiting, "ingester")
            eventually("a run", lambda: count("ingester_runs_total", 'outcome="complete"') == 1, 60)
        expect({host for host, _ in requests} == {fake_site.NAME}, requests)
        expect(all(path.startswith("/api/1.4/?") for _, path in requests), requests)
        eventually("its rows", lambda: rows() >= seen + 500, 60)
        self.up()
        self.rows_continue()
        self.engine.command("volume", "rm", "affluent_ingester-live")

    def state(self, service):
        return self.engine.inspect(self.engine.container(service))

    def streamer(self, *words):
        return self.engine.command("exec", self.engine.container("streamer"), "/streamer", "--config",
                                   "/etc/affluent/streamer.toml", *words)  # fmt: skip

    def prometheus(self):
        networks = self.state("prometheus")["NetworkSettings"]["Networks"]
        return f"http://{next(iter(networks.values()))['IPAddress']}:9090"


def resident(port):
    """The process's resident memory, from its metrics."""
    found = re.search(r"^process_resident_memory_bytes (\S+)$", get(port, "/metrics")[1], re.M)
    return float(found[1]) if found else 0.0


def rows():
    return count("streamer_rows_total")


def count(metric, label=""):
    """The sum over the series of `metric` with this label."""
    port = ADMIN[metric.partition("_")[0]]
    lines = re.findall(rf"^{metric}(?:{{.*{label}.*}})? (\S+)$", get(port, "/metrics")[1], re.M)
    return sum(float(value) for value in lines)


def get(port, path):
    return send(urllib.request.Request(f"http://127.0.0.1:{port}{path}"))


def post_users(records, token):
    return post(8080, "/v1/users", records, token)


def post(port, path, content, token):
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    body = json.dumps(content).encode()
    return send(urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers))


def send(request):
    """Status and body; status 0 without a response."""
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (OSError, TimeoutError) as error:
        return 0, str(error)
