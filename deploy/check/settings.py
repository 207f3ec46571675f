"""Checks the committed configurations with the services' --check-config, which also reads the files that they name."""

import hashlib
import json
import os
import re

import tomllib
from jsonschema import Draft202012Validator
from results import expect
from workspace import WORK, run

FILES = WORK / "settings"
# By the end of a key's name.
STAND_INS = {
    "_file": FILES / "secret",
    "tokens_path": FILES / "tokens",
    "certificate_path": FILES / "certificate.pem",
    "key_path": FILES / "key.pem",
    "ca_path": FILES / "certificate.pem",
    "ca_location": FILES / "certificate.pem",
}


def accepts(service, path, binaries, variables=None, accept=(0,)):
    """Runs --check-config with a generated file for each secret, token file, certificate and key."""
    generate()
    copy = WORK / f"{service}.toml"
    copy.write_text("".join(map(substituted, path.read_text().splitlines(keepends=True))))
    # A clean environment, since variables override the file.
    given = [f"{name}={value}" for name, value in (variables or {}).items()]
    words = ["env", "--ignore-environment", f"PATH={os.environ['PATH']}", *given]
    run(*words, binaries / service, "--config", copy, "--check-config", accept=accept)


def fits_schema(service, path, binaries):
    """Compares a file with the schema for editors, which must reject it with a misspelt key in any section."""
    schema = Draft202012Validator(json.loads(run(binaries / service, "config", "schema")))
    given = tomllib.loads(path.read_text())
    errors = [error.message for error in schema.iter_errors(given)]
    expect(not errors, errors)
    for section in given:
        expect(not schema.is_valid({**given, section: {**given[section], "mispelt": 1}}), f"{section} accepts any key")


def substituted(line):
    """The line with a generated file in place of the one that it names."""
    key = re.match(r"(\w+) = ", line)
    for suffix, file in STAND_INS.items():
        if key and key[1].endswith(suffix):
            return f'{key[1]} = "{file}"\n'
    return line


def generate():
    """Writes the stand-ins, unless an earlier check has: the certificate is its own authority."""
    FILES.mkdir(parents=True, exist_ok=True)
    (FILES / "secret").write_text("a-trial\n")
    (FILES / "tokens").write_text(f"caller {hashlib.sha256(b'a-trial').hexdigest()}\n")
    certificate, key = FILES / "certificate.pem", FILES / "key.pem"
    if not (certificate.exists() and key.exists()):
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN=affluent.test",
            "-keyout", key, "-out", certificate)  # fmt: skip
