"""Everything that the deployment promises, held against real runs: see scripts/deploy-check --help."""

import argparse
import os
import signal
import sys
from pathlib import Path

import cluster
import composition
import docker
import engine
import images
import lints
import pipeline
import pods
from ledger import Ledger
from place import TARGET

PARTS = ["lints", "kubernetes", "images", "pods", "compose", "docker"]
# In containers. All but the first need the images that it makes.
CONTAINED = PARTS[2:]


def main():
    arguments = argparse.ArgumentParser(prog="scripts/deploy-check", description=__doc__)
    without = "images from the binaries in DIR, such as target/release, in place of compiling them"
    arguments.add_argument("--binaries", type=Path, metavar="DIR", help=without)
    arguments.add_argument("--only", choices=PARTS, action="append", help="this part alone; may be given several times")
    given = arguments.parse_args()
    # What is taken down at the end is taken down then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    alone()
    ledger = Ledger()
    try:
        check(ledger, given.only or PARTS, given.binaries and given.binaries.resolve())
    finally:
        print(ledger.summary(), flush=True)
    return 1 if ledger.failed else 0


def alone():
    """Nothing of this machine decides what compose does: it is checked as it is for who has set nothing."""
    for name in list(os.environ):
        if name in composition.VARIABLES or name.startswith("COMPOSE_"):
            del os.environ[name]


def check(ledger, parts, binaries):
    built = binaries or (TARGET / "release").resolve()
    if "lints" in parts:
        with ledger.check("part lints"):
            lints.check(ledger, built)
    if "kubernetes" in parts:
        with ledger.check("part kubernetes"):
            cluster.check(ledger)
    contained = [part for part in CONTAINED if part in parts]
    if not contained:
        return
    try:
        with ledger.check("containers can be run here"):
            engine.prepare()
        for part in contained:
            with ledger.check(f"part {part}"):
                in_containers(ledger, part, binaries)
    finally:
        engine.leave()


def in_containers(ledger, part, binaries):
    if part == "images":
        images.check(ledger, binaries)
        return
    images.needed_by(part)
    if part == "pods":
        pods.check(ledger)
    if part == "compose":
        pipeline.check(ledger, engine.Podman())
    if part == "docker":
        docker.check(ledger)


if __name__ == "__main__":
    sys.exit(main())
