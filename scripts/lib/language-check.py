#!/usr/bin/env python3
"""Measure the project's English: marker words in Markdown and Rust comments, sentence length in Markdown.

Usage: language-check.py [--list] [PATH...]    (default: every tracked Markdown and Rust file)

Limits: at most 10 marker words in 10,000 words, and a mean of at most 20 words a sentence in each Markdown document.
Each Rust file under crates/ begins with `//!` and what it is, or with its README. Exits 1 when a rule is broken.
--list prints each marker with its file and line. CONTRIBUTING.md explains the words.
"""
import re
import subprocess
import sys
from pathlib import Path

MAX_MARKERS = 10.0  # in 10,000 words
MAX_MEAN = 20.0  # words a sentence, in each document of at least MIN_SENTENCES
MIN_SENTENCES = 5

# Words and phrases for which the field has a term, or which hide the actor.
MARKERS = re.compile(
    r"""\b(?:
      told|hears?|heard|anew|mend(?:s|ed|ing)?|nobody|whoever|whichever|whatever|beside|besides|
      (?:goes|go|went|going)\s+on|(?:stands|lies|lie|stand)\s+(?:in|at|between|beside|there)|
      (?:is|are|was|be)\s+had|(?:hold|holds|held)\s+against|asked\s+for|by\s+chance|
      (?:a|the)\s+stretch(?:es)?|patience|by\s+hand|under\s+way|in\s+hand|
      makes?\s+up|made\s+up|that\s+is\s+none|speaks?\s+of|tells?\s+of|what\s+becomes\s+of|
      give[ns]?\s+up|gave\s+up|given\s+back|come[s]?\s+about|say[s]?\s+so
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`[^`\n]*`|\]\([^)]*\)|https?://\S+|<[^>\n]+>")
WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")
SENTENCE_END = re.compile(r"(?<=[.!?:;])[\"')*_]*\s+(?=[A-Z`\"'(*_\[0-9-])|\n\s*\n|\n\s*(?:[-*+]|\d+\.)\s+")


def blank(match):
    """Replace a match by spaces, so that line numbers stay."""
    return re.sub(r"[^\n]", " ", match.group())


def comments(text):
    """The comments of a Rust file, without code examples, line for line."""
    lines, fenced = [], False
    for line in text.split("\n"):
        found = re.match(r"\s*//[/!]?(.*)|.*?[;{},)]\s+//\s(.*)", line)
        body = (found.group(1) or found.group(2) or "") if found else ""
        if body.strip().startswith("```"):
            fenced, body = not fenced, ""
        lines.append("" if fenced else body)
    return INLINE.sub(blank, "\n".join(lines))


def prose(text):
    """A Markdown document without code, tables, headings and links."""
    text = INLINE.sub(blank, FENCE.sub(blank, text))
    return "\n".join("" if re.match(r"\s*(\||#)", line) else line for line in text.split("\n"))


def mean_sentence(text):
    """The mean number of words a sentence, or None for a document too short to judge."""
    lengths = [len(WORD.findall(part)) for part in SENTENCE_END.split(prose(text))]
    lengths = [length for length in lengths if length > 1]
    return sum(lengths) / len(lengths) if len(lengths) >= MIN_SENTENCES else None


def tracked():
    out = subprocess.run(["git", "ls-files", "*.md", "*.rs"], capture_output=True, text=True, check=True).stdout
    return [Path(name) for name in out.split("\n") if name and Path(name).is_file()]


def main(arguments):
    show = "--list" in arguments
    paths = [Path(a) for a in arguments if a != "--list"] or tracked()
    words = markers = 0
    failures = []
    for path in paths:
        if path.name in ("CHANGELOG.md",) or "peers" in path.parts and path.suffix != ".rs":
            continue
        text = path.read_text(encoding="utf-8")
        body = INLINE.sub(blank, FENCE.sub(blank, text)) if path.suffix == ".md" else comments(text)
        words += len(WORD.findall(body))
        for match in MARKERS.finditer(body):
            markers += 1
            if show:
                line = body.count("\n", 0, match.start()) + 1
                print(f"{path}:{line}: {' '.join(match.group().split())}")
        if path.suffix == ".md":
            mean = mean_sentence(text)
            if mean is not None and mean > MAX_MEAN:
                failures.append(f"{path}: {mean:.1f} words a sentence, at most {MAX_MEAN:.0f}")
        elif "crates" in path.parts and not text.startswith(("//! ", "#![doc = include_str!(")):
            failures.append(f"{path}: begin with `//!` and what the file is")
    rate = markers * 10_000 / max(words, 1)
    print(f"language: {markers} marker words in {words} words: {rate:.1f} in 10,000, at most {MAX_MARKERS:.0f}")
    if rate > MAX_MARKERS:
        failures.append("too many marker words; --list names them")
    for failure in failures:
        print(f"language: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
