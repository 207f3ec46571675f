"""What the release workflow does to the manifests, done here by its own commands: images pinned by digest."""

import re
import shutil

import yaml
from ledger import expect
from place import DEPLOY, ROOT, WORK, run

WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"
SERVICES = ["ingester", "publisher", "streamer"]
PLACE = "https://code.example/somebody/affluent"
REGISTRY = "registry.example/somebody/affluent"


def check(ledger):
    with ledger.check("the release pins each image of overlay prod by its digest"):
        pinned()


def pinned():
    folder = WORK / "release"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DEPLOY / "kubernetes", folder / "deploy" / "kubernetes")
    (folder / "images").mkdir()
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    wanted = {service: f"{REGISTRY}/{service}@sha256:{number:064x}" for number, service in enumerate(SERVICES, 1)}
    for service, image in wanted.items():
        given = {"SERVICE": service, "REGISTRY": REGISTRY, "DIGEST": image.partition("@")[2]}
        shell(step(jobs["images"], ".digest"), folder / "images", given)
    server, _, repository = PLACE.rpartition("/somebody/")
    runner = {"GITHUB_SERVER_URL": server, "GITHUB_REPOSITORY": f"somebody/{repository}", "GITHUB_REF_NAME": "v1.2.3"}
    shell(step(jobs["manifests"], "kustomize"), folder, runner)
    for name in ["affluent.yaml", "affluent-operators.yaml"]:
        rendered = (folder / name).read_text()
        found = re.findall(r"^\s*(?:- )?image: (\S+)$", rendered, re.M)
        expect(sorted(found) == sorted(wanted.values()), f"{name}: {found}")
    pages = re.findall(r"^\s*runbook_url: (\S+)$", rendered, re.M)
    expect(pages and all(page.startswith(f"{PLACE}/blob/v1.2.3/docs/runbooks/") for page in pages), pages)
    expect((folder / "affluent-kubernetes.tar.gz").stat().st_size > 0, "no archive")


def step(job, what):
    return next(it["run"] for it in job["steps"] if what in it.get("run", ""))


def shell(commands, folder, variables=None):
    """As a runner runs them."""
    run("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", commands, cwd=folder, env=variables)
