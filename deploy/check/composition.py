"""docker-compose.yml as far as it can be judged without running it: what it builds, and the making of the tokens."""

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
from ledger import eventually, expect
from place import BIN, DEPLOY, ROOT, run

FILE = ROOT / "docker-compose.yml"
LIVE = DEPLOY / "compose" / "live.yml"
# What docker-compose.yml takes from outside, and must do without.
VARIABLES = {"PUBLISHER_TOKEN", "INGESTER_TOKEN", "GRAFANA_PASSWORD", "AFFLUENT_VERSION"}


def check(ledger, binaries):
    with ledger.check("compose builds the images that are checked, under the names that are run"):
        builds()
    with ledger.check("compose needs no variable, and .env.example has each that it takes, switched off"):
        variables()
    with ledger.check("compose: tokens are made up, kept, and taken from outside"):
        credentials()
    with ledger.check("compose: each volume of secrets is its owner's alone"):
        secrets()
    with ledger.check("compose: with live.yml the same ingester asks randomuser.me, and no API is brought along"):
        live(binaries)


def services(path=FILE):
    return yaml.safe_load(path.read_text())["services"]


def builds():
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    expect(version == images.TAG, f"the workspace is of version {version}, the images of {images.TAG}")
    built = {name: each for name, each in services().items() if "build" in each}
    expect({each["build"]["target"] for each in built.values()} == set(images.TARGETS), sorted(built))
    for name, each in services().items():
        if name not in built:
            expect(not each["image"].startswith("affluent/"), f"{name} is ours and is not built")
            continue
        build, target = each["build"], each["build"]["target"]
        # As the other parts build them.
        expect(build == {"context": ".", "dockerfile": "deploy/Dockerfile", "target": target}, f"{name}: {build}")
        expect(f" AS {target}\n" in dockerfile, f"{name}: the Dockerfile has no stage {target}")
        expect(each["image"] == f"affluent/{target}:${{AFFLUENT_VERSION:-{images.TAG}}}", f"{name}: {each['image']}")
        entry = each["healthcheck"]["test"][1] if "healthcheck" in each else f"/{target}"
        expect(entry == f"/{target}", f"{name} is asked by {entry}")


def variables():
    used = re.findall(r"(?<!\$)\$\{([A-Z_]+)([^}]*)\}", FILE.read_text() + LIVE.read_text())
    expect({name for name, _ in used} == VARIABLES, used)
    for name, default in used:
        expect(default.startswith(":-"), f"{name} has no default: {default}")
    lines = (ROOT / ".env.example").read_text().splitlines()
    offered = {line.split("=")[0].lstrip("#") for line in lines if re.match(r"#?[A-Z_]+=", line)}
    expect(offered == VARIABLES | {"COMPOSE_FILE"}, offered)
    set_there = [line for line in lines if re.match("[A-Z_]+=", line)]
    expect(not set_there, f"a copy of it would change what is run: {set_there}")


def credentials():
    """By the commands of the file, in a folder of this machine."""
    service = services()["credentials"]
    expect(service["entrypoint"] == ["bash", "-euc"], service["entrypoint"])
    commands = service["command"][0].replace("$$", "$")
    with tempfile.TemporaryDirectory() as folder:
        for volume in service["volumes"]:
            Path(folder, Path(volume.split(":")[1]).name).mkdir()
        commands = commands.replace("/run/credentials", folder)
        first = made(commands, folder)
        for path in ["ingester/publisher-token", "operator/ingester-token", "grafana/password"]:
            expect(re.fullmatch("[0-9a-f]{64}", first[path]), f"{path}: {first[path]}")
        expect(len(set(first.values())) == len(first), "one secret for two purposes")
        known_by_hash(first)
        expect(made(commands, folder) == first, "what was made up is not kept")
        given = made(commands, folder, PUBLISHER_TOKEN="a token", INGESTER_TOKEN="another", GRAFANA_PASSWORD="a third")
        wanted = {"ingester/publisher-token": "a token", "operator/ingester-token": "another",
                  "grafana/password": "a third"}  # fmt: skip
        expect({path: given[path] for path in wanted} == wanted, given)
        known_by_hash(given)
        expect(made(commands, folder) == given, "what was given is not kept")


def known_by_hash(found):
    for path, name, token in [("publisher/tokens", "ingester", "ingester/publisher-token"),
                              ("ingester/tokens", "operator", "operator/ingester-token")]:  # fmt: skip
        hashed = hashlib.sha256(found[token].encode()).hexdigest()
        expect(found[path] == f"{name} {hashed}", f"{path}: {found[path]}")


def made(commands, folder, **given):
    """What lies in each file once it says that it is ready; then it is told to end, as an engine does."""
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
    """Who mounts which: the one that makes them, and the one that needs them."""
    mounted = {}
    for name, each in services().items():
        for volume in each.get("volumes", []):
            source, target, *mode = volume.split(":")
            if source.endswith("-credentials"):
                mounted.setdefault(source, set()).add(name)
                expect(name == "credentials" or (target, mode) == ("/run/credentials", ["ro"]), f"{name}: {volume}")
    wanted = {f"{name}-credentials": {"credentials", name} for name in ["publisher", "ingester", "grafana"]}
    expect(mounted == wanted | {"operator-credentials": {"credentials"}}, mounted)


def live(binaries):
    # Docker's own is built by part `docker`.
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
        expect(found["services"].get("random-user", {"profiles": 1}).get("profiles"), "the bundled API is started")
        settings.accepts("ingester", DEPLOY / "compose" / "ingester.toml", binaries, variables)
        # And the check can fail.
        wrong = {**variables, "INGESTER__SCHEDULE__INTERVAL": "soon"}
        settings.accepts("ingester", DEPLOY / "compose" / "ingester.toml", binaries, wrong, accept=(78,))
