"""What can be said of the files without running anything but their own checkers."""

import os

import dashboards
import yaml
from place import DEPLOY, ROOT, WORK, run

SERVICES = ["ingester", "publisher", "streamer"]
CONFIGURATIONS = ["compose", "kubernetes/base/config", "kubernetes/overlays/prod/config"]


def check(ledger, binaries):
    with ledger.check("hadolint"):
        run("hadolint", DEPLOY / "Dockerfile", *sorted((DEPLOY / "check" / "images").glob("*/Dockerfile")))
    with ledger.check("shellcheck"):
        run("shellcheck", "scripts/deploy-check", *sorted((DEPLOY / "check" / "images").glob("*/entrypoint")))
    with ledger.check("actionlint"):
        run("actionlint", *sorted((ROOT / ".github" / "workflows").glob("*.yml")))
    with ledger.check("yamllint"):
        run("yamllint", "--strict", "--config-file", DEPLOY / "check" / "yamllint.yml", "docker-compose.yml", ".github",
            DEPLOY / "kubernetes", DEPLOY / "check", DEPLOY / "prometheus", DEPLOY / "grafana")  # fmt: skip
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
                accepts(service, path, binaries)
    with ledger.check("compose names what .env.example gives"):
        given = {line.split("=")[0].lstrip("#") for line in (ROOT / ".env.example").read_text().splitlines()}
        text = (ROOT / "docker-compose.yml").read_text()
        yaml.safe_load(text)
        for name in ["PUBLISHER_TOKEN", "INGESTER_TOKEN", "GRAFANA_PASSWORD", "AFFLUENT_VERSION"]:
            assert f"${{{name}:" in text and name in given, name


def accepts(service, path, binaries):
    """With files in place of the secrets that it names: their content is not what is checked."""
    secret = WORK / "secret"
    secret.write_text("a-trial\n")
    lines = [
        f'{line.split(" = ")[0]} = "{secret}"' if "_file = " in line else line for line in path.read_text().splitlines()
    ]
    copy = WORK / f"{service}.toml"
    copy.write_text("\n".join(lines))
    run(binaries / service, "--config", copy, "--check-config", env={"PATH": os.environ["PATH"]})
