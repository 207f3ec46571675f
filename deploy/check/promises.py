"""What the rendered manifests promise beyond being valid: the arrows of the picture, probes, times, who may do what."""

import copy
import re

import arrows
import tomllib
import yaml
from arrows import Pod
from ledger import Failed, expect
from place import DEPLOY, ROOT

SERVICES = {"ingester": 9081, "publisher": 9082, "streamer": 9083}
CONFIGURATIONS = {
    "dev": "base/config",
    "cronjob": "base/config",
    "prod": "overlays/prod/config",
    "prod-operators": "overlays/prod/config",
}
SCALED = ["publisher", "streamer"]

# Ends of arrows that are no workloads of ours.
OUTSIDE = [
    Pod("operator", {"affluent/operator": "true"}),
    Pod("producer", {"affluent/producer": "true"}),
    Pod("stranger", {"app.kubernetes.io/name": "stranger"}),
    Pod("neighbour", {"app.kubernetes.io/name": "ingester"}, namespace="elsewhere"),
    Pod("prometheus", {}, namespace="monitoring"),
    Pod("dns", {"k8s-app": "kube-dns"}, namespace="kube-system",
        ports={"dns": (53, "UDP"), "dns-tcp": (53, "TCP"), "metrics": (9153, "TCP")}),
    Pod("internet", address="198.51.100.7",
        ports={"https": (443, "TCP"), "http3": (443, "UDP"), "http": (80, "TCP"), "kafka": (9093, "TCP")}),
    Pod("metadata", address="169.254.169.254", ports={"https": (443, "TCP"), "http": (80, "TCP")}),
    Pod("intranet", address="10.0.0.1", ports={"https": (443, "TCP")}),
    Pod("kafka-outside", address="192.0.2.1", ports={"kafka": (9093, "TCP"), "other": (9042, "TCP")}),
    Pod("cassandra-outside", address="192.0.2.129", ports={"cql": (9042, "TCP"), "other": (9093, "TCP")}),
]  # fmt: skip
# The picture, all of it TCP. Whoever is in the namespace may ask for names.
PICTURE = {
    ("ingester", "internet", 443),
    ("ingester", "publisher", 8080),
    ("operator", "ingester", 8081),
    ("producer", "publisher", 8080),
}
INSIDE = {
    ("ingester", "random-user", 8000),
    ("publisher", "kafka", 9092),
    ("streamer", "kafka", 9092),
    ("kafka", "kafka", 9092),
    ("streamer", "cassandra", 9042),
}
EXTERNAL = {
    ("publisher", "kafka-outside", 9093),
    ("streamer", "kafka-outside", 9093),
    ("streamer", "cassandra-outside", 9042),
}
SCRAPED = {("prometheus", service, port) for service, port in SERVICES.items()}
# A job has no API, and nobody who asks it; without an overlay there is no Kafka.
PICTURES = {
    "dev": PICTURE | INSIDE,
    "prod": PICTURE | EXTERNAL,
    "prod-operators": PICTURE | EXTERNAL | SCRAPED,
    "cronjob": PICTURE - {("operator", "ingester", 8081)},
}


def check(ledger, overlay, path):
    objects = list(yaml.safe_load_all(path.read_text()))
    with ledger.check(f"{overlay}: the network policies let pass the arrows of the picture, and nothing else"):
        in_the_picture(overlay, objects)
        # And the check itself can fail: no policy is there for nothing.
        for each in [each for each in objects if each["kind"] == "NetworkPolicy" and len(each["spec"]) > 2]:
            try:
                in_the_picture(overlay, [other for other in objects if other is not each])
            except Failed:
                continue
            raise Failed(f"without the policy {each['metadata']['name']} nothing is different")
        for name, other in widened(objects):
            try:
                in_the_picture(overlay, other)
            except Failed:
                continue
            raise Failed(f"with other ports in the policy {name} nothing is different")
    with ledger.check(f"{overlay}: probes, times to stop, rights, spread and limits"):
        for each in objects:
            template = template_of(each)
            if template:
                pod(each, template["spec"], overlay)
        for name in SCALED:
            expect(any(of(each, "PodDisruptionBudget", name) for each in objects), f"{name} has no disruption budget")
        expect(any(of(each, "HorizontalPodAutoscaler", "publisher") for each in objects), "no autoscaler")
    with ledger.check(f"{overlay}: nobody sets a number that an autoscaler sets, and nothing is left to replace"):
        scaled = {(each["spec"]["scaleTargetRef"]["kind"], each["spec"]["scaleTargetRef"]["name"]) for each in objects
                  if each["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")}  # fmt: skip
        expect(("StatefulSet", "streamer") in scaled or overlay != "prod-operators", scaled)
        for each in objects:
            if (each["kind"], each["metadata"]["name"]) in scaled:
                expect("replicas" not in each["spec"], f"{each['metadata']['name']} has replicas of its own")
        expect("replace-me" not in path.read_text(), "the address of Kafka is still that of the component")
    with ledger.check(f"{overlay}: kinds of extensions are in the overlay that says so, and nowhere else"):
        foreign = {each["kind"] for each in objects if each["apiVersion"].startswith(("keda.", "monitoring."))}
        wanted = {"ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule"}
        expect(foreign == (wanted if overlay == "prod-operators" else set()), foreign)
    with ledger.check(f"{overlay}: the ConfigMaps are the committed configurations"):
        configurations(overlay, objects)


