"""Reads a contract from a `.proto` file: the restricted grammar of docs/records.md, and nothing of the services."""
import re
from dataclasses import dataclass, field
from pathlib import Path

TOKEN = re.compile(
    r"""\s+ | //[^\n]* | /\*.*?\*/                                # skipped
      | (?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*|[0-9][A-Za-z0-9_.]*)
      | (?P<mark>[^\s])""",
    re.VERBOSE | re.DOTALL,
)
OPTIONS = "affluent.options.v1"
# These files are built in: they define the options and the only message that a field can have.
BUILT_IN = ("affluent/options/v1/options.proto", "google/protobuf/")
SCALARS = {
    "string": "text", "bool": "bool", "bytes": "bytes", "float": "float", "double": "double",
    "int32": "int32", "sint32": "int32", "sfixed32": "int32", "uint32": "uint32", "fixed32": "uint32",
    "int64": "int64", "sint64": "int64", "sfixed64": "int64",
}  # fmt: skip
DEFAULT_MAX_LENGTH = 512


class ContractError(Exception):
    """A contract that cannot be read."""


@dataclass
class Field:
    """A field of the record, and a column of the table."""

    name: str
    number: int
    # One of SCALARS' values, "uuid", "timestamp" or "enum".
    type: str
    presence: str  # "required", "optional", "list" or "map"
    names: tuple = ()  # of an enum
    max_length: int = DEFAULT_MAX_LENGTH
    email: bool = False
    integer_accepted: bool = False


@dataclass
class Contract:
    """A record: its resource, its primary key and its fields in the order of their numbers."""

    resource: str
    key: str
    clustering: list
    fields: list = field(default_factory=list)

    @property
    def primary_key(self):
        return [self.key, *self.clustering]

    @property
    def table(self):
        return "created_" + self.resource.replace("-", "_")

    @property
    def topic(self):
        return f"{self.resource}_created"


class Parser:
    """A cursor over the tokens of one file. Collects its messages and enums under their full names."""

    def __init__(self, source, name):
        self.name = name
        self.tokens = [
            (found.group(), found.lastgroup, source.count("\n", 0, found.start()) + 1)
            for found in TOKEN.finditer(source)
            if found.lastgroup
        ]
        self.at = 0
        self.package = ""
        self.imports = []
        self.messages = {}
        self.enums = {}

    def error(self, what):
        line = self.tokens[min(self.at, len(self.tokens) - 1)][2] if self.tokens else 1
        return ContractError(f"{self.name}:{line}: {what}")

    def peek(self):
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def take(self):
        token = self.peek()
        if not token:
            raise self.error("the file ends too early")
        self.at += 1
        return token

    def accept(self, token):
        if self.peek() == token:
            self.at += 1
            return True
        return False

    def expect(self, token):
        if not self.accept(token):
            raise self.error(f"expected {token!r}, found {self.peek()!r}")

    def path(self):
        """Reads a dotted name."""
        parts = [self.take()] if not self.accept(".") else [self.take()]
        while self.accept("."):
            parts.append(self.take())
        return ".".join(parts)

    def file(self):
        while self.peek():
            word = self.take()
            if word == "syntax":
                self.expect("=")
                if self.text() != "proto3":
                    raise self.error("the file is not proto3")
                self.expect(";")
            elif word == "package":
                self.package = self.path()
                self.expect(";")
            elif word == "import":
                if self.peek() in ("public", "weak"):
                    self.take()
                self.imports.append(self.text())
                self.expect(";")
            elif word == "message":
                self.message(self.package)
            elif word == "enum":
                self.enum(self.package)
            elif word == "option":
                self.option()
            elif word in ("extend", "service"):
                self.skip_block()
            elif word != ";":
                raise self.error(f"unexpected {word!r}")
        return self

    def text(self):
        """Reads a string literal."""
        token = self.take()
        if token[0] not in "\"'":
            raise self.error(f"expected a string, found {token!r}")
        return bytes(token[1:-1], "utf-8").decode("unicode_escape") if "\\" in token else token[1:-1]

    def skip_block(self):
        depth = 0
        while True:
            token = self.take()
            depth += (token == "{") - (token == "}")
            if depth == 0 and token in ("}", ";"):
                return

    def message(self, scope):
        name = self.take()
        full = f"{scope}.{name}" if scope else name
        message = self.messages[full] = {"options": {}, "fields": []}
        self.expect("{")
        while not self.accept("}"):
            word = self.peek()
            if word == "option":
                self.take()
                path, value = self.option()
                message["options"].setdefault(path, {})
                merge(message["options"], path, value)
            elif word == "message":
                self.take()
                self.message(full)
            elif word == "enum":
                self.take()
                self.enum(full)
            elif word == "reserved":
                while self.take() != ";":
                    pass
            elif word in ("oneof", "group", "extensions", "extend"):
                raise self.error(f"{word!r} is not supported in a record")
            elif not self.accept(";"):
                message["fields"].append(self.field())

    def field(self):
        label = self.take() if self.peek() in ("optional", "repeated") else ""
        if self.peek() == "map" and self.tokens[self.at + 1][0] == "<":
            self.take()
            self.expect("<")
            if self.path() != "string":
                raise self.error("the keys of a map must be strings")
            self.expect(",")
            label, type_name = "map", self.path()
            self.expect(">")
        else:
            type_name = self.path()
        name = self.take()
        self.expect("=")
        number = int(self.take(), 0)
        options = {}
        if self.accept("["):
            while not self.accept("]"):
                path, value = self.assignment()
                merge(options, path, value)
                self.accept(",")
        self.expect(";")
        return {"label": label, "type": type_name, "name": name, "number": number, "options": options}

    def enum(self, scope):
        name = self.take()
        names = self.enums[f"{scope}.{name}" if scope else name] = []
        self.expect("{")
        while not self.accept("}"):
            word = self.take()
            if word == "option":
                self.option()
            elif word == "reserved":
                while self.take() != ";":
                    pass
            elif word != ";":
                self.expect("=")
                self.accept("-")
                self.take()
                if self.accept("["):
                    while self.take() != "]":
                        pass
                self.expect(";")
                names.append(word)

    def option(self):
        found = self.assignment()
        self.expect(";")
        return found

    def assignment(self):
        """Reads `(extension).part = value`. The path is a tuple of the extension or name, and the parts."""
        if self.accept("("):
            path = (self.path(),)
            self.expect(")")
        else:
            path = (self.take(),)
        while self.accept("."):
            path += (self.take(),)
        self.expect("=")
        return path, self.value()

    def value(self):
        if self.accept("{"):
            return self.aggregate()
        if self.accept("["):
            values = []
            while not self.accept("]"):
                values.append(self.value())
                self.accept(",")
            return values
        if self.accept("-"):
            return "-" + self.take()
        token = self.tokens[self.at]
        if token[1] == "text":
            text = self.text()
            while self.at < len(self.tokens) and self.tokens[self.at][1] == "text":
                text += self.text()
            return text
        return self.take()

    def aggregate(self):
        """Reads a message in text format. A part that occurs again becomes a list."""
        parts = {}
        while not self.accept("}"):
            name = self.take()
            if not self.accept(":") and self.peek() != "{":
                raise self.error(f"expected ':' after {name!r}")
            value = self.value()
            for each in value if isinstance(value, list) else [value]:
                parts[name] = [*listed(parts[name]), each] if name in parts else each
            if not self.accept(","):
                self.accept(";")
        return parts


