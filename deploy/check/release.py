"""Runs the release workflow's commands on the manifests: images pinned by digest."""

import re
import shutil

import yaml
from results import expect
from workspace import DEPLOY, ROOT, WORK, run

WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"
SERVICES = ["ingester", "publisher", "streamer"]
REPOSITORY_URL = "https://code.example/somebody/affluent"
REGISTRY = "registry.example/somebody/affluent"


def check(results):
    with results.check("overlay prod names the images that the release publishes"):
        named()
    with results.check("the release pins every image of overlay prod by digest"):
        pinned()


def named():
    """The names of a release of the repository in Cargo.toml."""
    repository = re.search(r'^repository = "https://github.com/(.*)"$', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    folder = WORK / "release-names"
    folder.mkdir(parents=True, exist_ok=True)
    commands = step(yaml.safe_load(WORKFLOW.read_text())["jobs"]["images"], "REGISTRY=")
    shell(commands, folder, {"GITHUB_REPOSITORY": repository, "GITHUB_ENV": str(folder / "env")})
    registry = (folder / "env").read_text().splitlines()[-1].removeprefix("REGISTRY=")
    images = yaml.safe_load((DEPLOY / "kubernetes/overlays/prod/kustomization.yaml").read_text())["images"]
    expect([it["newName"] for it in images] == [f"{registry}/{service}" for service in SERVICES], images)


def pinned():
    folder = WORK / "release"
    shutil.rmtree(folder, ignore_errors=True)
    for source in ["kubernetes", "grafana"]:
        shutil.copytree(DEPLOY / source, folder / "deploy" / source)
    (folder / "images").mkdir()
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    expected = {service: f"{REGISTRY}/{service}@sha256:{number:064x}" for number, service in enumerate(SERVICES, 1)}
    for service, image in expected.items():
        given = {"SERVICE": service, "REGISTRY": REGISTRY, "DIGEST": image.partition("@")[2]}
        shell(step(jobs["images"], '> "$SERVICE.digest"'), folder / "images", given)
    server, _, repository = REPOSITORY_URL.rpartition("/somebody/")
    runner = {"GITHUB_SERVER_URL": server, "GITHUB_REPOSITORY": f"somebody/{repository}", "GITHUB_REF_NAME": "v1.2.3"}
    shell(step(jobs["manifests"], "kustomize"), folder, runner)
    for name in ["affluent.yaml", "affluent-operators.yaml"]:
        rendered = (folder / name).read_text()
        found = re.findall(r"^\s*(?:- )?image: (\S+)$", rendered, re.M)
        expect(sorted(found) == sorted(expected.values()), f"{name}: {found}")
    pages = re.findall(r"^\s*runbook_url: (\S+)$", rendered, re.M)
    expect(pages and all(page.startswith(f"{REPOSITORY_URL}/blob/v1.2.3/docs/runbooks/") for page in pages), pages)
    expect((folder / "affluent-kubernetes.tar.gz").stat().st_size > 0, "no archive")


def step(job, what):
    return next(it["run"] for it in job["steps"] if what in it.get("run", ""))


def shell(commands, folder, variables=None):
    """Runs commands like a GitHub runner."""
    run("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", commands, cwd=folder, env=variables)
