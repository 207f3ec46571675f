"""Checks the Helm chart: it renders what kustomize renders from the same values."""

import copy
import re
import shutil
import sys

import yaml
from results import expect
from workspace import BIN, DEPLOY, WORK, run

HASHED = re.compile(r"-config-[a-z0-9]{10}$")
CHART = WORK / "chart"
VALUES = WORK / "chart-values.yaml"


def check(results):
    with results.check("the Helm chart is generated, and passes helm lint"):
        install()
        shutil.rmtree(CHART, ignore_errors=True)
        run(sys.executable, DEPLOY / "helm" / "generate", CHART)
        run("helm", "lint", "--strict", CHART)
    with results.check("the chart's defaults are overlay prod"):
        same(chart({}), overlay("prod"))
    with results.check("the chart with keda and monitoring is overlay prod-operators"):
        same(chart({"keda": {"enabled": True}, "monitoring": {"enabled": True}}), overlay("prod-operators"))
    with results.check("the chart's values change what kustomize patches change"):
        patched()
    with results.check("the chart's schema rejects a misspelt value, and a value of another type"):
        for wrong in [{"streamer": {"replica": 3}}, {"streamer": {"replicas": "three"}}, {"streamr": {}}]:
            output = chart_text(wrong, accept=(1,))
            expect("values don't meet the specifications of the schema" in output, output)


def install():
    if not (BIN / "helm").exists():
        run("go", "install", "helm.sh/helm/v3/cmd/helm@v3.18.6", env={"GOBIN": str(BIN)}, timeout=1800)


def chart_text(values, accept=(0,)):
    VALUES.write_text(yaml.safe_dump(values))
    # A helm that Go has installed takes an old version of Kubernetes for the default.
    version = ["--kube-version", "1.34.0"]
    command = ["helm", "template", "affluent", CHART, "--namespace", "affluent", "--values", VALUES]
    return run(*command, *version, accept=accept)


def chart(values):
    return objects(chart_text(values))


def overlay(name, patch=""):
    folder = WORK / "chart-overlay"
    folder.mkdir(parents=True, exist_ok=True)
    # Relative: kustomize refuses absolute paths.
    shutil.rmtree(WORK / "chart-source", ignore_errors=True)
    for source in ["kubernetes", "grafana"]:
        shutil.copytree(DEPLOY / source, WORK / "chart-source" / source)
    head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
    resources = f"resources:\n  - ../chart-source/kubernetes/overlays/{name}\n"
    (folder / "kustomization.yaml").write_text(head + resources + patch)
    return objects(run("kubectl", "kustomize", folder))


def objects(text):
    """Manifests by kind and name. The hash in a ConfigMap's name is another function of the same content."""
    found = {}
    for each in yaml.safe_load_all(text):
        if each is None or each["kind"] == "Namespace":
            continue
        # Helm sets the namespace at the installation.
        expect(each["metadata"].pop("namespace", "affluent") == "affluent", each["metadata"])
        each = unhashed(each)
        found[each["kind"], each["metadata"]["name"]] = each
    return found


def unhashed(value):
    if isinstance(value, dict):
        return {key: unhashed(each) for key, each in value.items()}
    if isinstance(value, list):
        return [unhashed(each) for each in value]
    return HASHED.sub("-config", value) if isinstance(value, str) else value


def same(found, expected):
    expect(found.keys() == expected.keys(), f"objects: {found.keys() ^ expected.keys()}")
    for identity, each in expected.items():
        expect(found[identity] == each, f"{identity}:\n{yaml.safe_dump(found[identity])}\n{yaml.safe_dump(each)}")


def patched():
    values = {
        "ingester": {"storageClassName": "fast", "storage": "2Gi", "config": "[run]\nusers = 7\n"},
        "publisher": {"maxReplicas": 9, "resources": {"limits": {"memory": "416Mi"}}},
        "streamer": {"replicas": 4, "image": "registry.example/streamer@sha256:" + "0" * 64},
        "kafka": {"port": 9096, "to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]},
    }
    claim = "/spec/volumeClaimTemplates/0/spec"
    container = "/spec/template/spec/containers/0"
    patches = [
        ("StatefulSet", "ingester", [
            {"op": "add", "path": f"{claim}/storageClassName", "value": "fast"},
            {"op": "replace", "path": f"{claim}/resources/requests/storage", "value": "2Gi"},
        ]),
        ("HorizontalPodAutoscaler", "publisher", [{"op": "replace", "path": "/spec/maxReplicas", "value": 9}]),
        ("Deployment", "publisher", [
            {"op": "replace", "path": f"{container}/resources/limits/memory", "value": "416Mi"}]),
        ("StatefulSet", "streamer", [
            {"op": "replace", "path": "/spec/replicas", "value": 4},
            {"op": "replace", "path": f"{container}/image", "value": values["streamer"]["image"]},
        ]),
        ("NetworkPolicy", "to-kafka", [
            {"op": "replace", "path": "/spec/egress/0/to", "value": values["kafka"]["to"]},
            {"op": "replace", "path": "/spec/egress/0/ports/0/port", "value": 9096},
        ]),
    ]  # fmt: skip
    text = yaml.safe_dump({"patches": [
        {"target": {"kind": kind, "name": name}, "patch": yaml.safe_dump(operations)}
        for kind, name, operations in patches
    ]})  # fmt: skip
    expected = overlay("prod", text)
    expected["ConfigMap", "ingester-config"]["data"]["ingester.toml"] = values["ingester"]["config"]
    found = chart(values)
    same(found, expected)
    # The name of a ConfigMap changes with its content, so the pods are replaced.
    names = [re.findall(r"name: (ingester-config-\w+)", chart_text(copy.deepcopy(it))) for it in ({}, values)]
    expect(len(set(names[0])) == 1 and set(names[0]).isdisjoint(names[1]), names)
