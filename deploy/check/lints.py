"""What can be said of the files without running anything but their own checkers."""

import composition
import dashboards
import settings
from ledger import expect
from place import DEPLOY, ROOT, run

SERVICES = ["ingester", "publisher", "streamer"]
CONFIGURATIONS = ["compose", "kubernetes/base/config", "kubernetes/overlays/prod/config"]


def check(ledger, binaries):
    with ledger.check("hadolint"):
        run("hadolint", DEPLOY / "Dockerfile", *sorted((DEPLOY / "check" / "images").glob("*/Dockerfile")))
    with ledger.check("shellcheck"):
        run("shellcheck", "--external-sources", *scripts())
    with ledger.check("actionlint"):
        run("actionlint", *sorted((ROOT / ".github" / "workflows").glob("*.yml")))
    with ledger.check("yamllint"):
        run("yamllint", "--strict", "--config-file", DEPLOY / "check" / "yamllint.yml", "docker-compose.yml", ".github",
            *(DEPLOY / it for it in ["compose", "kubernetes", "check", "prometheus", "grafana"]))  # fmt: skip
    with ledger.check("ruff"):
        run("ruff", "check", "--select", "E,F,I,B,UP", "--line-length", "120", DEPLOY / "check")
    with ledger.check("promtool check"):
        run("promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    with ledger.check("promtool test rules"):
        run("promtool", "test", "rules", *sorted((DEPLOY / "prometheus" / "tests").glob("*.yml")))
    dashboards.check_files(ledger)
    for folder in CONFIGURATIONS:
        for service in SERVICES:
            path = DEPLOY / folder / f"{service}.toml"
            with ledger.check(f"{service} accepts {path.relative_to(ROOT)}"):
                settings.accepts(service, path, binaries)
    composition.check(ledger, binaries)


def scripts():
    """Every one of the repository, by its first line, but for what is built."""
    places = [ROOT / "scripts", ROOT / ".ci", DEPLOY]
    found = sorted(path for place in places for path in place.rglob("*") if path.is_file() and is_script(path))
    names = {path.name for path in found}
    expect({"deploy-check", "prerequisites.sh", "testkit.sh", "run", "check", "entrypoint"} <= names, names)
    return found


def is_script(path):
    with path.open("rb") as file:
        first = file.readline()
    return first.startswith(b"#!") and b"sh" in first or first.startswith(b"# shellcheck shell=")
