"""A private Docker daemon, and Docker's Compose built from its Go module, with substitutes for the official images.

Storage, socket, containerd and networks are private. The packet filter is the machine's, and two daemons would modify
each other's chains. So it does not run next to another daemon, and it removes the rules that it adds.
"""

import json
import os
import re
import shlex
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path

import engine
import images
import pipeline
from results import Failed, eventually, expect
from workspace import BIN, DEPLOY, WORK, run

FOLDER = WORK / "docker"
# Paths of sockets must be short.
SOCKET = f"/tmp/affluent-docker-{os.getpid()}.sock"
CONTAINERD = f"/tmp/affluent-containerd-{os.getpid()}.sock"
ENVIRONMENT = {"DOCKER_HOST": f"unix://{SOCKET}", "DOCKER_BUILDKIT": "0"}
COMPOSE = BIN / "docker-compose"
VERSION = "v2.40.3"


def check(results):
    no_other_daemon()
    with results.check("Docker's Compose is built"):
        build_compose()
    with daemon() as docker:
        for image in engine.OTHERS:
            with results.check(f"docker load {image}"):
                take(docker, image)
        with results.check("docker build"):
            take(docker, engine.DEBIAN)
            build(docker, images.binaries_of(WORK / "binaries"))
        pipeline.check(results, docker)


def no_other_daemon():
    for path in ["/run/docker.pid", "/var/run/docker.pid"]:
        text = Path(path).read_text().strip() if Path(path).exists() else ""
        alive = text.isdigit() and Path(f"/proc/{text}").exists()
        expect(not alive, f"dockerd {text} is running ({path}); stop it first, and its socket's unit")


def build(docker, binaries):
    """Builds from existing binaries; podman covers compiling in a container."""
    dockerfile, context = images.without_compiling(binaries)
    for target in images.TARGETS:
        docker.command("build", "--network", "host", "--file", dockerfile, "--target", target, "--tag",
                       f"affluent/{target}:{images.TAG}", *images.arguments(), context, timeout=900)  # fmt: skip


class Docker:
    """Docker and Docker Compose, for the check of the Compose file."""

    name = "docker"

    def command(self, *words, timeout=120, accept=(0,), text=None):
        return run("docker", *words, env=ENVIRONMENT, timeout=timeout, accept=accept, text=text).strip()

    def compose(self, *words, timeout=420, environment="/dev/null"):
        """Runs Compose without an environment file unless one is given."""
        return run(COMPOSE, "--env-file", environment, *words, env=ENVIRONMENT, timeout=timeout)

    def inspect(self, container):
        return json.loads(self.command("inspect", container))[0]

    def container(self, service):
        return f"affluent-{service}-1"

    starts_in_order = True
    # `compose up` returns when every service is healthy.
    waiting = ["--wait", "--wait-timeout", "400"]

    def logs(self, service):
        return run("docker", "logs", self.container(service), env=ENVIRONMENT)

    def is_healthy(self, service):
        """The state of Docker's own health check timer."""
        return self.inspect(self.container(service))["State"]["Health"]["Status"] == "healthy"

    def left(self):
        label = "label=com.docker.compose.project=affluent"
        return "".join(self.command(*kind, "--quiet", "--filter", label)
                       for kind in [("ps", "--all"), ("volume", "ls"), ("network", "ls")])  # fmt: skip


