"""Checks the manifests: rendered, validated against two versions' schemas and the policies, sent to a real API server.

The API server and etcd are built from their Go modules. There is no kubelet: nothing runs.
"""

import json
import secrets
import socket
import subprocess
from contextlib import ExitStack

import documented_commands
import helm_chart
import manifest_checks
import release
from results import Failed, eventually, expect
from workspace import BIN, DEPLOY, WORK, run

MANIFESTS = DEPLOY / "kubernetes"
OURS = DEPLOY / "check" / "kubernetes"
# The oldest is the minimum that docs/operations.md names; it introduced preStop.sleep.
VERSIONS = ["1.30", "1.34"]
# Custom resource definitions, from the modules that define them.
EXTENSIONS = {
    "github.com/kedacore/keda/v2@v2.16.1": [
        "config/crd/bases/keda.sh_scaledobjects.yaml",
        "config/crd/bases/keda.sh_triggerauthentications.yaml",
    ],
    "github.com/prometheus-operator/prometheus-operator@v0.79.2": [
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ],
}
# 11: a CPU limit throttles where a share suffices. 15, 43: the release pins digests. 22, 40: the images of Kafka
# and Cassandra, in dev only.
SKIPPED = "CKV_K8S_11,CKV_K8S_15,CKV_K8S_43"
SKIPPED_IN_DEV = SKIPPED + ",CKV_K8S_22,CKV_K8S_40"


def check(results):
    rendered = {}
    for overlay in ["dev", "prod", "prod-operators", "cronjob"]:
        with results.check(f"kubectl kustomize {overlay}"):
            rendered[overlay] = render(overlay)
    with results.check("the operations guide names the oldest tested Kubernetes"):
        guide = (DEPLOY.parent / "docs" / "operations.md").read_text()
        expect(f"Kubernetes {VERSIONS[0]} or newer" in guide, VERSIONS[0])
    for overlay, path in rendered.items():
        for version in VERSIONS:
            with results.check(f"{overlay} is valid for Kubernetes {version}"):
                run("kubernetes-validate", "--strict", "--kubernetes-version", version, path)
        with results.check(f"{overlay} passes the policies of checkov"):
            skipped = SKIPPED if overlay.startswith("prod") else SKIPPED_IN_DEV
            run("checkov", "--file", path, "--framework", "kubernetes", "--compact", "--quiet",
                "--skip-check", skipped, timeout=300)  # fmt: skip
        manifest_checks.check(results, overlay, path)
    release.check(results)
    helm_chart.check(results)
    with results.check("the documented pod for a replay is valid"):
        rendered["the documented pod"] = documented_commands.pod(rendered["dev"])
        run("kubernetes-validate", "--strict", "--kubernetes-version", VERSIONS[0], rendered["the documented pod"])
    with ExitStack() as stack:
        server = None
        with results.check("a real API server starts"):
            server = stack.enter_context(ApiServer())
        if server is None:
            return
        for overlay, path in rendered.items():
            with results.check(f"the API server admits {overlay}"):
                server.admit(path)
        for path in sorted((OURS / "broken").glob("*.yaml")):
            with results.check(f"the API server rejects {path.name}"):
                server.reject(path)


def render(overlay):
    """Renders an overlay into one file. `cronjob` is the base with that component."""
    folder = MANIFESTS / "overlays" / overlay
    if overlay == "cronjob":
        folder = OURS / "cronjob"
    path = WORK / f"{overlay}.yaml"
    path.write_text(run("kubectl", "kustomize", folder))
    return path


