#!/usr/bin/env python3
"""Find import cycles between the files of a crate: two files of which each needs a name that the other defines.

A name counts for the file that defines it: `pub use` is followed. Tests and code only for them are left out, and so is
what a module reaches through a method. Exits 1 and prints each cycle with the names that close it.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VIS = r"(?:pub(?:\([^)]*\))?\s+)?"
ITEM = re.compile(
    rf"^{VIS}(?:default\s+)?(?:const\s+|unsafe\s+|async\s+|extern\s+\"C\"\s+)*"
    r"(?:struct|enum|union|trait|fn|const|static|type|macro_rules!)\s+(\w+)",
    re.MULTILINE,
)
USE = re.compile(r"^((?:pub(?:\([^)]*\))?\s+)?)use\s+([^;]+);", re.MULTILINE)
PATH = re.compile(r"(?<![\w:])(?:\w+::)+\w+")
NOISE = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"', re.DOTALL)
TEST_ITEM = re.compile(r"#\[cfg\((?:any\()?test[^\n]*\]\s*\n(?:#\[[^\n]*\n)*([^\n{;]*)([{;])")


def code(text):
    """The text without comments, strings and items that only tests compile."""
    text = NOISE.sub(lambda found: '""' if found.group().startswith('"') else "", text)
    while found := TEST_ITEM.search(text):
        end = found.end()
        if "use" in found.group(1).split():
            end = text.index(";", found.start()) + 1
        elif found.group(2) == "{":
            close = re.compile(r"^\}", re.MULTILINE).search(text, end)
            end = close.end() if close else len(text)
        text = text[: found.start()] + text[end:]
    return text


def leaves(tree):
    """The paths of a use tree, each as (segments, alias)."""
    tree = tree.strip()
    opening = tree.find("{")
    if opening < 0:
        path, _, alias = tree.partition(" as ")
        segments = path.strip().split("::")
        return [(segments, alias.strip() or segments[-1])]
    parts, depth, part = [], 0, ""
    for letter in tree[opening + 1 : tree.rindex("}")]:
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += letter
    prefix = tree[:opening]
    return [leaf for part in [*parts, part] if part.strip() for leaf in leaves(prefix + part.strip())]


class Crate:
    """The modules of one crate: what each defines and imports, and which others it needs."""

    def __init__(self, source):
        self.items, self.imports, self.passed, self.paths, self.files = {}, {}, {}, {}, {}
        for file in sorted(source.rglob("*.rs")):
            module = file.relative_to(source).with_suffix("").parts
            if "bin" in module or "tests" in module or module[-1] == "main":
                continue
            module = () if module == ("lib",) else module[:-1] if module[-1] == "mod" else module
            text = code(file.read_text())
            self.files[module] = file.relative_to(ROOT)
            self.items[module] = set(ITEM.findall(text))
            self.imports[module], self.passed[module] = {}, set()
            globs = self.imports[module].setdefault("*", [])
            for visibility, tree in USE.findall(text):
                for segments, alias in leaves(re.sub(r"\s+", " ", tree)):
                    if segments[-1] == "self":
                        segments = segments[:-1]
                        alias = segments[-1] if alias == "self" else alias
                    if alias == "*":
                        globs.append(segments[:-1])
                    else:
                        self.imports[module][alias] = segments
                        if visibility:
                            self.passed[module].add(alias)
            self.paths[module] = {tuple(path.split("::")) for path in PATH.findall(USE.sub("", text))}

    def needed(self, module, segments, seen=()):
        """The module that defines what `segments` name in `module`, or None outside of this crate."""
        if (module, tuple(segments)) in seen:
            return None
        seen = (*seen, (module, tuple(segments)))
        at, rest = module, list(segments)
        if rest[0] == "crate":
            at, rest = (), rest[1:]
        while rest and rest[0] in ("self", "super"):
            at = at[:-1] if rest[0] == "super" else at
            rest = rest[1:]
        while rest:
            name = rest[0]
            if (*at, name) in self.items:
                at, rest = (*at, name), rest[1:]
            elif name in self.items.get(at, ()):
                return at
            elif name in self.imports.get(at, ()):
                path = self.imports[at][name]
                return self.needed(at, path + rest[1:], seen) if self.inside(at, path) else None
            else:
                for glob in self.imports.get(at, {}).get("*", ()):
                    if self.inside(at, glob) and (found := self.needed(at, [*glob, *rest], seen)):
                        return found
                return None
        return None

    def inside(self, module, path):
        """Whether the path of a `use` in `module` leads to this crate."""
        return path[0] in ("crate", "self", "super") or (*module, path[0]) in self.items

    def edges(self):
        edges = {module: {} for module in self.items}
        for module in self.items:
            # A `pub use` passes a name on and needs nothing.
            imports = [path for alias, path in self.imports[module].items() if alias not in {"*", *self.passed[module]}]
            for path in [*imports, *self.paths[module]]:
                if found := self.needed(module, path):
                    edges[module].setdefault(found, set()).add(path[-1])
            edges[module].pop(module, None)
        return edges


def cycles(edges):
    """The strongly connected components of more than one module (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(module):
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in edges[module]:
            if target not in index:
                visit(target)
            if target in stack:
                low[module] = min(low[module], low[target])
        if low[module] == index[module]:
            component = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(component) > 1:
                found.append(component)

    for module in edges:
        if module not in index:
            visit(module)
    return found


def main():
    sys.setrecursionlimit(10_000)
    count = files = imports = 0
    for source in sorted(ROOT.glob("crates/*/src")):
        crate = Crate(source)
        files += len(crate.items)
        edges = crate.edges()
        imports += sum(map(len, edges.values()))
        for component in cycles(edges):
            count += 1
            print(f"import cycle of {len(component)} files:", file=sys.stderr)
            for module in sorted(component):
                for target in sorted(component):
                    if names := edges[module].get(target):
                        print(f"  {crate.files[module]} -> {crate.files[target]}: {', '.join(sorted(names))}", file=sys.stderr)
    print(f"imports: {imports} between {files} files, {count} cycles")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
