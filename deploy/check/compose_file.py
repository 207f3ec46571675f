"""Checks docker-compose.yml without running it: images, variables, credentials."""

import hashlib
import os
import re
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import images
import settings
import tomllib
import yaml
from results import eventually, expect
from workspace import BIN, DEPLOY, ROOT, run

FILE = ROOT / "docker-compose.yml"
LIVE = DEPLOY / "compose" / "live.yml"
# Optional variables of docker-compose.yml.
VARIABLES = {"PUBLISHER_TOKEN", "INGESTER_TOKEN", "GRAFANA_PASSWORD", "AFFLUENT_VERSION"}


def check(results, binaries):
    with results.check("compose builds the checked images under the names that it runs"):
        builds()
    with results.check("compose requires no variable, and .env.example lists each one, commented out"):
        variables()
    with results.check("compose: tokens are generated, kept, and configurable"):
        credentials()
    with results.check("compose: each credentials volume is mounted by its owner only"):
        secrets()
    with results.check("compose: live.yml switches the ingester to randomuser.me and disables the bundled API"):
        live(binaries)


def services(path=FILE):
    return yaml.safe_load(path.read_text())["services"]


def builds():
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    expect(version == images.TAG, f"the workspace has version {version}, the images {images.TAG}")
    built = {name: each for name, each in services().items() if "build" in each}
    expect({each["build"]["target"] for each in built.values()} == set(images.TARGETS), sorted(built))
    for name, each in services().items():
        if name not in built:
            expect(not each["image"].startswith("affluent/"), f"{name} is not built")
            continue
        build, target = each["build"], each["build"]["target"]
        # Like the other parts build them.
        expect(build == {"context": ".", "dockerfile": "deploy/Dockerfile", "target": target}, f"{name}: {build}")
        expect(f" AS {target}\n" in dockerfile, f"{name}: the Dockerfile has no stage {target}")
        expect(each["image"] == f"affluent/{target}:${{AFFLUENT_VERSION:-{images.TAG}}}", f"{name}: {each['image']}")
        # The names are free in public registries.
        expect(each["pull_policy"] == "build", f"{name} may be pulled from a registry")
        entry = each["healthcheck"]["test"][1] if "healthcheck" in each else f"/{target}"
        expect(entry == f"/{target}", f"{name} is checked with {entry}")


def variables():
    used = re.findall(r"(?<!\$)\$\{([A-Z_]+)([^}]*)\}", FILE.read_text() + LIVE.read_text())
    expect({name for name, _ in used} == VARIABLES, used)
    for name, default in used:
        expect(default.startswith(":-"), f"{name} has no default: {default}")
    lines = (ROOT / ".env.example").read_text().splitlines()
    offered = {line.split("=")[0].lstrip("#") for line in lines if re.match(r"#?[A-Z_]+=", line)}
    expect(offered == VARIABLES | {"COMPOSE_FILE"}, offered)
    set_there = [line for line in lines if re.match("[A-Z_]+=", line)]
    expect(not set_there, f"a copy would change the setup: {set_there}")


def credentials():
    """Runs the commands of the file in a temporary folder."""
    service = services()["credentials"]
    expect(service["entrypoint"] == ["bash", "-euc"], service["entrypoint"])
    commands = service["command"][0].replace("$$", "$")
    with tempfile.TemporaryDirectory() as folder:
        for volume in service["volumes"]:
            Path(folder, Path(volume.split(":")[1]).name).mkdir()
        commands = commands.replace("/run/credentials", folder)
        first = generate(commands, folder)
        for path in ["ingester/publisher-token", "operator/ingester-token", "grafana/password"]:
            expect(re.fullmatch("[0-9a-f]{64}", first[path]), f"{path}: {first[path]}")
        expect(len(set(first.values())) == len(first), "two credentials are equal")
        check_hashes(first)
        expect(generate(commands, folder) == first, "generated tokens are not kept")
        given = generate(commands, folder, PUBLISHER_TOKEN="one", INGESTER_TOKEN="another", GRAFANA_PASSWORD="third")
        expected = {"ingester/publisher-token": "one", "operator/ingester-token": "another",
                    "grafana/password": "third"}  # fmt: skip
        expect({path: given[path] for path in expected} == expected, given)
        check_hashes(given)
        expect(generate(commands, folder) == given, "configured tokens are not kept")


def check_hashes(found):
    for path, name, token in [("publisher/tokens", "ingester", "ingester/publisher-token"),
                              ("ingester/tokens", "operator", "operator/ingester-token")]:  # fmt: skip
        hashed = hashlib.sha256(found[token].encode()).hexdigest()
        expect(found[path] == f"{name} {hashed}", f"{path}: {found[path]}")


def generate(commands, folder, **given):
    """Runs the commands until they are ready, ends them like an engine, and returns the files' contents."""
    environment = {"PATH": os.environ["PATH"], "PUBLISHER_TOKEN": "", "INGESTER_TOKEN": "", "GRAFANA_PASSWORD": ""}
    last = Path(folder, "operator", "ready")
    last.unlink(missing_ok=True)
    child = subprocess.Popen(["bash", "-euc", commands], env=environment | given, start_new_session=True)
    try:
        eventually("the tokens", lambda: child.poll() is not None or last.exists(), 20, pause=0.05)
        child.terminate()
        expect(child.wait(10) == 0, f"exit code {child.returncode}")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_text().removesuffix("\n") for path in files}


def secrets():
    """Each volume is mounted by `credentials` and by the one service that needs it."""
    mounted = {}
    for name, each in services().items():
        for volume in each.get("volumes", []):
            source, target, *mode = volume.split(":")
            if source.endswith("-credentials"):
                mounted.setdefault(source, set()).add(name)
                expect(name == "credentials" or (target, mode) == ("/run/credentials", ["ro"]), f"{name}: {volume}")
    expected = {f"{name}-credentials": {"credentials", name} for name in ["publisher", "ingester", "grafana"]}
    expect(mounted == expected | {"operator-credentials": {"credentials"}}, mounted)


def live(binaries):
    # Part `docker` builds Docker's Compose.
    engines = ["podman-compose", *(["docker-compose"] if (BIN / "docker-compose").exists() else [])]
    for compose in engines:
        text = run(compose, "--env-file", "/dev/null", "--file", FILE, "--file", LIVE, "config")
        found = yaml.safe_load(text[text.index("name: affluent") :])
        ingester = found["services"]["ingester"]
        variables = {name: str(value) for name, value in ingester["environment"].items()}
        expect("randomuser.me" in variables["INGESTER__SOURCE__URL"], variables)
        volumes = [it if isinstance(it, str) else f"{it['source']}:{it['target']}" for it in ingester["volumes"]]
        states = [volume for volume in volumes if volume.endswith(":/var/lib/ingester")]
        expect(states == ["ingester-live:/var/lib/ingester"], f"{compose}: {states}")
        expect(sum(name.startswith("ingester") for name in found["services"]) == 1, sorted(found["services"]))
        expect(found["services"].get("random-user", {"profiles": 1}).get("profiles"), "the bundled API is enabled")
        settings.accepts("ingester", DEPLOY / "compose" / "ingester.toml", binaries, variables)
        # The check itself must be able to fail.
        wrong = {**variables, "INGESTER__SCHEDULE__INTERVAL": "soon"}
        settings.accepts("ingester", DEPLOY / "compose" / "ingester.toml", binaries, wrong, accept=(78,))
