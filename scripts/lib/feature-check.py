#!/usr/bin/env python3
"""Check that every selection of packages builds dependencies with the same features.

Cargo unifies features over the selected packages only. Without this check `cargo test -p streamer` and the gate would
compile the same dependency twice, and tests would not run what is shipped. Each crate depends on `workspace-hack`,
which turns on the union of all features; `feature-check.py --write` writes its Cargo.toml.

Exits 1 and names the crates whose features differ.
"""
import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HACK = ROOT / "crates" / "workspace-hack" / "Cargo.toml"
LINE = re.compile(r"^(\S+) v(\S+?)(?: \([^)]*\))* ?([^ ()]*)(?: \(\*\))?$")
HEADER = """# The union of the features that the workspace's crates need of their dependencies, so that each dependency is compiled
# once, whichever packages are selected. Written by scripts/lib/feature-check.py --write.
[package]
name = "workspace-hack"
version.workspace = true
edition.workspace = true
rust-version.workspace = true
license.workspace = true
publish.workspace = true
description = "Unifies the features of dependencies over the workspace; no code."

[lints]
workspace = true

"""


def run(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def host():
    return re.search(r"^host: (\S+)", run("rustc", "-vV"), re.MULTILINE)[1]


def tree(target, edges, selection):
    """The feature sets of each third-party crate along these edges."""
    out = run("cargo", "tree", "--locked", "--prefix", "none", "--format", "{p} {f}", "--target", target,
              "--edges", edges, *selection)
    found = defaultdict(set)
    for line in out.splitlines():
        match = LINE.match(line.replace(" (proc-macro)", ""))
        # Cargo prints a path after each crate of the workspace.
        if match and "(/" not in line:
            found[match[1], match[2]].add(match[3])
    return found


def features(target, selection, edges):
    """The same by kind: what the target's code depends on, and what only build scripts and procedural macros do."""
    normal = tree(target, f"{edges},no-proc-macro", selection)
    every = tree(target, f"{edges},build", selection)
    return {("dependencies", *crate): sets for crate, sets in normal.items()} | {
        ("build-dependencies", *crate): sets for crate, sets in every.items() if crate not in normal
    }


def selections():
    members = json.loads(run("cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"))["packages"]
    for name in sorted(member["name"] for member in members):
        yield f"cargo build -p {name}", ("--package", name), "normal"
        yield f"cargo test -p {name}", ("--package", name), "normal,dev"
    yield "cargo build --workspace", ("--workspace",), "normal"


def differences(target):
    union = features(target, ("--workspace",), "normal,dev")
    found = defaultdict(list)
    for command, selection, edges in selections():
        for crate, sets in features(target, selection, edges).items():
            if not sets <= union.get(crate, sets):
                found[crate].append(command)
    return union, found


def write(target):
    """Add what differs until nothing does."""
    entries = {}
    for _ in range(6):
        union, found = differences(target)
        if not found:
            break
        for crate in found:
            kind, name, version = crate
            every = sorted({feature for features in union[crate] for feature in features.split(",") if feature})
            default = "default" in every
            every = [feature for feature in every if feature != "default"]
            entries[kind, name] = (f'{name} = {{ version = "{version.split("+")[0]}", default-features = {str(default).lower()}'
                             f', features = {json.dumps(every)} }}')
        text = HEADER
        for kind in ("dependencies", "build-dependencies"):
            lines = [line for key, line in sorted(entries.items()) if key[0] == kind]
            text += f"[{kind}]\n" + "\n".join(lines) + "\n\n"
        HACK.write_text(text.rstrip() + "\n")
        subprocess.run(["cargo", "metadata", "--format-version", "1"], cwd=ROOT, capture_output=True, check=True)
    print(f"features: {len(entries)} crates in {HACK.relative_to(ROOT)}")


def main(arguments):
    target = host()
    if "--write" in arguments:
        write(target)
    _, found = differences(target)
    for (kind, name, version), commands in sorted(found.items()):
        print(f"features: {name} {version} ({kind}) is built with other features by: {', '.join(commands)}", file=sys.stderr)
    if found:
        print("features: run scripts/lib/feature-check.py --write", file=sys.stderr)
        return 1
    print("features: every selection builds each dependency with the same features")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
