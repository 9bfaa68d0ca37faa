"""Formulas over figures: "'worst_group_accuracy/validation' + 0.5 * 'average_accuracy/validation'".

A figure's name stands in quotes, as it has slashes. There are numbers, + - * / **, brackets, min,
max and abs; nothing else, so that the formula of a file or a command line can do no harm.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping

from fairjax.config import nearest
from fairjax.errors import InputError

BINARY: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
UNARY: dict[type, Callable[[float], float]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
FUNCTIONS: dict[str, Callable[[list[float]], float]] = {
    "min": min,
    "max": max,
    "abs": lambda values: abs(values[0]),
}
MEND = "Write names of figures in quotes, numbers, + - * / **, brackets, min, max and abs"


def figures_in(formula: str) -> list[str]:
    """The names of the figures that a formula reads, each once.

    Raises:
      InputError: it is no formula, or reads none.
    """
    tree = _parsed(formula)
    names = [str(node.value) for node in ast.walk(tree)
             if isinstance(node, ast.Constant) and isinstance(node.value, str)]  # fmt: skip
    try:
        _value(tree, dict.fromkeys(names, 1.0), formula)
    except ArithmeticError:
        pass  # of these values; its form is sound
    if not names:
        raise InputError("it names no figure", f"formula {formula!r}", MEND)
    return list(dict.fromkeys(names))


def evaluate(formula: str, figures: Mapping[str, float | None]) -> float:
    """The value of a formula, a finite number.

    Args:
      figures: name -> value; None or NaN where a figure could not be measured.

    Raises:
      InputError: it is no formula, or names a figure that is not there.
      ArithmeticError: a figure that it reads is empty, or the result is no finite number.
    """
    known: dict[str, float] = {}
    for name in figures_in(formula):
        if name not in figures:
            raise InputError(f"no figure is named '{name}'", f"formula {formula!r}",
                             nearest(name, sorted(figures)))  # fmt: skip
        value = figures[name]
        if value is None or not math.isfinite(value):
            raise ArithmeticError(f"the figure '{name}' is empty")
        known[name] = value
    try:
        found = _value(_parsed(formula), known, formula)
    except ArithmeticError:
        found = math.nan
    if not math.isfinite(found):
        raise ArithmeticError(f"the formula {formula!r} has no finite value")
    return found


def _parsed(formula: str) -> ast.expr:
    try:
        return ast.parse(formula.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError("it cannot be read", f"formula {formula!r}", MEND) from error


def _value(node: ast.expr, figures: Mapping[str, float], formula: str) -> float:
    """Raises ArithmeticError where there is no real result."""

    def of(part: ast.expr) -> float:
        return _value(part, figures, formula)

    match node:
        case ast.Constant(value=str(name)):
            return float(figures[name])
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.UnaryOp(op=op, operand=part) if type(op) in UNARY:
            return UNARY[type(op)](of(part))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
            found = BINARY[type(op)](of(left), of(right))
            if isinstance(found, complex):
                raise ArithmeticError("a root of a negative number")
            return found
        case ast.Call(func=ast.Name(id=name), args=[_, *_] as parts, keywords=[]) if (
            name in FUNCTIONS and (name != "abs" or len(parts) == 1)
        ):
            return FUNCTIONS[name]([of(part) for part in parts])
    raise InputError(f"{ast.unparse(node)!r} is not allowed there", f"formula {formula!r}", MEND)
