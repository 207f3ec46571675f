"""Runs the pods of overlay dev with podman, without a cluster: they resolve each other's names, and rows arrive.

podman has no workloads, so each pod is made from its workload's template. Adaptations for podman 4.3:

- probes: removed, since podman runs them with curl, which these images lack; the binary's health check is used instead;
- ports: removed, since podman uses only published ones;
- `optional: false`, the default, is written out for each secret; without the field podman crashes
  (pkg/specgen/generate/kube/volume.go:165);
- Secret: put into podman's store with decoded data; from a manifest podman would write base64 to the files;
- claims of a StatefulSet: each becomes a separate claim, like the StatefulSet's controller does it;
- Service: the pod has its name, which the network resolves.
"""

import base64
import copy
import json

import cluster
import engine
import yaml
from results import Failed, eventually, expect
from workspace import WORK, run

NETWORK = "affluent-pods"
# The dependency that each service reports as missing, in start order.
SERVICES = {"streamer": "kafka", "ingester": "publisher", "publisher": "kafka"}
OTHERS = ["kafka", "cassandra", "random-user"]


def check(results):
    objects = list(yaml.safe_load_all(cluster.render("dev").read_text()))
    played = []
    # Left over from an interrupted run.
    engine.podman("network", "rm", "--force", NETWORK, accept=(0, 1))
    try:
        engine.podman("network", "create", NETWORK)
        for service, missing in SERVICES.items():
            with results.check(f"podman kube play {service}: live, not ready, and reports why"):
                played.append(play(service, objects))
                reports_missing(service, missing)
        with results.check("podman kube play kafka, cassandra, random-user: all become ready, and rows arrive"):
            for name in OTHERS:
                played.append(play(name, objects))
            for service in SERVICES:
                eventually(f"{service} ready", lambda service=service: healthcheck(service, "--ready"), 240)
            eventually("rows", rows, 120)
    finally:
        with results.check("podman kube down leaves nothing"):
            for path in reversed(played):
                engine.podman("play", "kube", "--down", path)
            clear()
            expect(engine.podman("ps", "--all", "--quiet") == "", "containers are left")


def reports_missing(service, missing):
    eventually("live", lambda: healthcheck(service), 20)
    output = run("podman", "exec", f"{service}-{service}", f"/{service}", "healthcheck", "--ready",
                 env=engine.ENVIRONMENT, accept=(1,))  # fmt: skip
    expect("503" in output and missing in output, output)


def healthcheck(service, *words):
    """The health check's output, or nothing if it fails."""
    try:
        return engine.podman("exec", f"{service}-{service}", f"/{service}", "healthcheck", *words)
    except Failed:
        return ""


def rows():
    """The sum of the streamer's checkpoints."""
    output = engine.podman("exec", "streamer-streamer", "/streamer", "--config", "/etc/affluent/streamer.toml",
                           "status", "--json")  # fmt: skip
    return sum(partition["checkpoint"] or 0 for partition in json.loads(output)["partitions"])


def play(name, objects):
    kind = "Deployment" if name in ("publisher", "random-user") else "StatefulSet"
    workload = next(each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name)
    path = WORK / f"play-{name}.yaml"
    path.write_text(yaml.safe_dump_all(for_podman(workload, objects)))
    engine.podman("play", "kube", "--network", NETWORK, path)
    return path


def for_podman(workload, objects):
    """A workload's pod, preceded by the objects that it needs."""
    name, spec = workload["metadata"]["name"], copy.deepcopy(workload["spec"]["template"]["spec"])
    for container in spec["containers"]:
        for unneeded in ["ports", "startupProbe", "livenessProbe", "readinessProbe", "lifecycle"]:
            container.pop(unneeded, None)
    needed, volumes = [], spec.setdefault("volumes", [])
    for volume in volumes:
        if "configMap" in volume:
            needed.append(named(objects, "ConfigMap", volume["configMap"]["name"]))
        if "secret" in volume:
            volume["secret"]["optional"] = False
            keep(named(objects, "Secret", volume["secret"]["secretName"]))
    for template in workload["spec"].get("volumeClaimTemplates", []):
        claim = f"{template['metadata']['name']}-{name}-0"
        volumes.append({"name": template["metadata"]["name"], "persistentVolumeClaim": {"claimName": claim}})
        needed.append({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": claim},
                       "spec": template["spec"]})  # fmt: skip
    labels = workload["spec"]["template"]["metadata"]["labels"]
    return [*needed, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}]


def named(objects, kind, name):
    return next(each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name)


def keep(secret):
    """Adds a secret to podman's store, unless it exists."""
    name = secret["metadata"]["name"]
    if name in engine.podman("secret", "ls", "--format", "{{.Name}}").split():
        return
    data = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    path = WORK / "play-secret.yaml"
    path.write_text(yaml.safe_dump({**secret, "data": data}))
    engine.podman("secret", "create", name, path)
    path.unlink()


def clear():
    """Removes what kube down leaves: volumes, secrets, and the network."""
    for volume in engine.podman("volume", "ls", "--quiet").split():
        engine.podman("volume", "rm", "--force", volume)
    for secret in engine.podman("secret", "ls", "--quiet").split():
        engine.podman("secret", "rm", secret)
    engine.podman("network", "rm", "--force", NETWORK)
