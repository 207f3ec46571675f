"""docker-compose.yml brought up for real, asked as a user would, hurt, and taken down: by podman-compose, which starts
everything at once, and by Docker's own Compose, which waits for health.

Grafana is left out: no registry has its image here. Its dashboards' queries are run against the Prometheus of the file.
"""

import json
import os
import re
import signal
import urllib.error
import urllib.request
from contextlib import contextmanager

import abroad
import composition
import dashboards
from ledger import eventually, expect
from place import WORK

SERVICES = ["credentials", "kafka", "cassandra", "publisher", "streamer", "random-user", "ingester", "prometheus"]
# Images of other people.
OTHERS = ["kafka", "cassandra", "prometheus"]
ADMIN = {"ingester": 9081, "publisher": 9082, "streamer": 9083}
# Of a service's limit of memory, what it may hold while rows flow.
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
# Garbage, and a user under no key.
LINES = "no record\n" + json.dumps({**USER, "id": "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6072"}) + "\n"


def check(ledger, engine):
    """Everything, by one engine."""
    pipeline = Pipeline(ledger, engine)
    failed = len(ledger.failed)
    try:
        pipeline.stand_up()
        # Nobody can be hurt who does not stand.
        if len(ledger.failed) > failed:
            return
        for service in ["streamer", "publisher", "ingester", "cassandra"]:
            with pipeline.check(f"{service} is killed and comes back, and rows go on"):
                pipeline.hurt(service)
        # Afterwards, for a service that was killed counts from 0.
        pipeline.ask()
        if engine.name == "podman":
            dashboards.check_queries(ledger, pipeline.prometheus())
        if engine.name == "docker":
            with pipeline.check("tokens are changed as the manual says, and rows go on"):
                pipeline.change_tokens()
            with pipeline.check("with live.yml the ingester asks randomuser.me, and without it the bundled API again"):
                pipeline.ask_abroad()
        with pipeline.check("every record is in the table"):
            said = pipeline.streamer("verify")
            print(f"        {said.splitlines()[-1]}")
    finally:
        with pipeline.check("compose down leaves nothing"):
            engine.compose("down", "--volumes", "--timeout", "40")
            expect(engine.left() == "", engine.left())


