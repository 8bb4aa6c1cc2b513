"""Solved problems with right numbers and words around them: pages of high reasoning depth by construction."""

import math
import random
from collections.abc import Callable


def linear_equation(generator: random.Random) -> str:
    """ax + b = cx + d with a whole solution."""
    x, a, c, b = (
        generator.randrange(-9, 10),
        generator.randrange(5, 10),
        generator.randrange(1, 5),
        generator.randrange(1, 30),
    )
    d = (a - c) * x + b
    start = generator.choice(["Solve", "We want to solve", "Find x such that", "Consider the equation"])
    return (
        f"{start} {a}x + {b} = {c}x + {d}. Subtracting {c}x from both sides gives {a - c}x + {b} = {d}, so "
        f"{a - c}x = {d - b} and therefore x = {x}. Check: {a}·({x}) + {b} = {a * x + b} and {c}·({x}) + {d} "
        f"= {c * x + d}."
    )


def quadratic(generator: random.Random) -> str:
    """x^2 + px + q = 0 through its discriminant."""
    r, s = generator.randrange(-9, 10), generator.randrange(-9, 10)
    p, q = -(r + s), r * s
    return (
        f"For x² + {p}x + {q} = 0 the discriminant is {p}² - 4·{q} = {p * p - 4 * q} = {abs(r - s)}². Hence "
        f"x = ({-p} ± {abs(r - s)})/2, i.e. x = {max(r, s)} or x = {min(r, s)}. Indeed the roots add up to {r + s} and "
        f"multiply to {r * s}, as they must."
    )


def euclid(generator: random.Random) -> str:
    """The Euclidean algorithm, and what follows from it."""
    a, b = sorted((generator.randrange(20, 400), generator.randrange(20, 400)), reverse=True)
    steps, x, y = [], a, b
    while y:
        steps.append(f"{x} = {x // y} · {y} + {x % y}")
        x, y = y, x % y
    divisor = math.gcd(a, b)
    end = "they are coprime" if divisor == 1 else f"the fraction reduces to {a // divisor}/{b // divisor}"
    return f"The greatest common divisor of {a} and {b}: {'; '.join(steps)}. The last remainder that is not "
    f"zero is {divisor}, so {end}."


def induction(generator: random.Random) -> str:
    """A sum by induction."""
    k = generator.randrange(1, 9)
    return generator.choice(
        [
            f"Claim: {k} + {2 * k} + ... + {k}n = {k}n(n + 1)/2. Proof by induction. For n = 1 both sides "
            f"equal {k}. Assume the claim "
            f"for n; adding {k}(n + 1) we get {k}n(n + 1)/2 + {k}(n + 1) = {k}(n + 1)(n + 2)/2, which is the "
            f"claim for n + 1. ∎",
            f"We show that {k + 1}^n - 1 is divisible by {k} for all n. It is true for n = 1. If {k + 1}^n - "
            f"1 = {k}m, then "
            f"{k + 1}^(n+1) - 1 = {k + 1}({k}m + 1) - 1 = {k}({k + 1}m + 1), hence divisible by {k} again, "
            f"and we are done.",
        ]
    )


def derivative(generator: random.Random) -> str:
    """Extremum of a parabola, in TeX."""
    a, x = generator.randrange(1, 8), generator.randrange(-8, 9)
    b, c = -2 * a * x, generator.randrange(-20, 20)
    return (
        f"Let $f(x) = {a}x^2 + {b}x + {c}$. Then $f'(x) = {2 * a}x + {b}$, which vanishes exactly at $x = "
        f"{x}$. Because "
        f"$f''(x) = {2 * a} > 0$, this is a minimum, with value $f({x}) = {a * x * x + b * x + c}$. Since $f$ "
        f"is convex, there is no other."
    )


def probability(generator: random.Random) -> str:
    """Drawing two of a colour."""
    red, blue = generator.randrange(2, 9), generator.randrange(2, 9)
    total = red + blue
    both, ways = math.comb(red, 2), math.comb(total, 2)
    return (
        f"An urn contains {red} red and {blue} blue balls, and two are drawn without replacement. There are "
        f"C({total}, 2) = {ways} pairs, "
        f"of which C({red}, 2) = {both} are red, so the probability of two red balls is {both}/{ways} = "
        f"{both / ways:.3f}. Given that the "
        f"first is red, it is {red - 1}/{total - 1} = {(red - 1) / (total - 1):.3f}: the draws are not independent."
    )


def congruence(generator: random.Random) -> str:
    """Last digits by a cycle of powers."""
    base, exponent = generator.choice([2, 3, 7, 8]), generator.randrange(50, 999)
    cycle = [pow(base, k, 10) for k in range(1, 5)]
    return (
        f"What is the last digit of {base}^{exponent}? The last digits of the powers of {base} repeat: "
        f"{', '.join(map(str, cycle))}, then again "
        f"{cycle[0]}. The period is 4, and {exponent} ≡ {exponent % 4} (mod 4). Therefore the answer is "
        f"{pow(base, exponent, 10)}."
    )


def contradiction(generator: random.Random) -> str:
    """Irrationality of a square root."""
    p = generator.choice([2, 3, 5, 7, 11, 13])
    return (
        f"Suppose \\(\\sqrt{{{p}}} = a/b\\) in lowest terms. Then \\(a^2 = {p}b^2\\), so {p} divides a, say a "
        f"= {p}c. It follows that "
        f"\\({p}c^2 = b^2\\), hence {p} divides b as well, which contradicts the choice of a and b. Thus "
        f"\\(\\sqrt{{{p}}}\\) is irrational."
    )


PROBLEMS: list[Callable[[random.Random], str]] = [
    linear_equation, quadratic, euclid, induction, derivative, probability, congruence, contradiction,
]  # fmt: skip


def quantities(generator: random.Random, terms: list[str]) -> str:
    """A calculation with two quantities and a change of one of them."""
    a, b = generator.randrange(2, 60), generator.randrange(2, 60)
    factor = generator.randrange(2, 6)
    unit = generator.choice(["J", "W", "V", "mg", "euros", "m/s", "kg", "%", "mmol", "N"])
    return (
        f"Take a {terms[0]} of {a} and a {terms[1]} of {b}. The {terms[2]} is their product, {a} · {b} = "
        f"{a * b} {unit}. If the {terms[1]} is "
        f"{factor} times as large, the {terms[2]} becomes {a} · {b * factor} = {a * b * factor} {unit}, "
        f"because it is proportional to it; "
        f"dividing by {a} gives back {b * factor}."
    )