@contextmanager
def daemon():
    """Runs dockerd and containerd while the context is open."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "containerd.toml").write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    with ExitStack() as stack:
        stack.callback(unmount)
        containerd = stack.enter_context(program(
            "containerd", "--config", FOLDER / "containerd.toml", "--address", CONTAINERD,
            "--root", FOLDER / "containerd", "--state", FOLDER / "containerd-run"))  # fmt: skip
        eventually("containerd listens", lambda: is_there(containerd), 30)
        stack.enter_context(packet_filter())
        child = stack.enter_context(program(
            "dockerd", "--data-root", FOLDER / "data", "--exec-root", FOLDER / "run", "--pidfile", FOLDER / "pid",
            "--containerd", CONTAINERD, "--host", f"unix://{SOCKET}", "--bridge", "none",
            "--config-file", empty_config()))  # fmt: skip
        eventually("the daemon responds", lambda: is_up(child), 60)
        yield Docker()


@contextmanager
def program(name, *words):
    with (FOLDER / f"{name}.log").open("w") as log:
        child = subprocess.Popen([name, *map(str, words)], stdout=log, stderr=subprocess.STDOUT)
        try:
            yield child
        finally:
            child.terminate()
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def is_there(child):
    expect(child.poll() is None, f"{child.args[0]} ended; see {FOLDER}")
    return Path(CONTAINERD).is_socket()


def unmount():
    for left in (FOLDER / "run" / "netns").glob("*"):
        run("umount", left, accept=(0, 1, 32))
    for socket in [SOCKET, CONTAINERD, f"{CONTAINERD}.ttrpc"]:
        Path(socket).unlink(missing_ok=True)


@contextmanager
def packet_filter():
    """Removes Docker's rules that were added in the context, and keeps others."""
    families = ["iptables", "ip6tables"]
    before = {family: run(f"{family}-save", accept=(0, 1, 3)) for family in families}
    try:
        yield
    finally:
        for family in families:
            for words in undone(before[family], run(f"{family}-save", accept=(0, 1, 3))):
                run(family, "--wait", *words, accept=(0, 1, 2))


def undone(before, after):
    """The iptables arguments that undo what Docker added between two outputs of iptables-save."""
    rules, emptied, removed, policies = [], [], [], []
    known = set(lines_of(before))
    for table, line in lines_of(after):
        if (table, line) in known:
            continue
        if line.startswith("-A ") and re.search(r"\bDOCKER|\s(docker0|br-[0-9a-f]{12})\b", line):
            rules.append(["-t", table, "-D", *shlex.split(line)[1:]])
        elif line.startswith(":DOCKER"):
            name = line[1:].split()[0]
            emptied.append(["-t", table, "-F", name])
            removed.append(["-t", table, "-X", name])
        elif line.startswith(":FORWARD "):
            was = [old.split()[1] for its, old in known if its == table and old.startswith(":FORWARD ")]
            policies.append(["-t", table, "-P", "FORWARD", *(was or ["ACCEPT"])])
    return [*rules, *emptied, *removed, *policies]


def lines_of(saved):
    """Yields each chain and rule with its table, without counters."""
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            yield table, line.partition(" [")[0]
        elif line.startswith("-A"):
            yield table, line


def empty_config():
    """An empty configuration instead of the machine's."""
    path = FOLDER / "daemon.json"
    path.write_text("{}\n")
    return path


def is_up(child):
    expect(child.poll() is None, f"dockerd ended; see {FOLDER}")
    try:
        return Docker().command("version", "--format", "{{.Server.Version}}")
    except Failed:
        return False


def build_compose():
    sources = DEPLOY / "check" / "docker" / "compose"
    if COMPOSE.exists() and all(it.stat().st_mtime < COMPOSE.stat().st_mtime for it in sources.iterdir()):
        return
    flags = f"-s -w -X github.com/docker/compose/v2/internal.Version={VERSION}"
    run("go", "build", "-ldflags", flags, "-o", COMPOSE, "github.com/docker/compose/v2/cmd",
        cwd=sources, timeout=1800)  # fmt: skip


def take(docker, image):
    """Imports an image from podman's storage under the same name."""
    archive = WORK / "image.tar"
    engine.podman("save", "--output", archive, image, timeout=300)
    output = docker.command("load", "--input", archive, timeout=300)
    archive.unlink()
    loaded = output.rpartition("Loaded image: ")[2].strip()
    if loaded.startswith("localhost/"):
        docker.command("tag", loaded, loaded.removeprefix("localhost/"))