class ApiServer:
    """etcd and kube-apiserver on loopback with the custom resources and the namespace, while the context is open."""

    def __init__(self):
        self.folder = WORK / "cluster"
        self.children = []
        self.token = secrets.token_hex(16)

    def __enter__(self):
        build("etcd")
        build("apiserver", "-X k8s.io/component-base/version.gitVersion=v1.32.0")
        run("rm", "-rf", self.folder)
        self.folder.mkdir(parents=True)
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for child in reversed(self.children):
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def start(self):
        client, peer, secure = free_ports(3)
        self.spawn(
            "etcd",
            f"--data-dir={self.folder}/etcd",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
        )
        key = self.folder / "service-account.pem"
        run("openssl", "genrsa", "-out", key, "2048")
        tokens = self.folder / "tokens.csv"
        tokens.write_text(f"{self.token},check,check,system:masters\n")
        self.spawn(
            "apiserver",
            f"--etcd-servers=http://127.0.0.1:{client}",
            "--bind-address=127.0.0.1",
            f"--secure-port={secure}",
            f"--cert-dir={self.folder}/certificates",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
        )
        self.url = f"https://127.0.0.1:{secure}"
        eventually("the API server is ready", self.is_ready, 60)
        for module, paths in EXTENSIONS.items():
            folder = json.loads(run("go", "mod", "download", "-json", module, cwd=WORK, timeout=300))["Dir"]
            for path in paths:
                self.kubectl("create", "--filename", f"{folder}/{path}")
        eventually("the custom resources are served", self.knows_extensions, 30)
        self.kubectl("create", "--save-config", "--filename", MANIFESTS / "overlays/dev/namespace.yaml")
        # Admission requires this account; there is no controller that would create it.
        self.kubectl("create", "serviceaccount", "default", "--namespace", "affluent")
        # Account of the documented pod.
        self.kubectl("create", "serviceaccount", "streamer", "--namespace", "affluent", "--save-config")

    def spawn(self, name, *arguments):
        log = (self.folder / f"{name}.log").open("w")
        self.children.append(subprocess.Popen([BIN / name, *arguments], stdout=log, stderr=subprocess.STDOUT))

    def is_ready(self):
        for child in self.children:
            expect(child.poll() is None, f"{child.args[0]} ended; see {self.folder}")
        try:
            return self.kubectl("get", "--raw", "/readyz") == "ok"
        except Failed:
            return False

    def knows_extensions(self):
        kinds = self.kubectl("api-resources", "--no-headers", accept=(0, 1))
        return all(kind in kinds for kind in ["ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule"])

    def kubectl(self, *arguments, accept=(0,)):
        return run("kubectl", f"--server={self.url}", "--insecure-skip-tls-verify", f"--token={self.token}",
                   "--kubeconfig=/dev/null", *arguments, timeout=60, accept=accept)  # fmt: skip

    def apply(self, path, accept):
        return self.kubectl("apply", "--dry-run=server", "--validate=strict", "--namespace=affluent",
                            "--filename", path, accept=accept)  # fmt: skip

    def admit(self, path):
        output = self.apply(path, (0,))
        admitted = output.count("(server dry run)")
        kinds = path.read_text().count("\nkind: ") + path.read_text().startswith("kind: ")
        expect(admitted == kinds, f"{admitted} of {kinds} objects admitted:\n{output}")
        expect("Warning" not in output, f"admitted with a warning:\n{output}")

    def reject(self, path):
        output = self.apply(path, (0, 1))
        expect("(server dry run)" not in output, f"admitted:\n{output}")
        reasons = {"port": "must be between 1 and 65535", "root": "violates PodSecurity",
                   "probe": "unknown field"}  # fmt: skip
        expect(reasons[path.stem] in output, f"rejected for another reason:\n{output}")


def build(name, flags=""):
    """Builds a program unless it is newer than its sources: a build takes minutes."""
    built = BIN / name
    if built.exists() and all(source.stat().st_mtime < built.stat().st_mtime for source in (OURS / name).iterdir()):
        return
    run("go", "build", "-ldflags", f"-s -w {flags}", "-o", BIN / name, ".",
        cwd=OURS / name, timeout=1800)  # fmt: skip


def free_ports(count):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
