"""Reads records by docs/records.md, leniently as a streamer does, into the bytes of CQL values."""
import base64
import binascii
import json
import math
import re
import struct
import uuid
from datetime import date
from decimal import Decimal

# The property White_Space of Unicode. Python's `str.isspace` has four control characters more.
WHITE_SPACE = (
    "\t\n\v\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
INSTANT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
INTEGER = re.compile(r"-?[0-9]+")
UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
RANGES = {"int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1), "int64": (-(2**63), 2**63 - 1)}
EPOCH_DAY = date(1970, 1, 1).toordinal()
EARLIEST_MS = -62_135_596_800_000
LATEST_MS = 253_402_300_799_999


class Invalid(ValueError):
    """A value that the contract refuses. The text names the rule, never the value."""


class Number(str):
    """A JSON number as it is written."""


class Pairs(list):
    """The members of a JSON object, in order."""


def refuse_constant(name):
    raise Invalid(f"{name} is no JSON")


DECODER = json.JSONDecoder(
    object_pairs_hook=Pairs, parse_int=Number, parse_float=Number, parse_constant=refuse_constant
)


def read_record(contract, value):
    """Returns the CQL bytes of each field, None for an absent one. Raises Invalid."""
    try:
        members = DECODER.decode(value.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise Invalid("not JSON") from error
    if not isinstance(members, Pairs):
        raise Invalid("not an object")
    found = dict(members)
    if len(found) != len(members):
        given = [name for name, _ in members]
        if any(given.count(field.name) > 1 for field in contract.fields):
            raise Invalid("a field is given twice")
    return [read_field(field, found) for field in contract.fields]


def read_field(field, found):
    if field.name not in found:
        if field.presence == "required":
            raise Invalid(f"{field.name} is missing")
        return {"optional": None, "list": bytes(4), "map": bytes(4)}[field.presence]
    json_value = found[field.name]
    try:
        if field.presence == "list":
            if not isinstance(json_value, list) or isinstance(json_value, Pairs):
                raise Invalid("not an array")
            return collection([scalar(field, element) for element in json_value], len(json_value))
        if field.presence == "map":
            return read_map(field, json_value)
        return scalar(field, json_value)
    except (ValueError, OverflowError) as error:
        raise Invalid(f"{field.name}: {error}") from error


def read_map(field, members):
    if not isinstance(members, Pairs):
        raise Invalid("not an object")
    entries = sorted((text(field, name, is_key=True), scalar(field, element)) for name, element in members)
    if len({key for key, _ in entries}) != len(entries):
        raise Invalid("the same key twice")
    return collection([part for entry in entries for part in entry], len(entries))


def collection(parts, count):
    """The bytes of a frozen list, or of a frozen map with the values after their keys."""
    return struct.pack(">i", count) + b"".join(struct.pack(">i", len(part)) + part for part in parts)


def scalar(field, json_value):
    """Returns the CQL bytes of one value."""
    kind = field.type
    if kind == "bool":
        if not isinstance(json_value, bool):
            raise Invalid("not a boolean")
        return b"\1" if json_value else b"\0"
    if kind in ("float", "double"):
        if not isinstance(json_value, Number):
            raise Invalid("not a number")
        return number(kind, json_value)
    if not isinstance(json_value, str):
        raise Invalid("of the wrong type")
    if isinstance(json_value, Number) and kind not in RANGES:
        if kind == "text" and field.integer_accepted and INTEGER.fullmatch(json_value):
            return text(field, str(json_value))
        raise Invalid("of the wrong type")
    return from_text(field, json_value)


def from_text(field, value):
    """Returns the CQL bytes of a value that JSON writes as a string, or of an integer."""
    kind = field.type
    if kind == "text":
        return text(field, value)
    if kind == "uuid":
        if not UUID.fullmatch(value):
            raise Invalid("not a uuid")
        found = bytes.fromhex(value.replace("-", ""))
        if found == bytes(16):
            raise Invalid("the nil uuid")
        return found
    if kind == "timestamp":
        return struct.pack(">q", milliseconds(value))
    if kind == "enum":
        if value not in field.names:
            raise Invalid("not a name of the enum")
        return value.encode()
    if kind == "bytes":
        return from_base64(value)
    if not INTEGER.fullmatch(value):
        raise Invalid("not an integer")
    # The limit of Python's own conversion is far above any number in range.
    integer = int(value) if len(value) < 4_000 else 2**64
    lowest, highest = RANGES[kind]
    if not lowest <= integer <= highest:
        raise Invalid("out of range")
    return struct.pack(">i" if kind == "int32" else ">q", integer)


def text(field, value, is_key=False):
    if not value.strip(WHITE_SPACE):
        raise Invalid("blank")
    if len(value) > field.max_length:
        raise Invalid("too long")
    if "\0" in value:
        raise Invalid("has U+0000")
    if field.email and not is_key:
        local, at, domain = value.partition("@")
        if not (local and at and domain) or "@" in domain:
            raise Invalid("not an e-mail address")
    # Fails for half of a surrogate pair, which no text can have.
    return value.encode("utf-8")


def number(kind, value):
    double = float(value)
    if kind == "double":
        if math.isinf(double):
            raise Invalid("out of range")
        return struct.pack(">d", double + 0.0)
    # Rounding twice can end at another number than rounding once, so the double moves to its digits' side.
    exact, rounded = Decimal(value), Decimal(double)
    if math.isfinite(double) and exact != rounded:
        double = math.nextafter(double, math.inf if exact > rounded else -math.inf)
    narrow = struct.pack(">f", double)
    if math.isinf(struct.unpack(">f", narrow)[0]):
        raise Invalid("out of range")
    return struct.pack(">f", struct.unpack(">f", narrow)[0] + 0.0)


def from_base64(value):
    standard = value.replace("-", "+").replace("_", "/") if not ("+" in value or "/" in value) else value
    unpadded = standard.rstrip("=")
    padding = len(standard) - len(unpadded)
    if padding not in (0, -len(unpadded) % 4) or not unpadded.isascii():
        raise Invalid("not base64")
    try:
        decoded = base64.b64decode(unpadded + "=" * (-len(unpadded) % 4), validate=True)
    except binascii.Error as error:
        raise Invalid("not base64") from error
    if base64.b64encode(decoded).decode().rstrip("=") != unpadded:
        raise Invalid("spare bits of base64 are not zero")
    return decoded


def milliseconds(value):
    """Milliseconds since 1970 of an RFC 3339 text; further digits are dropped."""
    found = INSTANT.fullmatch(value)
    if not found:
        raise Invalid("not an instant")
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    fraction, sign, hours, minutes = found.groups()[6:]
    offset = 0
    if sign:
        if int(hours) > 23 or int(minutes) > 59:
            raise Invalid("not an offset")
        offset = (int(hours) * 60 + int(minutes)) * (1 if sign == "+" else -1)
    if hour > 23 or minute > 59 or second > 59:
        raise Invalid("not a time")
    # Year 0 has the calendar of year 400, which is 146,097 days later.
    days = date(year or 400, month, day).toordinal() - EPOCH_DAY - (0 if year else 146_097)
    result = (((days * 24 + hour) * 60 + minute - offset) * 60 + second) * 1000 + int(((fraction or "") + "000")[:3])
    if not EARLIEST_MS <= result <= LATEST_MS:
        raise Invalid("not in the years 0001 to 9999")
    return result


def instant_text(cql):
    """The canonical text of a timestamp's bytes."""
    seconds, millis = divmod(struct.unpack(">q", cql)[0], 1000)
    days, rest = divmod(seconds, 86_400)
    day = date.fromordinal(days + EPOCH_DAY)
    return f"{day.isoformat()}T{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}.{millis:03}Z"


def read_key(contract, key):
    """Returns the CQL bytes of a Kafka key. Raises Invalid."""
    field = next(field for field in contract.fields if field.name == contract.key)
    try:
        return from_text(field, key.decode("utf-8"))
    except (ValueError, OverflowError) as error:
        raise Invalid("not a key") from error


def key_text(field, cql):
    """The text of a value of the primary key, for messages. No part of a primary key is personal."""
    if field.type == "uuid" and len(cql) == 16:
        return str(uuid.UUID(bytes=cql))
    if field.type in RANGES and len(cql) in (4, 8):
        return str(int.from_bytes(cql, "big", signed=True))
    if field.type == "timestamp" and len(cql) == 8:
        return instant_text(cql)
    return ascii(cql.decode("utf-8", "backslashreplace"))[1:-1]
