#!/usr/bin/env python3
"""Checks that the images are built from every file that the crates include at compile time.

Such a file outside of the crates must be copied by deploy/Dockerfile and admitted by .dockerignore. Compiling in a container
takes too long for the gate.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = re.compile(r'include_(?:str|bytes)!\(\s*"([^"]+)"')


def included():
    """The included files, relative to the root, each with a source that includes it."""
    for source in sorted((ROOT / "crates").glob("*/src/**/*.rs")):
        for path in INCLUDE.findall(source.read_text(encoding="utf-8")):
            yield (source.parent / path).resolve().relative_to(ROOT), source.relative_to(ROOT)


def copied():
    """The folders and files that the stage `compile` copies from the repository."""
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    stage = dockerfile.split(" AS compile\n", 1)[1].split("\nFROM ", 1)[0]
    return {Path(path) for path in re.findall(r"^COPY (\S+) \S+$", stage, re.MULTILINE)}


def admitted():
    """The folders and files that reach the build."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return {Path(line[1:]) for line in lines if line.startswith("!")}


def main():
    copies, context = copied(), admitted()
    missing = [
        f"image: {source} includes {path}, which {place} leaves out"
        for path, source in included()
        for place, known in (("deploy/Dockerfile", copies), (".dockerignore", context))
        if not {path, *path.parents} & known
    ]
    print("\n".join(missing), file=sys.stderr, end="\n" if missing else "")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
