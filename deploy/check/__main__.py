"""Checks the deployment on real runs: see scripts/deploy-check --help."""

import argparse
import os
import signal
import sys
from pathlib import Path

import cluster
import compose_file
import docker
import engine
import images
import lints
import pipeline
import pods
from results import CheckResults
from workspace import TARGET

PARTS = ["lints", "kubernetes", "images", "pods", "compose", "docker"]
# Parts that need containers. All but the first need the images that the first builds.
CONTAINED = PARTS[2:]


def main():
    arguments = argparse.ArgumentParser(prog="scripts/deploy-check", description=__doc__)
    without = "build images from the binaries in DIR, such as target/release, instead of compiling them"
    arguments.add_argument("--binaries", type=Path, metavar="DIR", help=without)
    arguments.add_argument("--only", choices=PARTS, action="append", help="run only this part; repeatable")
    given = arguments.parse_args()
    # SIGTERM runs the cleanup, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    clear_environment()
    results = CheckResults()
    try:
        check(results, given.only or PARTS, given.binaries and given.binaries.resolve())
    finally:
        print(results.summary(), flush=True)
    return 1 if results.failed else 0


def clear_environment():
    """Removes variables that configure Compose, so it is checked with its defaults."""
    for name in list(os.environ):
        if name in compose_file.VARIABLES or name.startswith("COMPOSE_"):
            del os.environ[name]


def check(results, parts, binaries):
    built = binaries or (TARGET / "release").resolve()
    if "lints" in parts:
        with results.check("part lints"):
            lints.check(results, built)
    if "kubernetes" in parts:
        with results.check("part kubernetes"):
            cluster.check(results)
    contained = [part for part in CONTAINED if part in parts]
    if not contained:
        return
    try:
        with results.check("this machine can run containers"):
            engine.prepare()
        for part in contained:
            with results.check(f"part {part}"):
                in_containers(results, part, binaries)
    finally:
        engine.leave()


def in_containers(results, part, binaries):
    if part == "images":
        images.check(results, binaries)
        return
    images.needed_by(part)
    if part == "pods":
        pods.check(results)
    if part == "compose":
        pipeline.check(results, engine.Podman())
    if part == "docker":
        docker.check(results)


if __name__ == "__main__":
    sys.exit(main())
