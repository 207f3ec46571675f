"""Everything that the deployment promises, held against real runs: see scripts/deploy-check --help."""

import argparse
import sys
from pathlib import Path

import cluster
import docker
import engine
import images
import lints
import pipeline
import pods
from ledger import Ledger
from place import TARGET

PARTS = ["lints", "kubernetes", "images", "pods", "compose", "docker"]


def main():
    arguments = argparse.ArgumentParser(prog="scripts/deploy-check", description=__doc__)
    without = "images from the binaries in DIR, such as target/release, in place of compiling them"
    arguments.add_argument("--binaries", type=Path, metavar="DIR", help=without)
    arguments.add_argument("--only", choices=PARTS, action="append", help="this part alone; may be given several times")
    given = arguments.parse_args()
    parts = given.only or PARTS
    ledger = Ledger()
    built = (given.binaries or TARGET / "release").resolve()
    if "lints" in parts:
        lints.check(ledger, built)
    if "kubernetes" in parts:
        cluster.check(ledger)
    contained = {"images", "pods", "compose", "docker"} & set(parts)
    if contained:
        engine.prepare()
    if "images" in parts:
        images.check(ledger, given.binaries and given.binaries.resolve())
    if "pods" in parts:
        pods.check(ledger)
    if "compose" in parts:
        pipeline.check(ledger, engine.Podman())
    if "docker" in parts:
        docker.check(ledger, built)
    if contained:
        engine.leave()
    print(ledger.summary())
    return 1 if ledger.failed else 0


if __name__ == "__main__":
    sys.exit(main())
