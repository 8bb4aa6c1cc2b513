"""Equality of formulas: exact for rational numbers of any length, else at many digits, at points if there are symbols.

latex2sympy (Math-Verify's parser) reads them; its own comparison rounds, so that 1/2^99 equals 1/2^98.
"""

import functools
import math
import random
from typing import Any

import sympy

MAX_BITS = 2_000_000
"""Numbers with more binary digits are not evaluated."""
MAX_CHARACTERS = 500
"""Of one formula: the parser takes minutes for longer ones."""
POINTS = 4
MIN_POINTS = 3


class Unreadable(Exception):
    """The text is no formula."""


class TooLarge(Exception):
    """The formula has a number that cannot be written down."""


@functools.lru_cache(maxsize=64)
def formula(text: str) -> Any:
    """The sympy object of LaTeX. Raises Unreadable."""
    if len(text) > MAX_CHARACTERS:
        raise Unreadable(f"a formula of {len(text)} characters")
    from latex2sympy2_extended.latex2sympy2 import (
        ConversionConfig,
        NormalizationConfig,
        latex2sympy,
        normalize_latex,
    )
    from math_verify.grader import should_treat_as_complex

    config = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )
    try:
        normal = normalize_latex(text, config=config)
        if not normal.strip():
            raise Unreadable(text)
        is_real = not should_treat_as_complex(normal)
        return latex2sympy(
            normal,
            is_real=is_real,
            convert_degrees=False,
            normalization_config=None,
            # R^2 - r^2 is not 0.
            conversion_config=ConversionConfig(lowercase_symbols=False),
        )
    except Exception as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error


def same_formula(gold: Any, answer: Any) -> bool:
    """Equality of two sympy objects. Raises TooLarge, or Unreadable for kinds that cannot be compared."""
    if isinstance(gold, sympy.MatrixBase) or isinstance(answer, sympy.MatrixBase):
        if not (isinstance(gold, sympy.MatrixBase) and isinstance(answer, sympy.MatrixBase)):
            return False
        return gold.shape == answer.shape and all(map(same_formula, gold.flat(), answer.flat()))
    if isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr):
        return same_value(prepared(gold), prepared(answer))
    if isinstance(gold, sympy.Expr) != isinstance(answer, sympy.Expr):
        return False
    if gold == answer:
        return True
    from math_verify import verify

    return bool(verify(gold, answer, float_rounding=12, timeout_seconds=None))


def prepared(expression: Any) -> Any:
    """Decimals exact, `i` and `e` the constants, everything evaluated. Raises TooLarge."""
    expression = expression.replace(lambda part: isinstance(part, sympy.Float), lambda part: sympy.Rational(str(part)))
    names = {
        symbol: {"i": sympy.I, "e": sympy.E}[symbol.name] for symbol in expression.free_symbols if symbol.name in "ie"
    }
    expression = expression.subs(names) if names else expression
    num_bits(expression)
    return expression.doit()


def num_bits(expression: Any) -> float:
    """Bound on the binary digits that its evaluation needs. Raises TooLarge."""
    bits = sum(map(num_bits, expression.args)) if expression.args else 4.0
    if isinstance(expression, sympy.Rational):
        bits = float(abs(expression.p).bit_length() + expression.q.bit_length())
    elif isinstance(expression, sympy.Pow):
        exponent = magnitude(expression.exp)
        bits = num_bits(expression.base) * max(1.0, exponent) if expression.exp.is_number else bits
    elif isinstance(expression, sympy.factorial):
        number = magnitude(expression.args[0])
        bits = number * math.log2(number + 2)
    if bits > MAX_BITS:
        raise TooLarge(f"about {bits:.0e} binary digits")
    return bits


def magnitude(expression: Any) -> float:
    """Size of a number; 1 for what has no number. Raises TooLarge."""
    if not expression.is_number:
        return 1.0
    num_bits(expression)
    try:
        return min(abs(complex(expression.evalf(15))), 1e300)
    except (TypeError, ValueError, OverflowError) as error:
        raise TooLarge(str(error)) from error


