"""The wire between oracle and program: length-prefixed JSON frames of plain, tagged data.

Part of both sides. What crosses is rebuilt from plain values: none, bool, int, float, str and, tagged,
big ints, complex, bytes, tuples, sets, dicts. A subclass crosses as the content of its plain base, so
that no method of it does. Anything else crosses as a number that only its own side can resolve.
Limits: depth 200, 4 * 10^6 nodes, 64 MiB a frame: answers of EvalPlus's largest inputs have 10^6 nodes
and 12 MiB. One of them (Mbpp/255) has an answer of a gigabyte: above 16 MiB a value crosses as a hash,
which is equal only to that of the same values of the same types.
"""
import fcntl
import json
import marshal
import os
import select
import struct
import time

MOST_BYTES = 64 << 20
MOST_NODES = 4 * 10**6
MOST_VALUE_BYTES = 16 << 20
MOST_DEPTH = 200
ATOMS = frozenset((bool, int, float, str, type(None)))
TYPES = {
    kind.__name__: kind
    for kind in (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)
}


class Protocol(Exception):
    """The other side did not keep to the wire."""


class Late(Exception):
    """The deadline passed."""


class Hash:
    """A value too big to cross."""

    def __init__(self, text):
        self.text = text


def hash_of(value):
    """None where it is small, or not plain."""
    try:
        data = marshal.dumps(value, 2)
    except ValueError:
        return None
    if len(data) <= MOST_VALUE_BYTES:
        return None
    import hashlib

    return hashlib.sha256(data).hexdigest()


def encode(value, refer, depth=0):
    """refer: object → number, for what cannot cross."""
    kind = type(value)
    if kind is int:
        # Decimal text of big ints takes quadratic time and Python limits it; hexadecimal does not.
        return value if -(2**63) <= value < 2**63 else {"i": hex(value)}
    if kind in ATOMS:
        return value
    if depth >= MOST_DEPTH:
        raise ValueError("nested deeper than %d" % MOST_DEPTH)
    deeper = depth + 1
    if kind is list:
        return [encode(item, refer, deeper) for item in value]
    if kind is tuple:
        return {"t": [encode(item, refer, deeper) for item in value]}
    if kind is dict:
        return {"d": [[encode(k, refer, deeper), encode(v, refer, deeper)] for k, v in value.items()]}
    if kind is set:
        return {"s": [encode(item, refer, deeper) for item in value]}
    if kind is frozenset:
        return {"f": [encode(item, refer, deeper) for item in value]}
    if kind is complex:
        return {"c": [value.real, value.imag]}
    if kind is bytes:
        return {"b": value.hex()}
    if kind is bytearray:
        return {"a": value.hex()}
    if kind is type and value is TYPES.get(value.__name__):
        return {"y": value.__name__}
    for base, content in BASES:
        if isinstance(value, base):
            return encode(content(value), refer, deeper)
    if kind.__module__ == "numpy" and getattr(value, "shape", None) == ():
        return encode(value.item(), refer, deeper)
    return {"r": refer(value)}


BASES = (
    (int, lambda v: int.__add__(v, 0)),
    (float, float.__pos__),
    (str, str.__str__),
    (complex, complex.__pos__),
    (bytes, lambda v: bytes.__getitem__(v, slice(None))),
    (bytearray, lambda v: bytearray(bytearray.__getitem__(v, slice(None)))),
    (tuple, lambda v: tuple.__getitem__(v, slice(None))),
    (list, lambda v: list.__getitem__(v, slice(None))),
    (dict, lambda v: dict(dict.items(v))),
    (set, lambda v: set(set.__iter__(v))),
    (frozenset, lambda v: frozenset(frozenset.__iter__(v))),
)


class Decoder:
    """Rebuilds values from one frame. resolve: number, or name on the program's
    side, → object, for what did not cross."""

    def __init__(self, resolve):
        self.resolve = resolve
        self.left = MOST_NODES

    def decode(self, node, depth=0):
        kind = type(node)
        if kind in ATOMS:
            return node
        if depth > MOST_DEPTH:
            raise Protocol("nested deeper than %d" % MOST_DEPTH)
        if kind is list:
            return self.items(node, depth)
        if kind is not dict or len(node) != 1:
            raise Protocol("a node without a tag")
        ((tag, body),) = node.items()
        try:
            if tag == "t":
                return tuple(self.items(body, depth))
            if tag == "d":
                pairs = self.items(body, depth)
                return {key: value for key, value in pairs}
            if tag == "s":
                return set(self.items(body, depth))
            if tag == "f":
                return frozenset(self.items(body, depth))
            if tag == "i" and type(body) is str:
                return int(body, 16)
            if tag == "c":
                real, imaginary = body
                if type(real) is float and type(imaginary) is float:
                    return complex(real, imaginary)
            if tag == "b":
                return bytes.fromhex(body)
            if tag == "a":
                return bytearray.fromhex(body)
            if tag == "y" and type(body) is str and body in TYPES:
                return TYPES[body]
            if tag == "h" and type(body) is str:
                return Hash(body)
            if tag == "r" and type(body) in (int, str):
                return self.resolve(body)
        except (TypeError, ValueError) as error:
            raise Protocol("a %r that is none" % tag) from error
        raise Protocol("unknown tag")

    def items(self, nodes, depth):
        if type(nodes) is not list:
            raise Protocol("no list where one belongs")
        self.left -= len(nodes)
        if self.left < 0:
            raise Protocol("more than %d nodes" % MOST_NODES)
        return [self.decode(node, depth + 1) for node in nodes]


class Wire:
    """One end. Reads and writes wait until a deadline (time.monotonic; none: for ever)."""

    def __init__(self, source, sink):
        self.source, self.sink = source, sink
        for fd in (source, sink):
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)

    def wait(self, fd, writing, deadline):
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise Late()
            lists = ([], [fd], []) if writing else ([fd], [], [])
            if any(select.select(*lists, left)):
                return

    def send(self, message, deadline=None):
        body = json.dumps(message, separators=(",", ":")).encode()
        if len(body) > MOST_BYTES:
            raise ValueError("more than %d bytes" % MOST_BYTES)
        rest = memoryview(struct.pack(">I", len(body)) + body)
        while rest:
            try:
                rest = rest[os.write(self.sink, rest) :]
            except BlockingIOError:
                self.wait(self.sink, True, deadline)
            except BrokenPipeError:
                raise EOFError() from None

    def read(self, count, deadline):
        parts = bytearray()
        while len(parts) < count:
            try:
                part = os.read(self.source, min(count - len(parts), 1 << 20))
            except BlockingIOError:
                self.wait(self.source, False, deadline)
                continue
            if not part:
                raise EOFError()
            parts += part
        return bytes(parts)

    def receive(self, deadline=None):
        (length,) = struct.unpack(">I", self.read(4, deadline))
        if length > MOST_BYTES:
            raise Protocol("a frame of %d bytes" % length)
        try:
            message = json.loads(self.read(length, deadline))
        except (ValueError, RecursionError) as error:
            raise Protocol("a frame that is no JSON") from error
        if type(message) is not dict:
            raise Protocol("a frame that is no object")
        return message

    def silent(self):
        """Nothing has come that was not asked for."""
        return not select.select([self.source], [], [], 0)[0]
