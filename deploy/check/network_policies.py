"""Evaluates the network policies of rendered manifests: which pod reaches which. Pure functions."""

from ipaddress import ip_address, ip_network
from typing import NamedTuple

NAMESPACE = "kubernetes.io/metadata.name"
OURS = "affluent"
# Undeclared ports. They are reachable, too, where a policy selects only pods.
UNDECLARED = {"undeclared": (5005, "TCP"), "undeclared by datagram": (5005, "UDP")}


class Pod(NamedTuple):
    """An end of a connection: a pod, or an address outside the cluster if `address` is set. A port has a number, a
    protocol, and a name that policies may use."""

    name: str
    labels: dict = {}
    namespace: str = OURS
    ports: dict = {}
    address: str = ""


def pods_of(objects):
    """One pod for each workload."""
    pods = {}
    for each in objects:
        spec = each.get("spec", {})
        template = spec.get("template") or spec.get("jobTemplate", {}).get("spec", {}).get("template")
        if template:
            containers = template["spec"]["containers"]
            ports = {port["name"]: (port["containerPort"], port.get("protocol", "TCP"))
                     for it in containers for port in it.get("ports", [])}  # fmt: skip
            name = each["metadata"]["name"]
            pods[name] = Pod(name, template["metadata"]["labels"], OURS, ports)
    return pods


def egress(policies, sources, targets):
    """Every (source, target, port, protocol) that the source's policies allow."""
    return {
        (source.name, target.name, *port)
        for source in sources
        for target in targets
        for name, port in (target.ports | UNDECLARED).items()
        if allows(policies, "Egress", source, target, name, port)
    }


def ingress(policies, sources, targets):
    """Every (source, target, port, protocol) that the target's policies allow."""
    return {
        (source.name, target.name, *port)
        for source in sources
        for target in targets
        for name, port in (target.ports | UNDECLARED).items()
        if allows(policies, "Ingress", target, source, name, port)
    }


def allows(policies, direction, owner, peer, name, port):
    """Whether the policies of `owner` allow the connection. Without a selecting policy everything is allowed."""
    spec_of = [policy["spec"] for policy in policies if direction in policy["spec"]["policyTypes"]]
    selected = [spec for spec in spec_of if owner.namespace == OURS and not owner.address
                and matches(spec["podSelector"], owner.labels)]  # fmt: skip
    if not selected:
        return True
    rules = [rule for spec in selected for rule in spec.get(direction.lower(), [])]
    ends = "to" if direction == "Egress" else "from"
    return any(
        (ends not in rule or any(is_peer(end, peer) for end in rule[ends]))
        and ("ports" not in rule or any(is_port(each, name, port) for each in rule["ports"]))
        for rule in rules
    )


def is_port(given, name, port):
    """The default protocol is TCP. No port means every port; `endPort` makes a range."""
    number, protocol = port
    if given.get("protocol", "TCP") != protocol:
        return False
    first = given.get("port")
    if first is None or isinstance(first, str):
        return first in (None, name)
    return first <= number <= given.get("endPort", first)


def is_peer(end, peer):
    if "ipBlock" in end:
        block = end["ipBlock"]
        return bool(peer.address) and within(peer.address, block["cidr"]) and not any(
            within(peer.address, hole) for hole in block.get("except", [])
        )  # fmt: skip
    if peer.address:
        return False
    if "namespaceSelector" in end:
        if not matches(end["namespaceSelector"], {NAMESPACE: peer.namespace}):
            return False
    elif peer.namespace != OURS:
        return False
    return matches(end.get("podSelector", {}), peer.labels)


def within(address, block):
    return ip_address(address) in ip_network(block)


def matches(selector, labels):
    expected = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in expected.items()):
        return False
    for expression in selector.get("matchExpressions", []):
        if expression["operator"] != "In":
            raise NotImplementedError(expression["operator"])
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True
