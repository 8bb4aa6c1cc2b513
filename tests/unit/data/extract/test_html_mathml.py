# ruff: noqa: E501 - markup and patterns read best unbroken
"""MathML without annotation becomes TeX that means the same."""

import pytest

from megatron_mimo.data.extract.dom import parse
from megatron_mimo.data.extract.mathml import mathml_to_tex


def row(*parts: str) -> str:
    return f"<mrow>{''.join(parts)}</mrow>"


def mi(text: str) -> str:
    return f"<mi>{text}</mi>"


def mn(text: str) -> str:
    return f"<mn>{text}</mn>"


def mo(text: str) -> str:
    return f"<mo>{text}</mo>"


TABLE = "<mtable><mtr><mtd><mn>1</mn></mtd><mtd><mi>a</mi></mtd></mtr><mtr><mtd><mn>0</mn></mtd><mtd><mn>1</mn></mtd></mtr></mtable>"

CASES = [
    (f"<mfrac>{mi('x')}{row(mn('2'), mi('π'))}</mfrac>", r"\frac{x}{2\pi}"),
    (f"<msqrt>{mi('x')}{mo('+')}{mn('1')}</msqrt>", r"\sqrt{x + 1}"),
    (f"<mroot>{mi('x')}{mn('3')}</mroot>", r"\sqrt[3]{x}"),
    (f"<msup>{mi('e')}{row(mo('−'), mi('x'))}</msup>", "e^{-x}"),
    (f"<msubsup>{mi('x')}{mi('i')}{mn('2')}</msubsup>", "x_i^2"),
    (f"<msup>{mi('f')}{mo('′')}</msup>", "f'"),
    (f"<msup>{row(mo('('), mi('a'), mo(')'))}{mn('2')}</msup>", "{(a)}^2"),
    (f"<munderover>{mo('∑')}{row(mi('i'), mo('='), mn('1'))}{mi('n')}</munderover>{mi('i')}", r"\sum_{i = 1}^n i"),
    (f"<munder>{mi('lim')}{row(mi('x'), mo('→'), mn('0'))}</munder>{mi('f')}", r"\lim_{x \to 0} f"),
    (f"<msubsup>{mo('∫')}{mn('0')}{mi('∞')}</msubsup>{mi('d')}{mi('x')}", r"\int_0^\infty dx"),
    (f"<mover>{mi('x')}{mo('¯')}</mover>", r"\bar{x}"),
    (f"<mover>{row(mi('A'), mi('B'))}{mo('→')}</mover>", r"\overrightarrow{AB}"),
    (f"<mover accent='true'>{mi('θ')}{mo('^')}</mover>", r"\hat{\theta}"),
    (f"<munder><munder>{row(mi('a'), mi('b'))}{mo('⏟')}</munder>{mn('2')}</munder>", r"\underbrace{ab}_2"),
    (f"<mover>{mo('→')}{mi('f')}</mover>", r"\xrightarrow{f}"),
    (f"<mover>{mo('=')}<mtext>def</mtext></mover>", r"\overset{\text{def}}{=}"),
    (row(mo("("), TABLE, mo(")")), r"\begin{pmatrix} 1 & a \\ 0 & 1 \end{pmatrix}"),
    (f"<mfenced open='[' close=']'>{TABLE}</mfenced>", r"\begin{bmatrix} 1 & a \\ 0 & 1 \end{bmatrix}"),
    (row(mo("{"), TABLE), r"\begin{cases} 1 & a \\ 0 & 1 \end{cases}"),
    (f"<mfenced>{mi('a')}{mi('b')}</mfenced>", r"\left(a, b\right)"),
    (row(mo("("), f"<mfrac linethickness='0'>{mi('n')}{mi('k')}</mfrac>", mo(")")), r"\binom{n}{k}"),
    (f"{mi('sin')}<mo>&#x2061;</mo>{mi('x')}", r"\sin x"),
    ("<mi mathvariant='double-struck'>R</mi>", r"\mathbb{R}"),
    ("<mi>ℝ</mi><mo>∖</mo><mi>𝒜</mi>", r"\mathbb{R} \setminus \mathcal{A}"),
    (f"{mi('𝑥')}{mo('≤')}{mi('𝛼')}", r"x \le \alpha"),
    (f"{mi('a')}<mtext> if </mtext>{mi('b')}<mspace width='1em'/>{mi('c')}", r"a\text{ if }b\quad c"),
    (f"<mmultiscripts>{mi('C')}{mn('6')}<none/><mprescripts/><none/>{mn('14')}</mmultiscripts>", r"{}^{14}C_6"),
    (f"<menclose notation='updiagonalstrike'>{mi('x')}</menclose>", r"\cancel{x}"),
    (f"{mi('a')}{mo('{')}{mi('b')}{mo('}')}{mn('5')}{mo('%')}", r"a\{b\}5\%"),
    (
        f"<mtable columnalign='right left'><mtr><mtd>{mi('a')}</mtd><mtd>{mo('=')}{mi('b')}</mtd></mtr><mtr><mtd></mtd><mtd>{mo('=')}{mi('c')}</mtd></mtr></mtable>",
        r"\begin{aligned} a & =b \\  & =c \end{aligned}",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("mathml", "tex"), CASES)
def test_mathml_becomes_tex(mathml: str, tex: str) -> None:
    root = parse(f"<math>{mathml}</math>")
    assert root is not None
    assert mathml_to_tex(next(root.iter("math"))).replace("  ", " ") == tex.replace("  ", " ")


@pytest.mark.parametrize("mathml", ["<mfrac/>", "<msup/>", "<mfrac><mi>a</mi></mfrac>", "<munder/>", "<mroot/>", "<mmultiscripts/>",
                                    "<mtable/>", "<mtable><mtr/></mtable>", "<mfenced/>", "<mover><mi/><mi/></mover>", "<mspace width='x'/>",
                                    "<mspace width='-.-em'/>", "<mprescripts/>", "<menclose/>", "<msub><mi>x</mi></msub>"])  # fmt: skip
def test_broken_mathml_is_no_error(mathml: str) -> None:
    root = parse(f"<p>x<math>{mathml}</math></p>")
    assert root is not None
    assert isinstance(mathml_to_tex(next(root.iter("math"))), str)