def in_the_picture(overlay, objects):
    policies = [each for each in objects if each["kind"] == "NetworkPolicy"]
    pods = list(arrows.pods_of(objects).values())
    ours = [each for each in pods + OUTSIDE if each.namespace == "affluent" and not each.address]
    names = {each.name for each in ours}
    picture = {(*arrow, "TCP") for arrow in PICTURES[overlay]}
    picture |= {(name, "dns", 53, protocol) for name in names for protocol in ("UDP", "TCP")}
    # An arrow needs both of its ends. Each of ours has to agree to those of the picture, and to no other.
    everybody = pods + OUTSIDE
    for found, end in [(arrows.out(policies, ours, everybody), 0), (arrows.into(policies, everybody, ours), 1)]:
        wanted = {arrow for arrow in picture if arrow[end] in names}
        expect(found == wanted, f"too many: {sorted(found - wanted)}, missing: {sorted(wanted - found)}")


def widened(objects):
    """The manifests with one rule for all ports, for each rule; and without one port, for each that is not alone."""
    for at, each in enumerate(objects):
        if each["kind"] != "NetworkPolicy":
            continue
        for way in ["ingress", "egress"]:
            for number, rule in enumerate(each["spec"].get(way, [])):
                ports = rule["ports"]
                fewer = [ports[:it] + ports[it + 1 :] for it in range(len(ports))] if len(ports) > 1 else []
                for left in [None, *fewer]:
                    other = copy.deepcopy(objects)
                    changed = other[at]["spec"][way][number]
                    changed.pop("ports")
                    if left:
                        changed["ports"] = left
                    yield each["metadata"]["name"], other


def template_of(each):
    spec = each.get("spec", {})
    return spec.get("template") or spec.get("jobTemplate", {}).get("spec", {}).get("template")


def of(each, kind, name):
    return each["kind"] == kind and each["metadata"]["name"] == name


def pod(each, spec, overlay):
    name = each["metadata"]["name"]
    where = f"{each['kind']} {name}"
    expect(spec["automountServiceAccountToken"] is False, f"{where} has a token of the cluster's")
    container = spec["containers"][0]
    expect("memory" in container["resources"]["limits"], f"{where} has no limit of memory")
    if name not in SERVICES:
        return
    expect(spec["serviceAccountName"] == name, f"{where} is nobody of its own")
    expect(container["securityContext"]["readOnlyRootFilesystem"], f"{where} may write to its root")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    expect(ports["admin"] == SERVICES[name], f"{where}: admin port {ports['admin']}")
    paths = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    if each["kind"] == "CronJob":
        paths = {"livenessProbe": "/healthz"}
    for probe, path in paths.items():
        asked = container[probe]["httpGet"]
        expect((asked["path"], asked["port"]) == (path, "admin"), f"{where}: {probe} asks {asked}")
    before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    needed = before + shutdown_grace(name, overlay)
    grace = spec["terminationGracePeriodSeconds"]
    expect(grace > needed, f"{where} is killed after {grace} s, and may take {needed} s")
    if name in SCALED:
        keys = {constraint["topologyKey"] for constraint in spec["topologySpreadConstraints"]}
        expect(keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}, f"{where} spreads over {keys}")
    if name == "streamer":
        variable = next(it for it in container["env"] if it["name"] == "STREAMER__KAFKA__INSTANCE_ID")
        expect(variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name", f"{where}: {variable}")
        session = seconds(configuration(name, overlay)["kafka"]["session_timeout"])
        expect(session > grace, f"{where}: a session of {session} s ends before a pod that stops for {grace} s is back")


def configuration(service, overlay):
    path = DEPLOY / "kubernetes" / CONFIGURATIONS[overlay] / f"{service}.toml"
    return tomllib.loads(path.read_text())


def shutdown_grace(service, overlay):
    """The configured one, or the default, which the service's manual tells and its tests hold against the code."""
    given = configuration(service, overlay)["process"].get("shutdown_grace")
    manual = (ROOT / "crates" / service / "README.md").read_text()
    default = re.search(r"^\| `process.shutdown_grace` \| `(\d+s)` \|", manual, re.M)[1]
    return seconds(given or default)


def seconds(text):
    return int(text.removesuffix("s"))


def configurations(overlay, objects):
    for service in SERVICES:
        found = [each for each in objects if each["kind"] == "ConfigMap" and
                 each["metadata"]["name"].startswith(f"{service}-config-")]  # fmt: skip
        path = DEPLOY / "kubernetes" / CONFIGURATIONS[overlay] / f"{service}.toml"
        committed = {f"{service}.toml": path.read_text()}
        expect([each["data"] for each in found] == [committed], f"{service}: {found}")
