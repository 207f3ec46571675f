"""The streamer's pod, as overlay dev has it, run by podman: as far as it goes without a cluster.

podman knows no StatefulSets, so a pod is made of the template. Pods with a secret are left out: podman 4.3 ran neither
the publisher nor the ingester with one. There is no Kafka beside it: it lives, and is not ready.
"""

import cluster
import engine
import yaml
from ledger import Failed, eventually, expect
from place import WORK, run

CONTAINER = "streamer-streamer"


def check(ledger):
    with ledger.check("podman kube play streamer: live, not ready, and says why"):
        objects = list(yaml.safe_load_all(cluster.render("dev").read_text()))
        play(pod_of(named(objects, "StatefulSet", "streamer")), named(objects, "ConfigMap", "streamer-config"))


def play(pod, config):
    files = {"pod": pod, "config": config}
    for what, content in files.items():
        files[what] = WORK / f"play-{what}.yaml"
        files[what].write_text(yaml.safe_dump(content))
    try:
        engine.podman("play", "kube", "--configmap", files["config"], files["pod"])
        eventually("live", lambda: '"live":true' in healthcheck(), 20)
        said = run("podman", "exec", CONTAINER, "/streamer", "healthcheck", "--ready",
                   env=engine.ENVIRONMENT, accept=(1,))  # fmt: skip
        expect("503" in said and "kafka" in said, said)
    finally:
        engine.podman("play", "kube", "--down", files["pod"], accept=(0, 125))


def healthcheck():
    try:
        return engine.podman("exec", CONTAINER, "/streamer", "healthcheck")
    except Failed:
        return ""


def named(objects, kind, prefix):
    return next(each for each in objects if each["kind"] == kind and each["metadata"]["name"].startswith(prefix))


def pod_of(workload):
    spec = workload["spec"]["template"]["spec"]
    for container in spec["containers"]:
        # podman would publish each port on this machine.
        for unneeded in ["ports", "startupProbe", "livenessProbe", "readinessProbe"]:
            container.pop(unneeded)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "streamer"}, "spec": spec}
