"""A Docker daemon of our own, and Docker's own Compose, built from its Go module: what a newcomer has, but for the
official images, in whose place are the stand-ins.

Storage, socket and networks are apart from those of a daemon that may be there already. What it adds to the packet
filter is taken away again.
"""

import json
import os
import subprocess
from contextlib import contextmanager

import engine
import images
import pipeline
from ledger import Failed, eventually, expect
from place import BIN, DEPLOY, WORK, run

FOLDER = WORK / "docker"
# A socket's path has to be short.
SOCKET = f"/tmp/affluent-docker-{os.getpid()}.sock"
ENVIRONMENT = {"DOCKER_HOST": f"unix://{SOCKET}", "DOCKER_BUILDKIT": "0"}
COMPOSE = BIN / "docker-compose"
VERSION = "v2.40.3"


def check(ledger, binaries):
    with ledger.check("Docker's Compose is built"):
        build_compose()
    with daemon() as docker:
        with ledger.check("docker compose knows the two profiles"):
            profiles(docker)
        for image in engine.OTHERS:
            with ledger.check(f"docker load {image}"):
                take(docker, image)
        with ledger.check("docker build"):
            take(docker, engine.DEBIAN)
            build(docker, binaries)
        pipeline.check(ledger, docker)


def profiles(docker):
    """Each has one ingester; `live` brings no API along."""
    found = {}
    for profile in ["offline", "live"]:
        found[profile] = set(docker.compose("--profile", profile, "config", "--services").split())
    expect(found["offline"] - found["live"] == {"ingester", "random-user"}, found)
    expect(found["live"] - found["offline"] == {"ingester-live"}, found)


def build(docker, binaries):
    """From binaries that were built before: compiling in a container is the other engine's part."""
    dockerfile, context = images.without_compiling(binaries)
    for target in images.TARGETS:
        docker.command("build", "--network", "host", "--file", dockerfile, "--target", target, "--tag",
                       f"affluent/{target}:{images.TAG}", *images.arguments(), context, deadline=900)  # fmt: skip


class Docker:
    """The words by which the check of the compose file speaks to it."""

    name = "docker"

    def command(self, *words, deadline=120, accept=(0,), text=None):
        return run("docker", *words, env=ENVIRONMENT, deadline=deadline, accept=accept, text=text).strip()

    def compose(self, *words, deadline=420, environment=".env.example"):
        return run(COMPOSE, "--env-file", environment, *words, env=ENVIRONMENT, deadline=deadline)

    def inspect(self, container):
        return json.loads(self.command("inspect", container))[0]

    def container(self, service):
        return f"affluent-{service}-1"

    starts_in_order = True

    def logs(self, service):
        return run("docker", "logs", self.container(service), env=ENVIRONMENT)

    def is_healthy(self, service):
        """By its own timer, which runs the health check of the file."""
        return self.inspect(self.container(service))["State"]["Health"]["Status"] == "healthy"

    def left(self):
        label = "label=com.docker.compose.project=affluent"
        return "".join(self.command(*kind, "--quiet", "--filter", label)
                       for kind in [("ps", "--all"), ("volume", "ls"), ("network", "ls")])  # fmt: skip


@contextmanager
def daemon():
    """Runs it for as long as the context."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    rules = run("iptables-save")
    log = (FOLDER / "log").open("w")
    child = subprocess.Popen(
        ["dockerd", "--data-root", FOLDER / "data", "--exec-root", FOLDER / "run", "--pidfile", FOLDER / "pid",
         "--host", f"unix://{SOCKET}", "--bridge", "none", "--config-file", write_nothing()],
        stdout=log, stderr=subprocess.STDOUT)  # fmt: skip
    try:
        eventually("the daemon answers", lambda: is_up(child), 60)
        yield Docker()
    finally:
        child.terminate()
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        run("iptables-restore", text=rules)
        for left in (FOLDER / "run" / "netns").glob("*"):
            run("umount", left)


def write_nothing():
    """A configuration in place of the machine's."""
    path = FOLDER / "daemon.json"
    path.write_text("{}\n")
    return path


def is_up(child):
    expect(child.poll() is None, f"dockerd has ended; see {FOLDER / 'log'}")
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
        cwd=sources, deadline=1800)  # fmt: skip


def take(docker, image):
    """Brings an image over from where buildah has made it, under the same name."""
    archive = WORK / "image.tar"
    engine.podman("save", "--output", archive, image, deadline=300)
    said = docker.command("load", "--input", archive, deadline=300)
    archive.unlink()
    loaded = said.rpartition("Loaded image: ")[2].strip()
    if loaded.startswith("localhost/"):
        docker.command("tag", loaded, loaded.removeprefix("localhost/"))
