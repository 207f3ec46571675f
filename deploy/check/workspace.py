"""Paths, and programs with a timeout."""

import os
import subprocess
from pathlib import Path

from results import Failed

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
WORK = TARGET / "deploy-check"
BIN = WORK / "bin"
VENV = WORK / "venv" / "bin"


def run(*command, timeout=120, cwd=ROOT, env=None, text=None, accept=(0,)):
    """Returns standard output and error of `command`. An exit code outside `accept` fails the check."""
    environment = {**os.environ, "PATH": f"{BIN}:{VENV}:{os.environ['PATH']}", **(env or {})}
    words = [str(word) for word in command]
    try:
        ended = subprocess.run(
            words,
            cwd=cwd,
            env=environment,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{' '.join(words)}: timeout after {timeout} s") from error
    if ended.returncode not in accept:
        raise Failed(f"{' '.join(words)}: exit code {ended.returncode}\n{ended.stdout}")
    return ended.stdout
