"""Static checks of files with linters."""

import compose_file
import dashboards
import settings
from results import expect
from workspace import DEPLOY, ROOT, run

SERVICES = ["ingester", "publisher", "streamer"]
CONFIGURATIONS = ["compose", "packages", "kubernetes/base/config", "kubernetes/overlays/prod/config"]


def check(results, binaries):
    with results.check("hadolint"):
        run("hadolint", DEPLOY / "Dockerfile", *sorted((DEPLOY / "check" / "images").glob("*/Dockerfile")))
    with results.check("shellcheck"):
        run("shellcheck", "--external-sources", *scripts())
    with results.check("actionlint and zizmor"):
        run(ROOT / "scripts" / "lib" / "workflow-check.sh", timeout=600)
    with results.check("yamllint"):
        run("yamllint", "--strict", "--config-file", DEPLOY / "check" / "yamllint.yml", "docker-compose.yml", ".github",
            *(DEPLOY / it for it in ["alertmanager", "compose", "kubernetes", "check", "prometheus",
                                     "grafana"]))  # fmt: skip
    with results.check("ruff"):
        run("ruff", "check", "--select", "E,F,I,B,UP", "--line-length", "120", DEPLOY / "check",
            DEPLOY / "helm" / "generate", DEPLOY / "airflow" / "affluent_dag.py",
            ROOT / "scripts" / "lib" / "verify")  # fmt: skip
    with results.check("promtool check"):
        run("promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    with results.check("amtool check-config"):
        run("amtool", "check-config", DEPLOY / "alertmanager" / "alertmanager.yml")
    with results.check("promtool test rules"):
        run("promtool", "test", "rules", *sorted((DEPLOY / "prometheus" / "tests").glob("*.yml")))
    dashboards.check_files(results)
    for folder in CONFIGURATIONS:
        for service in SERVICES:
            path = DEPLOY / folder / f"{service}.toml"
            with results.check(f"{service} and its schema accept {path.relative_to(ROOT)}"):
                settings.accepts(service, path, binaries)
                settings.fits_schema(service, path, binaries)
    compose_file.check(results, binaries)


def scripts():
    """Every shell script of the repository, by its first line."""
    places = [ROOT / "scripts", ROOT / ".ci", DEPLOY]
    found = sorted(path for place in places for path in place.rglob("*") if path.is_file() and is_script(path))
    names = {path.name for path in found}
    expect({"deploy-check", "prerequisites.sh", "build.sh", "run", "check", "entrypoint"} <= names, names)
    return found


def is_script(path):
    with path.open("rb") as file:
        first = file.readline()
    return first.startswith(b"#!") and b"sh" in first or first.startswith(b"# shellcheck shell=")