class Pipeline:
    """The project of the compose file, as one engine runs it."""

    def __init__(self, ledger, engine):
        self.ledger = ledger
        self.engine = engine
        self.publisher_token = self.ingester_token = ""

    def check(self, name):
        return self.ledger.check(f"{self.engine.name}: {name}")

    def stand_up(self):
        with self.check("compose up, with nothing set"):
            self.up()
        with self.check("tokens were made up, and are shown as the manual says"):
            self.publisher_token = self.secret("ingester/publisher-token")
            self.ingester_token = self.secret("operator/ingester-token")
            for secret in [self.publisher_token, self.ingester_token, self.secret("grafana/password")]:
                expect(re.fullmatch("[0-9a-f]{64}", secret), secret)
        with self.check("rows come by themselves"):
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
        how = "once Cassandra is healthy" if self.engine.starts_in_order else "beside Cassandra, and waits for it"
        with self.check(f"the streamer was started {how}, and nobody was started twice"):
            # Of Kafka it may say so even then, for the moment after it has made its topic.
            waited = '"dependency not ready","dependency":"cassandra"' in self.engine.logs("streamer")
            expect(waited != self.engine.starts_in_order, self.engine.logs("streamer")[:2000])
            for service in ["streamer", "publisher", "ingester", "credentials", "cassandra", "kafka"]:
                again = self.state(service)["RestartCount"]
                expect(again == 0, f"{service}: {again} times")
        with self.check("each container has a limit of memory, and each of ours a root that it can't write to"):
            for service in SERVICES:
                given = self.state(service)["HostConfig"]
                expect(given["Memory"] > 0, f"{service} has none")
                expect(given["ReadonlyRootfs"] or service in OTHERS, f"{service} may write")
        with self.check(f"each service holds less than {SHARE:.0%} of its memory while rows flow"):
            for service, port in ADMIN.items():
                held = resident(port)
                print(f"        {service}: {held / 2**20:.1f} MiB")
                limit = self.state(service)["HostConfig"]["Memory"]
                expect(0 < held < SHARE * limit, f"{service} holds {held} bytes of {limit}")

    def up(self, **options):
        self.engine.compose("up", "--detach", "--no-build", *self.engine.waiting, *SERVICES, **options)

    def secret(self, name):
        return self.engine.command("exec", self.engine.container("credentials"), "cat", f"/run/credentials/{name}")

    def ask(self):
        with self.check("only the services' ports are published, on loopback"):
            published = set(re.findall(r"(\S+):(\d+)->", self.engine.command("ps", "--format", "{{.Ports}}")))
            expected = {("127.0.0.1", port) for port in ["8080", "8081", "9081", "9082", "9083"]}
            expect(published == expected, published)
        with self.check("the publisher takes a record from who has the token, and from nobody else"):
            expect(post_users([USER], None)[0] == 401, "no token")
            expect(post_users([USER], "wrong")[0] == 403, "a wrong token")
            status, body = post_users([USER], self.publisher_token)
            expect(status == 200 and json.loads(body)["accepted"] == 1, body)
            status, body = post_users([USER, {**USER, "email": "nobody"}], self.publisher_token)
            expect(status == 207 and json.loads(body)["rejected"] == 1, body)
        with self.check("the ingester's API asks for its token"):
            expect(get(8081, "/v1/runs")[0] == 401, "no token")
        with self.check("a run without its API fails, is counted, and the next is complete"):
            self.without_api()
        with self.check("without Kafka the publisher says 503, and with it rows go on"):
            self.without_kafka()
        with self.check("what can't be read becomes a dead letter, and what has no key is counted"):
            self.engine.command("exec", "--interactive", self.engine.container("kafka"), "java", "-cp",
                                "/opt/kafka/libs/*", "org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server",
                                "kafka:9092", "--topic", "users_created", text=LINES)  # fmt: skip
            eventually("a dead letter", lambda: count("streamer_dead_letters_total") > 0, 60)
            eventually("a row without a key", lambda: count("streamer_partition_mismatch_total", 'kind="key"') > 0, 60)

    def without_api(self):
        with self.stopped("random-user", 10):
            # 409 while a run of the schedule is under way.
            eventually("a run begins", lambda: post(8081, "/v1/runs", {"users": 10}, self.ingester_token)[0] == 202, 60)
            eventually("it has failed", lambda: count("ingester_runs_total", 'outcome="failed"') > 0, 180)
        complete = count("ingester_runs_total", 'outcome="complete"')
        eventually("a complete run", lambda: count("ingester_runs_total", 'outcome="complete"') > complete, 120)

    def without_kafka(self):
        with self.stopped("kafka", 20):
            eventually("503", lambda: post_users([USER], self.publisher_token)[0] == 503, 60)
        self.goes_on()

    @contextmanager
    def stopped(self, service, grace):
        """Without it for as long as the context, whatever comes of that."""
        container = self.engine.container(service)
        self.engine.command("stop", "--time", grace, container)
        try:
            yield
        finally:
            self.engine.command("start", container)

    def goes_on(self):
        for name, port in ADMIN.items():
            eventually(f"{name} ready", lambda port=port: get(port, "/readyz")[0] == 200, 180)
        seen = rows()
        # A run starts each half minute.
        eventually("more rows", lambda: rows() > seen, 120)

    def hurt(self, service):
        """Kills the process as a crash would, so that bringing it back is the engine's business."""
        before = self.state(service)["State"]["Pid"]
        # 0 would be this very program, and all of its group.
        expect(before > 0, f"{service} does not run")
        try:
            if service == "cassandra":
                # With a write under way.
                os.kill(before, signal.SIGSTOP)
                post_users([USER], self.publisher_token)
                eventually("a write is tried again", lambda: count("streamer_retries_total") > 0, 60)
        finally:
            os.kill(before, signal.SIGKILL)

        def is_back():
            state = self.state(service)["State"]
            return state["Running"] and state["Pid"] not in (0, before)

        eventually(f"{service} runs again", is_back, 60)
        self.goes_on()

    def change_tokens(self):
        """Another one from outside, and compose up: the publisher reads its file again by itself, the ingester is
        started again. Without it, the next compose up keeps it."""
        changed = WORK / "changed.env"
        changed.write_text("PUBLISHER_TOKEN=another-token\n")
        publisher = self.state("publisher")["State"]["Pid"]
        self.up(environment=changed)
        eventually("the new token", lambda: post_users([USER], "another-token")[0] == 200, 60)
        expect(post_users([USER], self.publisher_token)[0] == 403, "the former token is still good")
        expect(self.state("publisher")["State"]["Pid"] == publisher, "the publisher was started again")
        self.goes_on()
        self.up()
        expect(self.secret("ingester/publisher-token") == "another-token", "it was not kept")
        self.goes_on()
        expect(post_users([USER], "another-token")[0] == 200, "the token that was kept is refused")

    def ask_abroad(self):
        """The file as it is; what is ours is where the name leads in this network, and whom the ingester trusts."""
        [network] = self.state("ingester")["NetworkSettings"]["Networks"].values()
        [api] = self.state("random-user")["NetworkSettings"]["Networks"].values()
        ours = WORK / "abroad.yml"
        trusted = f"{abroad.AUTHORITY}:/etc/ssl/certs/ca-certificates.crt:ro"
        there = {"extra_hosts": [f"{abroad.NAME}:{network['Gateway']}"], "volumes": [trusted]}
        ours.write_text(json.dumps({"services": {"ingester": there}}))
        files = [word for file in [composition.FILE, composition.LIVE, ours] for word in ["--file", file]]
        seen = rows()
        with abroad.site(network["Gateway"], f"http://{api['IPAddress']}:8000") as asked:
            self.engine.compose(*files, "up", "--detach", "--no-build", *self.engine.waiting, "ingester")
            eventually("a run", lambda: count("ingester_runs_total", 'outcome="complete"') == 1, 60)
        expect({host for host, _ in asked} == {abroad.NAME}, asked)
        expect(all(path.startswith("/api/1.4/?") for _, path in asked), asked)
        eventually("its rows", lambda: rows() >= seen + 500, 60)
        self.up()
        self.goes_on()
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
    """By the process's own word, which the kernel gives it."""
    found = re.search(r"^process_resident_memory_bytes (\S+)$", get(port, "/metrics")[1], re.M)
    return float(found[1]) if found else 0.0


def rows():
    return count("streamer_rows_total")


def count(metric, label=""):
    """The sum over the series of `metric` that have this label."""
    port = ADMIN[metric.partition("_")[0]]
    lines = re.findall(rf"^{metric}(?:{{.*{label}.*}})? (\S+)$", get(port, "/metrics")[1], re.M)
    return sum(float(value) for value in lines)


def get(port, path):
    return ask_for(urllib.request.Request(f"http://127.0.0.1:{port}{path}"))


def post_users(records, token):
    return post(8080, "/v1/users", records, token)


def post(port, path, content, token):
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    body = json.dumps(content).encode()
    return ask_for(urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers))


def ask_for(request):
    """Status and body; status 0 when nobody answers."""
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (OSError, TimeoutError) as error:
        return 0, str(error)
