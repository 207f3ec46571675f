"""Containers without a daemon and a registry: buildah and podman with their own storage under target/, base images from
debootstrap, and substitutes for third-party images under the original names.

The user's images and containers are not touched.
"""

import hashlib
import json
import shutil
from pathlib import Path

from results import Failed
from workspace import DEPLOY, ROOT, WORK, run

STORAGE = WORK / "containers"
STAND_INS = DEPLOY / "check" / "images"
# The jars of Kafka and Cassandra.
SERVERS = ROOT / "crates/testkit/servers/pom.xml"
LABEL = "affluent.made-of"
DEBIAN = "docker.io/library/debian:12.12-slim"
RUST = "docker.io/library/rust:1.95.0-slim-bookworm"
# Third-party images of the Compose file, and the folders of their substitutes.
OTHERS = {
    "docker.io/apache/kafka:4.3.1": "kafka",
    "docker.io/library/cassandra:5.0.9": "cassandra",
    "docker.io/prom/prometheus:v3.5.0": "prometheus",
    "docker.io/prom/alertmanager:v0.28.1": "alertmanager",
}
ENVIRONMENT = {
    "CONTAINERS_CONF": str(STORAGE / "containers.conf"),
    "CONTAINERS_STORAGE_CONF": str(STORAGE / "storage.conf"),
}


def prepare():
    for folder in ["root", "run", "networks"]:
        (STORAGE / folder).mkdir(parents=True, exist_ok=True)
    (STORAGE / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{STORAGE}/root"\nrunroot = "{STORAGE}/run"\n'
    )
    (STORAGE / "containers.conf").write_text(
        '[containers]\ndefault_ulimits = ["nofile=16384:16384", "nproc=4096:4096"]\n'
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        f'[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "{STORAGE}/networks"\n'
    )


def leave():
    """Unmounts what podman and buildah leave mounted."""
    if (STORAGE / "root" / "overlay").is_mount():
        run("umount", STORAGE / "root" / "overlay", accept=(0, 32))


def podman(*words, timeout=120, accept=(0,), text=None):
    """Returns standard output only: podman writes warnings about this machine to standard error."""
    output = run("sh", "-c", 'exec 2>>"$0"; exec "$@"', STORAGE / "podman.log", "podman", *words,
                 env=ENVIRONMENT, timeout=timeout, accept=accept, text=text)  # fmt: skip
    return output.strip()


class Podman:
    """podman and podman-compose, for the check of the Compose file."""

    name = "podman"

    def command(self, *words, timeout=120, accept=(0,), text=None):
        return podman(*words, timeout=timeout, accept=accept, text=text)

    def compose(self, *words, timeout=420):
        """Runs podman-compose without an environment file."""
        return run("podman-compose", "--env-file", "/dev/null", *words, env=ENVIRONMENT, timeout=timeout)

    def inspect(self, container):
        return inspect("container", container)

    def container(self, service):
        return f"affluent_{service}_1"

    waiting = []

    @property
    def starts_in_order(self):
        """Before 4.6 `condition: service_healthy` is ignored."""
        major, minor = podman("version", "--format", "{{.Client.Version}}").split(".")[:2]
        return (int(major), int(minor)) >= (4, 6)

    def logs(self, service):
        return run("podman", "logs", self.container(service), env=ENVIRONMENT)

    def is_healthy(self, service):
        """Runs the health check directly: podman's timers need systemd."""
        podman("healthcheck", "run", self.container(service))
        return True

    def left(self):
        label = "label=io.podman.compose.project=affluent"
        return "".join(podman(*kind, "--quiet", "--filter", label)
                       for kind in [("ps", "--all"), ("volume", "ls"), ("network", "ls")])  # fmt: skip


def build(folder, tag, *options, timeout=3600):
    return run("buildah", "bud", "--isolation", "chroot", "--format", "docker", "--tag", tag, *options, folder,
               env=ENVIRONMENT, timeout=timeout)  # fmt: skip


def inspect(kind, name):
    return json.loads(podman(kind, "inspect", name))[0]


def exists(image):
    try:
        podman("image", "exists", image)
    except Failed:
        return False
    return True


def base_images(with_rust):
    if not exists(DEBIAN):
        folder = WORK / "bookworm"
        if not folder.exists():
            run("debootstrap", "--variant=minbase", "bookworm", f"{folder}.new", timeout=900)
            Path(f"{folder}.new").rename(folder)
        commit("scratch", folder, DEBIAN)
    if with_rust and not exists(RUST):
        folder = WORK / "rust"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "usr/local").mkdir(parents=True)
        sysroot = run("rustc", "--print", "sysroot").strip()
        run("cp", "--archive", f"{sysroot}/bin", f"{sysroot}/lib", folder / "usr/local")
        # This machine's CA certificates: crates may come through a proxy.
        (folder / "etc/ssl/certs").mkdir(parents=True)
        run("cp", "/etc/ssl/certs/ca-certificates.crt", folder / "etc/ssl/certs")
        commit(DEBIAN, folder, RUST)
        shutil.rmtree(folder)


def commit(base, folder, name):
    container = run("sh", "-c", f"buildah from {base} 2>/dev/null", env=ENVIRONMENT).strip()
    path = "/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    run("buildah", "add", "--quiet", container, folder, "/", env=ENVIRONMENT, timeout=600)
    run("buildah", "config", "--env", f"PATH={path}", "--env", "CARGO_HOME=/usr/local/cargo", "--cmd", "bash",
        container, env=ENVIRONMENT)  # fmt: skip
    run("buildah", "commit", "--quiet", "--rm", container, name, env=ENVIRONMENT, timeout=600)


def stand_in(image):
    """Builds the substitute unless it exists with the same content."""
    name = OTHERS[image]
    made_of = digest(name)
    if exists(image) and (inspect("image", image)["Labels"] or {}).get(LABEL) == made_of:
        return
    context = WORK / "context" / name
    shutil.rmtree(context, ignore_errors=True)
    shutil.copytree(STAND_INS / name, context)
    if name in ("kafka", "cassandra"):
        # The same list as the testkit.
        jars = WORK / "jars" / made_of
        if not jars.exists():
            run("mvn", "--quiet", "--batch-mode", "--activate-profiles", name, "--file", SERVERS,
                "dependency:copy-dependencies", f"-DoutputDirectory={jars}.new", timeout=900)  # fmt: skip
            Path(f"{jars}.new").rename(jars)
        shutil.copytree(jars, context / "jars", ignore=lambda _, names: [n for n in names if not n.endswith(".jar")])
    build(context, image, "--build-arg", f"DEBIAN_IMAGE={DEBIAN}", "--label", f"{LABEL}={made_of}")
    shutil.rmtree(context)


def digest(name):
    """Digest of a substitute's inputs, except Debian's packages."""
    found = hashlib.sha256(DEBIAN.encode())
    for path in [*sorted((STAND_INS / name).iterdir()), SERVERS]:
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()
