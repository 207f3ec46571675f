"""Builds the images and checks their properties."""

import json
import os
import shutil
import time
from datetime import datetime
from pathlib import Path

import engine
from results import eventually, expect
from workspace import DEPLOY, ROOT, WORK, run

TARGETS = ["publisher", "streamer", "ingester", "random-user"]
SERVICES = TARGETS[:3]
TAG = "0.2.0"
LARGEST = 60_000_000
SLOWEST_START = 0.3


def check(results, binaries):
    with results.check("base images"):
        engine.base_images(with_rust=binaries is None)
    for image in engine.OTHERS:
        with results.check(f"substitute for {image}"):
            engine.stand_in(image)
    if binaries is None:
        with results.check("a changed source does not rebuild the dependencies"):
            dependencies()
    for target in TARGETS:
        how = "from the source" if binaries is None else "from built binaries"
        with results.check(f"image {target}, {how}"):
            build(target, binaries)
    for target in TARGETS:
        with results.check(f"image {target} is small, not root, labelled, without a shell"):
            check_image(target)
    for service in SERVICES:
        with results.check(f"{service} starts within {SLOWEST_START} s with a read-only root and no capabilities"):
            start(service)


def needed_by(part):
    """Fails with the part to run first if an image is missing."""
    expected = [engine.DEBIAN, *engine.OTHERS, *(f"affluent/{target}:{TAG}" for target in TARGETS)]
    missing = [image for image in expected if not engine.exists(image)]
    expect(not missing, f"part {part} needs the images of part images (--only images --only {part}): {missing}")


def binaries_of(folder):
    """Copies the binaries out of the built images."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for target in TARGETS:
        name = "testkit" if target == "random-user" else target
        container = engine.podman("create", f"affluent/{target}:{TAG}")
        try:
            engine.podman("cp", f"{container}:/{name}", folder / name)
        finally:
            engine.podman("rm", container)
    return folder


def dependencies():
    """Builds the stage from the tree and from one with a changed source. Both images must be equal."""
    tag = "affluent/dependencies:check"
    seen = []
    for context in [ROOT, changed()]:
        engine.build(context, tag, "--layers", "--file", DEPLOY / "Dockerfile", "--target", "dependencies",
                     *arguments())  # fmt: skip
        seen.append(engine.inspect("image", tag)["Id"])
    expect(seen[0] == seen[1], f"images differ: {seen}")


def changed():
    context = WORK / "context" / "changed"
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir(parents=True)
    run("cp", "--archive", ".cargo", ".dockerignore", "Cargo.toml", "Cargo.lock", "crates", context)
    with (context / "crates/streamer/src/lib.rs").open("a") as source:
        source.write("// Another line.\n")
    return context


def arguments():
    return ["--build-arg", f"DEBIAN_IMAGE={engine.DEBIAN}", "--build-arg", f"RUST_IMAGE={engine.RUST}"]


def build(target, binaries):
    dockerfile, context = DEPLOY / "Dockerfile", ROOT
    if binaries is not None:
        dockerfile, context = without_compiling(binaries)
    engine.build(context, f"affluent/{target}:{TAG}", "--layers", "--file", dockerfile, "--target", target,
                 *arguments(), "--build-arg", f"REVISION={run('git', 'rev-parse', 'HEAD').strip()}")  # fmt: skip


def without_compiling(binaries):
    """The Dockerfile with a first stage that copies binaries instead of compiling them."""
    context = WORK / "context" / "binaries"
    shutil.rmtree(context, ignore_errors=True)
    (context / "out").mkdir(parents=True)
    for name in [*SERVICES, "testkit"]:
        run("strip", "-o", context / "out" / name, binaries / name)
    before, after = (DEPLOY / "Dockerfile").read_text().split("FROM ${RUST_IMAGE} AS dependencies\n")
    stages = after[after.index("\nFROM ${DEBIAN_IMAGE} ") :]
    path = context / "Dockerfile"
    path.write_text(f"{before}FROM scratch AS compile\nCOPY out /out\n{stages}")
    return path, context


def check_image(target):
    image = f"affluent/{target}:{TAG}"
    found = engine.inspect("image", image)
    print(f"        {found['Size'] / 1e6:.1f} MB")
    expect(found["Size"] <= LARGEST, f"{found['Size']} bytes")
    expect(found["Config"]["User"] == "65532:65532", f"user {found['Config']['User']}")
    for label in ["title", "description", "version", "revision", "licenses"]:
        expect(found["Labels"].get(f"org.opencontainers.image.{label}"), f"no label {label}")
    # 126, 127: no such program.
    engine.podman("run", "--rm", "--network=none", "--entrypoint=/bin/sh", image, "-c", "true", accept=(126, 127))


def start(service):
    """Measures from the process's start, by the kernel, to its first log line, by its own clock."""
    prefix = service.upper()
    container = engine.podman("run", "--detach", "--read-only", "--cap-drop=ALL", "--network=none",
                              "--security-opt=no-new-privileges", "--env", f"{prefix}__PROCESS__LOG_FORMAT=json",
                              f"affluent/{service}:{TAG}")  # fmt: skip
    try:
        line = eventually("a line in the log", lambda: first_line(container), 10, pause=0.1)
        took = moment(json.loads(line)["timestamp"]) - began(engine.inspect("container", container)["State"]["Pid"])
        # The kernel's resolution is 10 ms.
        expect(took > -0.02, f"the first line is {-took:.3f} s before the start")
        print(f"        {took * 1000:.0f} ms")
        expect(took <= SLOWEST_START, f"{took:.3f} s")
        response = engine.podman("exec", container, f"/{service}", "healthcheck")
        expect('"live":true' in response, response)
    finally:
        engine.podman("rm", "--force", "--time=5", container)


def began(process):
    """Start time of a process in seconds since 1970, including the engine's setup before `exec`."""
    # The 20th field after the name, in ticks since boot. The name may contain anything.
    ticks = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
    up = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")


def first_line(container):
    logs = run("podman", "logs", container, env=engine.ENVIRONMENT)
    # Podman's own warnings may come first.
    return next((line for line in logs.splitlines() if line.startswith("{")), None)


def moment(text):
    """Seconds of an RFC 3339 instant. Its fraction may have more digits than Python accepts."""
    whole, _, rest = text.replace("Z", "+00:00").partition(".")
    fraction = rest.partition("+")[0]
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")