def listed(value):
    return value if isinstance(value, list) else [value]


def merge(options, path, value):
    """Sets an option that may be given whole, or part by part."""
    extension, *parts = path
    if not parts:
        if isinstance(value, dict):
            options.setdefault(extension, {}).update(value)
        else:
            options[extension] = value
        return
    target = options.setdefault(extension, {})
    for part in parts[:-1]:
        target = target.setdefault(part, {})
    last = parts[-1]
    target[last] = [*listed(target[last]), value] if last in target else value


def resolve(type_name, scope, names):
    """Finds the full name of a type by the scoping rules of protobuf: the innermost scope first."""
    while True:
        full = f"{scope}.{type_name}" if scope else type_name
        if full in names:
            return full
        if not scope:
            return None
        scope = scope.rpartition(".")[0]


def parse_files(path, includes):
    """Parses a file and its imports. Returns all messages and enums, and the names of the file's own messages."""
    messages, enums, own, waiting, seen = {}, {}, [], [(str(path), Path(path))], set()
    while waiting:
        name, file = waiting.pop()
        parser = Parser(file.read_text(encoding="utf-8"), name).file()
        if not seen:
            own = list(parser.messages)
        seen.add(name)
        messages |= parser.messages
        enums |= parser.enums
        for imported in parser.imports:
            if imported in seen or imported.startswith(BUILT_IN):
                continue
            found = [folder / imported for folder in [*map(Path, includes), Path(path).parent]]
            found = [candidate for candidate in found if candidate.is_file()]
            if not found:
                raise ContractError(f"{name}: the import {imported!r} is in none of the folders")
            waiting.append((imported, found[0]))
    return messages, enums, own


def load(path, includes=(), message=None):
    """Returns the contract of a file: of the named message, or of the only one with the option `record`."""
    return contract(path, *parse_files(path, includes), message)


def from_source(source, name):
    """Returns the contract of a text without imports of its own."""
    parser = Parser(source, name).file()
    return contract(name, parser.messages, parser.enums, list(parser.messages), None)


def contract(path, messages, enums, own, message):
    record = f"{OPTIONS}.record"
    if message is None:
        records = [name for name in own if record in messages[name]["options"]]
        if len(records) != 1:
            raise ContractError(f"{path}: {len(records)} messages have the option record; choose one with --message")
        message = records[0]
    if message not in messages or record not in messages[message]["options"]:
        raise ContractError(f"{path}: {message} is no message with the option record")
    option = messages[message]["options"][record]
    result = Contract(option["resource"], option["key"], listed(option.get("clustering", [])))
    for raw in sorted(messages[message]["fields"], key=lambda raw: raw["number"]):
        result.fields.append(read_field(raw, message, messages, enums))
    known = {each.name for each in result.fields}
    for name in result.primary_key:
        if name not in known:
            raise ContractError(f"{path}: {name} of the primary key is not a field")
    return result


def read_field(raw, scope, messages, enums):
    """Returns a field with its type and rules."""
    presence = {"": "required", "optional": "optional", "repeated": "list", "map": "map"}[raw["label"]]
    rule = raw["options"].get(f"{OPTIONS}.rule", {})
    result = Field(raw["name"], raw["number"], "", presence)
    type_name = raw["type"]
    if type_name in SCALARS:
        result.type = SCALARS[type_name]
    elif type_name == "google.protobuf.Timestamp":
        result.type = "timestamp"
    elif enum := resolve(type_name, scope, enums):
        result.type, result.names = "enum", tuple(enums[enum])
    else:
        kind = "a nested message" if resolve(type_name, scope, messages) else "not a type of a record"
        raise ContractError(f"field {raw['name']}: {type_name} is {kind}")
    if rule.get("format") == "UUID":
        result.type = "uuid"
    result.email = rule.get("format") == "EMAIL"
    result.max_length = int(str(rule.get("max_length", DEFAULT_MAX_LENGTH)), 0)
    result.integer_accepted = rule.get("integer_accepted") == "true"
    return result
