"""Reads a pickle as data: a stack machine of our own, which calls only what it is handed.

A pickle is a program. Python's own reader can be told which names to accept, but it still sets
attributes (BUILD), grows its memo as an index says and hashes whatever is used as a key, all of
which a hostile file can turn into side effects or hours of work. This machine knows the operations
that network files consist of (pickletools lists them), refuses every other one by its name, and
counts operations and bytes against a budget. Flows in: bytes and a table of names. Flows out: dict,
list, tuple, set, text, bytes, numbers, and what the functions of the table return.
"""

import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import Any

MAX_OPERATIONS = 150_000  # a network file at 1024 pixels has about 50,000; below a second of work
MAX_NAME = 200  # bytes of a module or a name

Names = Mapping[tuple[str, str], Any]
Buffer = bytes | memoryview


class Refused(ValueError):
    """The content is not what such a file may contain."""


class Budget:
    """What one file may cost: operations of the machine, and bytes that its functions handle."""

    def __init__(self, size: int):
        self.operations, self.bytes = MAX_OPERATIONS, 4 * size + 2**16

    def spend(self, size: int) -> None:
        """Counts bytes; raises Refused once more were spent than there are."""
        self.bytes -= size
        if self.bytes < 0:
            raise Refused("it describes far more numbers than it holds")


class Name:
    """A name that the file wrote; it can be applied to arguments by the machine and no more."""

    __slots__ = ("text", "value")

    def __init__(self, text: str, value: Any):
        self.text, self.value = text, value