def same_value(gold: Any, answer: Any) -> bool:
    if gold == answer:
        return True
    if gold.is_Rational and answer.is_Rational:
        return False
    symbols = sorted(gold.free_symbols | answer.free_symbols, key=lambda symbol: symbol.name)
    names = {symbol.name: sympy.Symbol(symbol.name) for symbol in symbols}
    gold, answer = (one.subs({symbol: names[symbol.name] for symbol in symbols}) for one in (gold, answer))
    digits = min(30_000, 60 + int(0.7 * (num_bits(gold) + num_bits(answer))))
    if not symbols:
        return close_numbers(gold, answer, digits)
    agreed = 0
    for point in points(list(names.values())):
        expected = number_at(gold, point, digits)
        if expected is None:
            continue
        found = number_at(answer, point, digits, real=False)
        if found is None or not close(expected, found, digits):
            return False
        agreed += 1
    return agreed >= MIN_POINTS or bool(sympy.simplify(gold - answer) == 0)


def points(symbols: list[sympy.Symbol]) -> list[dict[sympy.Symbol, sympy.Rational]]:
    """Places at which two formulas are compared: both signs, large and small, no place that a formula is made for."""
    generator = random.Random("places")
    wide = [
        {
            symbol: (-1) ** (number + place) * sympy.Rational(generator.randrange(1, 3000) * 2 + 1, 1009)
            for place, symbol in enumerate(symbols)
        }
        for number in range(POINTS)
    ]
    positive = [
        {symbol: sympy.Rational(generator.randrange(1, 2000) * 2 + 1, 997) for symbol in symbols} for _ in range(POINTS)
    ]
    return wide + positive


def number_at(expression: Any, point: dict, digits: int, real: bool = True) -> Any:
    """Its value at a point; None where it has none, or no real one."""
    value = expression.subs(point).evalf(digits)
    if not value.is_number or value.has(sympy.nan, sympy.zoo, sympy.oo):
        return None
    return None if real and value.as_real_imag()[1] != 0 and not expression.has(sympy.I) else value


def close_numbers(gold: Any, answer: Any, digits: int) -> bool:
    if gold.has(sympy.oo, sympy.zoo, sympy.nan) or answer.has(sympy.oo, sympy.zoo, sympy.nan):
        return gold == answer
    values = gold.evalf(digits), answer.evalf(digits)
    if not all(value.is_number and value.is_finite is not False for value in values):
        return bool(sympy.simplify(gold - answer) == 0)
    return close(*values, digits)


def close(first: Any, second: Any, digits: int) -> bool:
    """Equal up to the last digits of the precision."""
    scale = max(abs(first), abs(second), sympy.Float(10) ** -(digits // 2))
    return bool(abs(first - second) <= scale * sympy.Float(10) ** -(digits // 2 - 10))


def same_equation(gold: tuple[Any, Any], answer: tuple[Any, Any], keeps_sign: bool = False) -> bool:
    """Whether left - right of one is a constant times that of the other; `keeps_sign`: a positive constant."""
    first, second = (prepared(left) - prepared(right) for left, right in (gold, answer))
    symbols = sorted({symbol.name for symbol in first.free_symbols | second.free_symbols})
    names = {name: sympy.Symbol(name) for name in symbols}
    first, second = (one.subs({symbol: names[symbol.name] for symbol in one.free_symbols}) for one in (first, second))
    if not symbols or first.free_symbols != second.free_symbols:
        return False
    ratios = []
    for point in points(list(names.values())):
        above, below = number_at(first, point, 60), number_at(second, point, 60)
        if above is not None and below is not None and below != 0 and above != 0:
            ratios.append(above / below)
    if len(ratios) < MIN_POINTS or (keeps_sign and not ratios[0] > 0):
        return False
    return all(close(ratios[0], ratio, 60) for ratio in ratios[1:])
