"""The pods of overlay dev, all of them, run by podman as far as it goes without a cluster: they find each other by
name, and rows come.

podman knows no workloads, so each pod is made of its workload's template. What is taken away or written otherwise,
because podman 4.3 can't take it as it is:

- probes: it would run them with curl inside of the container, which is not in these images; the health check that is
  asked here is the binary's own;
- ports: only those that are published on this machine matter to it;
- `optional: false`, the default, is written out for each secret: it looks at the field without asking whether it is
  there, and ends with a segmentation fault (pkg/specgen/generate/kube/volume.go:165);
- a Secret: put into podman's own store with its data decoded, for from a manifest it would write the data to the files
  as it stands there, in base64;
- claims of a StatefulSet: each becomes a claim of its own, as the StatefulSet's controller would make it;
- a Service: the pod has its name, and the network gives that to the others.
"""

import base64
import copy
import json

import cluster
import engine
import yaml
from ledger import Failed, eventually, expect
from place import WORK, run

NETWORK = "affluent-pods"
# What each says that it misses, in an order in which it is not there yet.
SERVICES = {"streamer": "kafka", "ingester": "publisher", "publisher": "kafka"}
OTHERS = ["kafka", "cassandra", "random-user"]


def check(ledger):
    objects = list(yaml.safe_load_all(cluster.render("dev").read_text()))
    played = []
    # Of a run that was cut off.
    engine.podman("network", "rm", "--force", NETWORK, accept=(0, 1))
    try:
        engine.podman("network", "create", NETWORK)
        for service, missing in SERVICES.items():
            with ledger.check(f"podman kube play {service}: live, not ready, and says why"):
                played.append(play(service, objects))
                alone(service, missing)
        with ledger.check("podman kube play kafka, cassandra, random-user: all are ready, and rows come"):
            for name in OTHERS:
                played.append(play(name, objects))
            for service in SERVICES:
                eventually(f"{service} ready", lambda service=service: healthcheck(service, "--ready"), 240)
            eventually("rows", rows, 120)
    finally:
        with ledger.check("podman kube down leaves nothing"):
            for path in reversed(played):
                engine.podman("play", "kube", "--down", path)
            clear()
            expect(engine.podman("ps", "--all", "--quiet") == "", "containers are left")


def alone(service, missing):
    eventually("live", lambda: healthcheck(service), 20)
    said = run("podman", "exec", f"{service}-{service}", f"/{service}", "healthcheck", "--ready",
               env=engine.ENVIRONMENT, accept=(1,))  # fmt: skip
    expect("503" in said and missing in said, said)


def healthcheck(service, *words):
    """Its answer; none when it is not live, or not ready."""
    try:
        return engine.podman("exec", f"{service}-{service}", f"/{service}", "healthcheck", *words)
    except Failed:
        return ""


def rows():
    """By the streamer's own word: how far the checkpoints are."""
    said = engine.podman("exec", "streamer-streamer", "/streamer", "--config", "/etc/affluent/streamer.toml", "status",
                         "--json")  # fmt: skip
    return sum(partition["checkpoint"] or 0 for partition in json.loads(said)["partitions"])


def play(name, objects):
    kind = "Deployment" if name in ("publisher", "random-user") else "StatefulSet"
    workload = next(each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name)
    path = WORK / f"play-{name}.yaml"
    path.write_text(yaml.safe_dump_all(for_podman(workload, objects)))
    engine.podman("play", "kube", "--network", NETWORK, path)
    return path


def for_podman(workload, objects):
    """The pod of a workload, after what it needs."""
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
    """Puts a secret into podman's store, unless it is there."""
    name = secret["metadata"]["name"]
    if name in engine.podman("secret", "ls", "--format", "{{.Name}}").split():
        return
    data = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    path = WORK / "play-secret.yaml"
    path.write_text(yaml.safe_dump({**secret, "data": data}))
    engine.podman("secret", "create", name, path)
    path.unlink()


def clear():
    """What kube down leaves: volumes, secrets, and the network."""
    for volume in engine.podman("volume", "ls", "--quiet").split():
        engine.podman("volume", "rm", "--force", volume)
    for secret in engine.podman("secret", "ls", "--quiet").split():
        engine.podman("secret", "rm", secret)
    engine.podman("network", "rm", "--force", NETWORK)