class Machine:
    """The stack machine for one table of names.

    Args:
      names: (module, name) -> a function, which is applied to the arguments in the file, or
        another value, which stands for itself and cannot be applied.
      budget: shared by all parts of a file.
      what: what the names of the table are, for the message about another name.
      persistent: gives the meaning of a persistent id; None = such ids are refused.
      build: (object, state) -> nothing; checks the state that follows an object other than a
        dict (whose state is dropped); None = refused.
    """

    def __init__(
        self,
        names: Names,
        budget: Budget,
        what: str,
        *,
        persistent: Callable[[Any], Any] | None = None,
        build: Callable[[Any, Any], None] | None = None,
    ):
        self.names, self.budget, self.what = names, budget, what
        self.persistent, self.build = persistent, build

    def load(self, data: Buffer, start: int = 0) -> tuple[Any, int]:
        """The value of the pickle that begins at `start`, and where it ends.

        Large byte strings are views of `data`, without a copy.

        Raises:
          Refused: another name or operation, a malformed stack, or the budget is spent.
          EOFError: the data end within the pickle.
        """
        self.data, self.at = memoryview(data), start
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        if self._take(1) != b"\x80":
            raise Refused("it is no pickle of protocol 2 or newer")
        if self._take(1)[0] not in (2, 3, 4, 5):
            raise Refused("it is a pickle of an unknown protocol")
        while True:
            self.budget.operations -= 1
            if self.budget.operations < 0:
                raise Refused(f"it has more than {MAX_OPERATIONS} operations")
            if self.at >= len(self.data):
                raise EOFError("it ends too early")
            code = self.data[self.at]
            self.at += 1
            if code == 0x2E:  # STOP
                value = self._pop()
                if self.stack or self.marks:
                    raise Refused("its stack is not empty at the end")
                return value, self.at
            operation = _OPERATIONS.get(code)
            if operation is None:
                names = {op.code: op.name for op in pickletools.opcodes}
                name = names.get(chr(code), str(code))
                raise Refused(f"the operation {name} does not occur in such a file")
            operation(self)

    # The parts of operations.

    def _take(self, count: int) -> memoryview:
        end = self.at + count
        if end > len(self.data):
            raise EOFError("it ends too early")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def _number(self, form: str) -> int:
        (value,) = struct.unpack(form, self._take(struct.calcsize(form)))
        return int(value)

    def _line(self) -> str:
        piece = bytes(self.data[self.at : self.at + MAX_NAME])
        end = piece.find(b"\n")
        if end < 0:
            raise Refused("a name without an end")
        self.at += end + 1
        return piece[:end].decode()

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def _pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise Refused("an operation without its operands")
        return self.stack.pop()

    def _top(self) -> Any:
        value = self._pop()
        self.stack.append(value)
        return value

    def _since_mark(self) -> list[Any]:
        if not self.marks:
            raise Refused("an operation without its mark")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    # Operations with more than one step.

    def _text(self, form: str) -> None:
        piece = self._take(self._number(form))
        self._push(str(piece, "utf-8", "surrogatepass"))

    def _long(self) -> None:
        self._push(int.from_bytes(self._take(self._number("<B")), "little", signed=True))

    def _memoize(self, key: int) -> None:
        self.memo[key] = self._top()

    def _recall(self, key: int) -> None:
        if key not in self.memo:
            raise Refused("it recalls what it never kept")
        self._push(self.memo[key])

    def _tuple(self, count: int) -> None:
        start = len(self.stack) - count
        if start < (self.marks[-1] if self.marks else 0):
            raise Refused("an operation without its operands")
        self.stack[start:] = [tuple(self.stack[start:])]

    def _append(self, values: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            raise Refused("it appends to something that is no list")
        target.extend(values)

    def _set_items(self, values: list[Any]) -> None:
        target = self._top()
        if type(target) is not dict or len(values) % 2:
            raise Refused("it sets items of something that is no dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[plain_key(key)] = value

    def _add_items(self) -> None:
        values = self._since_mark()
        target = self._top()
        if type(target) is not set:
            raise Refused("it adds items to something that is no set")
        target.update(plain_key(value) for value in values)

    def _global(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise Refused("a name that is no text")
        if (module, name) not in self.names:
            raise Refused(f"it names {shown(module)}.{shown(name)}, which is {self.what}")
        self._push(Name(f"{module}.{name}", self.names[module, name]))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._global(module, name)

    def _apply(self) -> None:
        arguments, name = self._pop(), self._pop()
        if not isinstance(name, Name) or not callable(name.value) or type(arguments) is not tuple:
            raise Refused("it applies something that is no function")
        plain = [a.value if isinstance(a, Name) else a for a in arguments]
        try:
            self._push(name.value(*plain))
        except TypeError as error:
            raise Refused(f"{name.text} with other arguments than usual ({error})") from error

    def _persistent(self) -> None:
        if self.persistent is None:
            raise Refused("a persistent id, which does not occur in such a file")
        pid = self._pop()
        if type(pid) is tuple:
            pid = tuple(p.value if isinstance(p, Name) else p for p in pid)
        self._push(self.persistent(pid))

    def _build(self) -> None:
        state = self._pop()
        target = self._top()
        if type(target) is dict:
            return  # attributes of an ordered dict: none that matters here
        if self.build is None:
            raise Refused("a state that does not occur in such a file")
        self.build(target, state)


def shown(text: str) -> str:
    """Text of a file for a message: short, in one line, without control characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:80])


def plain_key(key: Any) -> str | int:
    """A key of a dict or an item of a set: text or a number, which are hashed in no time."""
    if type(key) not in (str, int):
        raise Refused(f"a key that is neither text nor a number but {type(key).__name__}")
    return key


_OPERATIONS: dict[int, Callable[[Machine], None]] = {
    ord(code): operation
    for code, operation in {
        "N": lambda m: m._push(None),
        "\x88": lambda m: m._push(True),
        "\x89": lambda m: m._push(False),
        "K": lambda m: m._push(m._number("<B")),
        "M": lambda m: m._push(m._number("<H")),
        "J": lambda m: m._push(m._number("<i")),
        "\x8a": lambda m: m._long(),
        "G": lambda m: m._push(struct.unpack(">d", m._take(8))[0]),
        "\x8c": lambda m: m._text("<B"),
        "X": lambda m: m._text("<I"),
        "\x8d": lambda m: m._text("<Q"),
        "C": lambda m: m._push(bytes(m._take(m._number("<B")))),
        "B": lambda m: m._push(m._take(m._number("<I"))),
        "\x8e": lambda m: m._push(m._take(m._number("<Q"))),
        ")": lambda m: m._push(()),
        "]": lambda m: m._push([]),
        "}": lambda m: m._push({}),
        "\x8f": lambda m: m._push(set()),
        "(": lambda m: m.marks.append(len(m.stack)),
        "t": lambda m: m._push(tuple(m._since_mark())),
        "\x85": lambda m: m._tuple(1),
        "\x86": lambda m: m._tuple(2),
        "\x87": lambda m: m._tuple(3),
        "a": lambda m: m._append([m._pop()]),
        "e": lambda m: m._append(m._since_mark()),
        "s": lambda m: m._set_items(list(reversed([m._pop(), m._pop()]))),
        "u": lambda m: m._set_items(m._since_mark()),
        "\x90": lambda m: m._add_items(),
        "q": lambda m: m._memoize(m._number("<B")),
        "r": lambda m: m._memoize(m._number("<I")),
        "\x94": lambda m: m._memoize(len(m.memo)),
        "h": lambda m: m._recall(m._number("<B")),
        "j": lambda m: m._recall(m._number("<I")),
        "\x95": lambda m: m._number("<Q") and None,  # FRAME: a hint for readers of files
        "c": lambda m: m._global(m._line(), m._line()),
        "\x93": lambda m: m._stack_global(),
        "R": lambda m: m._apply(),
        "\x81": lambda m: m._apply(),  # NEWOBJ
        "Q": lambda m: m._persistent(),
        "b": lambda m: m._build(),
    }.items()
}
