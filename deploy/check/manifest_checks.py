"""Checks rendered manifests beyond their schema: connections, probes, timeouts, rights."""

import copy
import re

import network_policies
import tomllib
import yaml
from network_policies import Pod
from results import Failed, expect
from workspace import DEPLOY, ROOT

SERVICES = {"ingester": 9081, "publisher": 9082, "streamer": 9083}
CONFIGURATIONS = {
    "dev": "base/config",
    "cronjob": "base/config",
    "prod": "overlays/prod/config",
    "prod-operators": "overlays/prod/config",
}
SCALED = ["publisher", "streamer"]
# The publisher's memory by its README: without connections, and for each of them.
PUBLISHER_MEMORY_MIB = 96
CONNECTION_KIB = 320

# Ends of connections outside our workloads.
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
    # Cloud DNS and the metadata server share an address: only DNS is allowed.
    Pod("metadata", address="169.254.169.254",
        ports={"https": (443, "TCP"), "http": (80, "TCP"), "dns": (53, "UDP"), "dns-tcp": (53, "TCP")}),
    Pod("node-local-dns", address="169.254.20.10",
        ports={"dns": (53, "UDP"), "dns-tcp": (53, "TCP"), "http": (80, "TCP")}),
    Pod("node-local-dns-pod", {"k8s-app": "node-local-dns"}, namespace="kube-system",
        ports={"dns": (53, "UDP"), "dns-tcp": (53, "TCP"), "metrics": (9253, "TCP")}),
    Pod("openshift-dns", {"dns.operator.openshift.io/daemonset-dns": "default"}, namespace="openshift-dns",
        ports={"dns": (5353, "UDP"), "dns-tcp": (5353, "TCP"), "metrics": (9154, "TCP")}),
    Pod("intranet", address="10.0.0.1", ports={"https": (443, "TCP")}),
    Pod("kafka-outside", address="192.0.2.1", ports={"kafka": (9093, "TCP"), "other": (9042, "TCP")}),
    Pod("cassandra-outside", address="192.0.2.129", ports={"cql": (9042, "TCP"), "other": (9093, "TCP")}),
]  # fmt: skip
DNS = {"dns": 53, "metadata": 53, "node-local-dns": 53, "node-local-dns-pod": 53, "openshift-dns": 5353}
# Allowed connections, all TCP. Every pod in the namespace may also use DNS.
COMMON = {
    ("ingester", "internet", 443),
    ("ingester", "publisher", 8080),
    ("ingester", "publisher", 9082),
    ("ingester", "streamer", 9083),
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
# A job has no API. The base without an overlay has no Kafka.
CONNECTIONS = {
    "dev": COMMON | INSIDE,
    "prod": COMMON | EXTERNAL,
    "prod-operators": COMMON | EXTERNAL | SCRAPED,
    "cronjob": COMMON - {("operator", "ingester", 8081)},
}


def check(results, overlay, path):
    objects = list(yaml.safe_load_all(path.read_text()))
    with results.check(f"{overlay}: the network policies allow the documented connections only"):
        check_connections(overlay, objects)
        # The check itself must be able to fail: every policy has an effect.
        for each in [each for each in objects if each["kind"] == "NetworkPolicy" and len(each["spec"]) > 2]:
            try:
                check_connections(overlay, [other for other in objects if other is not each])
            except Failed:
                continue
            raise Failed(f"policy {each['metadata']['name']} has no effect")
        for name, other in widened(objects):
            try:
                check_connections(overlay, other)
            except Failed:
                continue
            raise Failed(f"the ports of policy {name} have no effect")
    with results.check(f"{overlay}: probes, grace periods, rights, spread and limits"):
        for each in objects:
            template = template_of(each)
            if template:
                pod(each, template["spec"], overlay)
        for name in SCALED:
            expect(any(of(each, "PodDisruptionBudget", name) for each in objects), f"{name} has no disruption budget")
        expect(any(of(each, "HorizontalPodAutoscaler", "publisher") for each in objects), "no autoscaler")
    with results.check(f"{overlay}: autoscaled workloads set no replicas, and no placeholder is left"):
        scaled = {(each["spec"]["scaleTargetRef"]["kind"], each["spec"]["scaleTargetRef"]["name"]) for each in objects
                  if each["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")}  # fmt: skip
        expect(("StatefulSet", "streamer") in scaled or overlay != "prod-operators", scaled)
        for each in objects:
            if (each["kind"], each["metadata"]["name"]) in scaled:
                expect("replicas" not in each["spec"], f"{each['metadata']['name']} sets replicas")
        expect("replace-me" not in path.read_text(), "Kafka's address is still the placeholder")
    with results.check(f"{overlay}: custom resources are only in overlay prod-operators"):
        foreign = {each["kind"] for each in objects if each["apiVersion"].startswith(("keda.", "monitoring."))}
        expected = {"ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule"}
        expect(foreign == (expected if overlay == "prod-operators" else set()), foreign)
    with results.check(f"{overlay}: services of pods that may not be ready publish their addresses"):
        services = {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == "Service"}
        published = {name for name, spec in services.items() if spec.get("publishNotReadyAddresses")}
        # A job has no service.
        expect(published == {"ingester", "streamer"} & services.keys(), published)
    with results.check(f"{overlay}: KEDA speaks a version of the protocol that Kafka 4 accepts"):
        for each in objects:
            if each["kind"] == "ScaledObject":
                triggers = each["spec"]["triggers"]
                expect(all(it["metadata"].get("version") == "2.8.0" for it in triggers), triggers)
                # With at least one replica KEDA never activates or deactivates: these would have no effect.
                idle = {"cooldownPeriod", "pollingInterval"} & each["spec"].keys()
                expect(each["spec"]["minReplicaCount"] > 0 and not idle, idle)
                expect(all("activationLagThreshold" not in it["metadata"] for it in triggers), triggers)
    with results.check(f"{overlay}: the ConfigMaps are the committed configurations"):
        configurations(overlay, objects)
    with results.check(f"{overlay}: Grafana's sidecar finds each dashboard, in overlay prod-operators"):
        dashboards(overlay, objects)


def check_connections(overlay, objects):
    policies = [each for each in objects if each["kind"] == "NetworkPolicy"]
    pods = list(network_policies.pods_of(objects).values())
    ours = [each for each in pods + OUTSIDE if each.namespace == "affluent" and not each.address]
    names = {each.name for each in ours}
    allowed = {(*connection, "TCP") for connection in CONNECTIONS[overlay]}
    allowed |= {(name, *server, protocol) for name in names for server in DNS.items() for protocol in ("UDP", "TCP")}
    # A connection needs both ends. Each of ours must allow exactly the listed ones.
    everyone = pods + OUTSIDE
    egress = network_policies.egress(policies, ours, everyone)
    ingress = network_policies.ingress(policies, everyone, ours)
    for found, end in [(egress, 0), (ingress, 1)]:
        expected = {connection for connection in allowed if connection[end] in names}
        expect(found == expected, f"unexpected: {sorted(found - expected)}, missing: {sorted(expected - found)}")


def widened(objects):
    """Yields the manifests with one rule opened to all ports, and with one of several ports removed."""
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
    expect(spec["automountServiceAccountToken"] is False, f"{where} mounts a service account token")
    container = spec["containers"][0]
    expect("memory" in container["resources"]["limits"], f"{where} has no memory limit")
    if name not in SERVICES:
        return
    expect(spec["serviceAccountName"] == name, f"{where} has no service account of its own")
    expect(container["securityContext"]["readOnlyRootFilesystem"], f"{where} has a writable root file system")
    policy = "Never" if overlay == "dev" else None
    expect(container.get("imagePullPolicy") == policy, f"{where}: {container.get('imagePullPolicy')}")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    expect(ports["admin"] == SERVICES[name], f"{where}: admin port {ports['admin']}")
    paths = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    if each["kind"] == "CronJob":
        paths = {"livenessProbe": "/healthz"}
    for probe, path in paths.items():
        requested = container[probe]["httpGet"]
        expect((requested["path"], requested["port"]) == (path, "admin"), f"{where}: {probe} requests {requested}")
    before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    needed = before + shutdown_grace(name, overlay)
    grace = spec["terminationGracePeriodSeconds"]
    expect(grace > needed, f"{where} is killed after {grace} s, but may need {needed} s")
    if name == "publisher":
        connections = configuration(name, overlay)["http"]["max_connections"]
        needed = PUBLISHER_MEMORY_MIB + connections * CONNECTION_KIB / 1024
        limit = int(container["resources"]["limits"]["memory"].removesuffix("Mi"))
        expect(limit >= needed, f"{where}: {limit} MiB are less than {needed} MiB for {connections} connections")
    if name in SCALED:
        keys = {constraint["topologyKey"] for constraint in spec["topologySpreadConstraints"]}
        expect(keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}, f"{where} spreads over {keys}")
    if name == "streamer":
        variable = next(it for it in container["env"] if it["name"] == "STREAMER__KAFKA__INSTANCE_ID")
        expect(variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name", f"{where}: {variable}")
        session = seconds(configuration(name, overlay)["kafka"]["session_timeout"])
        expect(session > grace, f"{where}: session {session} s is not above the grace period {grace} s")


def configuration(service, overlay):
    path = DEPLOY / "kubernetes" / CONFIGURATIONS[overlay] / f"{service}.toml"
    return tomllib.loads(path.read_text())


def shutdown_grace(service, overlay):
    """The configured value, or the default from the service's README, which its tests check."""
    given = configuration(service, overlay)["process"].get("shutdown_grace")
    readme = (ROOT / "crates" / service / "README.md").read_text()
    default = re.search(r"^\| `process.shutdown_grace` \| `(\d+s)` \|", readme, re.M)[1]
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


def dashboards(overlay, objects):
    found = {}
    for each in objects:
        if each["metadata"].get("labels", {}).get("grafana_dashboard") == "1":
            found |= each["data"]
    committed = {path.name: path.read_text() for path in (DEPLOY / "grafana" / "dashboards").glob("*.json")}
    expect(found == (committed if overlay == "prod-operators" else {}), sorted(found))
