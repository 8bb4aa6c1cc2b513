# ruff: noqa: E501 - markup and patterns read best unbroken
"""Every way a page draws a formula gives the TeX its author typed, once."""

import pytest

from megatron_mimo.data.extract import extract_html

TEX = r"\frac{a}{b}"
MATHML = "<mfrac><mi>a</mi><mi>b</mi></mfrac>"
SEMANTICS = f'<semantics>{MATHML}<annotation encoding="application/x-tex">{TEX}</annotation></semantics>'
ALT = f'<img alt="{TEX}" src="/a.png"'

INLINE = {
    "MathJax 2 script": f'<script type="math/tex">{TEX}</script>',
    "MathJax 2 drawn": '<span class="MathJax_Preview">x</span><span class="MathJax" id="MathJax-Element-1-Frame">'
    f'<nobr><span>a</span><span>b</span></nobr></span><script type="math/tex" id="MathJax-Element-1">{TEX}</script>',
    "MathJax 2 drawn, MathML alone": f'<span class="MathJax_CHTML" data-mathml="&lt;math&gt;{MATHML.replace("<", "&lt;")}&lt;/math&gt;">ab</span>',
    "MathJax 2 in a container": f'<span class="math-container"><span class="MathJax_Preview"></span><script type="math/tex">{TEX}</script></span>',
    "kramdown's CDATA": f'<script type="math/tex">% <![CDATA[\n{TEX} %]]></script>',
    "MathJax 3": '<mjx-container class="MathJax" jax="CHTML"><mjx-math><mjx-mfrac>ab</mjx-mfrac></mjx-math>'
    f"<mjx-assistive-mml><math>{MATHML}</math></mjx-assistive-mml></mjx-container>",
    "MathJax 4": f'<mjx-container><mjx-math data-latex="{TEX}"><mjx-mi></mjx-mi></mjx-math></mjx-container>',
    "MathJax 3 drawing alone, CHTML": '<mjx-container jax="CHTML"><mjx-math><mjx-mfrac><mjx-frac><mjx-num><mjx-nstrut></mjx-nstrut>'
    '<mjx-mi><mjx-c class="mjx-c1D44E TEX-I"></mjx-c></mjx-mi></mjx-num><mjx-dbox><mjx-dtable><mjx-line></mjx-line><mjx-row><mjx-den>'
    '<mjx-mi><mjx-c class="mjx-c1D44F TEX-I"></mjx-c></mjx-mi></mjx-den></mjx-row></mjx-dtable></mjx-dbox></mjx-frac></mjx-mfrac></mjx-math></mjx-container>',
    "MathJax 3 drawing alone, SVG": '<mjx-container jax="SVG"><svg><g data-mml-node="math"><g data-mml-node="mfrac"><g data-mml-node="mi">'
    '<use data-c="1D44E"></use></g><g data-mml-node="mi"><use data-c="1D44F"></use></g><rect></rect></g></g></svg></mjx-container>',
    "KaTeX": f'<span class="katex"><span class="katex-mathml"><math>{SEMANTICS}</math></span><span class="katex-html" aria-hidden="true">ab</span></span>',
    "KaTeX, MathML alone": f'<span class="katex"><math xmlns="http://www.w3.org/1998/Math/MathML">{SEMANTICS}</math></span>',
    "MediaWiki": f'<span class="mwe-math-element"><span class="mwe-math-mathml-inline mwe-math-mathml-a11y" style="display: none;"><math alttext="{{\\displaystyle {TEX}}}">'
    f'<semantics><mstyle>{MATHML}</mstyle><annotation encoding="application/x-tex">{{\\displaystyle {TEX}}}</annotation></semantics></math></span>'
    f'<img class="mwe-math-fallback-image-inline" alt="{{\\displaystyle {TEX}}}" src="x.svg"></span>',
    "LaTeXML": f'<math class="ltx_Math" alttext="{TEX}" display="inline"><semantics>{MATHML}</semantics></math>',
    "MathML with a prefix": f'<m:math xmlns:m="http://www.w3.org/1998/Math/MathML">{MATHML.replace("<m", "<m:m").replace("</m", "</m:m").replace("m:m:m", "m:m")}</m:math>',
    "MathML": f"<math>{MATHML}</math>",
    "WordPress": f'{ALT} class="latex">',
    "WordPress, lazy": '<img class="lazy" src="data:image/gif;base64,xx" data-src="https://s0.wp.com/latex.php?latex=%5Cfrac%7Ba%7D%7Bb%7D&bg=ffffff">',
    "CodeCogs": '<img src="https://latex.codecogs.com/gif.latex?\\dpi{120}&space;\\frac{a}{b}">',
    "CodeCogs, encoded": '<img src="https://latex.codecogs.com/svg.image?%5Cinline%20%5Cfrac%7Ba%7D%7Bb%7D" alt="equation">',
    "Google chart": '<img src="http://chart.apis.google.com/chart?cht=tx&chl=%5Cfrac%7Ba%7D%7Bb%7D">',
    "mimeTeX": '<img src="/cgi-bin/mimetex.cgi?\\frac{a}{b}">',
    "Zhihu": '<img eeimg="1" src="https://www.zhihu.com/equation?tex=%5Cfrac%7Ba%7D%7Bb%7D" alt="[formula]">',
    "Zhihu, drawn": f'<span class="ztext-math" data-eeimg="1" data-tex="{TEX}"><span></span><span><svg></svg></span></span>',
    "GitHub": f'<math-renderer class="js-inline-math">${TEX}$</math-renderer>',
    "GitLab": f'<code class="code math js-render-math" data-math-style="inline">{TEX}</code>',
    "Pandoc": rf'<span class="math inline">\({TEX}\)</span>',
    "MkDocs": rf'<span class="arithmatex">\({TEX}\)</span>',
    "Quill": f'<span class="ql-formula" data-value="{TEX}">drawn</span>',
    "QuickLaTeX": f'{ALT} class="ql-img-inline-formula quicklatex-auto-format" title="Rendered by QuickLaTeX.com">',
    "Doxygen": f'<img class="formulaInl" alt="${TEX}$" src="form_0.png">',
    "an image without a class": f'{ALT}>',
    "AtCoder": f"<var>{TEX}</var>",
    "Codeforces": f"$$${TEX}$$$",
    "MathWorld": f'{ALT} class="inlineformula">',
    "left as it stands": f"${TEX}$",
    "left as it stands, parentheses": rf"\({TEX}\)",
}  # fmt: skip

DISPLAY = {
    "MathJax 2": f'<script type="math/tex; mode=display">{TEX}</script>',
    "MathJax 2 drawn": '<div class="MathJax_Display"><span class="MathJax" id="MathJax-Element-2-Frame">ab</span></div>'
    f'<script type="math/tex; mode=display">{TEX}</script>',
    "MathJax 3": f'<mjx-container display="true"><mjx-assistive-mml display="block"><math display="block">{MATHML}</math></mjx-assistive-mml></mjx-container>',
    "KaTeX": f'<span class="katex-display"><span class="katex"><span class="katex-mathml"><math display="block">{SEMANTICS}</math></span>'
    '<span class="katex-html">ab</span></span></span>',
    "MathML": f'<math display="block">{MATHML}</math>',
    "Sphinx": f'<div class="math notranslate nohighlight">\\[{TEX}\\]</div>',
    "Sphinx images": f'<div class="math"><p>{ALT} class="math"></p></div>',
    "Stack Exchange": f'<span class="math-container">$${TEX}$$</span>',
    "GitHub fence": f'<pre lang="math"><code class="language-math">{TEX}</code></pre>',
    "GitLab": f'<pre class="code math js-render-math" data-math-style="display"><code>{TEX}</code></pre>',
    "alone in its paragraph": f'<p>{ALT} class="latex"></p>',
    "Substack": f'<div class="latex-rendered" data-attrs=\'{{"persistentExpression":"{TEX.replace(chr(92), chr(92) * 2)}","id":"X"}}\'></div>',
    "LaTeXML": '<table class="ltx_equation ltx_eqn_table"><tbody><tr class="ltx_equation ltx_eqn_row"><td></td>'
    f'<td><math class="ltx_Math" alttext="\\displaystyle {TEX}" display="block">{MATHML}</math></td></tr></tbody></table>',
}  # fmt: skip


def page(part: str) -> str:
    return f"<html><body><main><h1>Title</h1><p>Some words before it, and {part} some words after it.</p></main></body></html>"


@pytest.mark.parametrize("name", INLINE)
def test_an_inline_formula_stands_in_its_sentence(name: str) -> None:
    text = extract_html(page(INLINE[name]), "")
    formula = rf"\({TEX}\)" if name == "left as it stands, parentheses" else f"${TEX}$"
    assert text == f"# Title\n\nSome words before it, and {formula} some words after it."


@pytest.mark.parametrize("name", DISPLAY)
def test_a_display_formula_stands_alone(name: str) -> None:
    html = f"<body><h1>Title</h1><p>Some words before it.</p>{DISPLAY[name]}<p>Some words after it.</p></body>"
    assert extract_html(html, "") == f"# Title\n\nSome words before it.\n\n$${TEX}$$\n\nSome words after it."


def test_an_equation_number_stands_behind_its_formula() -> None:
    number = '<span class="eqno">(3)<a class="headerlink" href="#e">¶</a></span>'
    html = f'<body><p>We have the following.</p><div class="math">{number}\\[{TEX}\\]</div><p>This is it.</p></body>'
    assert f"$${TEX}$$ (3)" in extract_html(html, "")


def test_rows_of_an_aligned_latexml_equation_are_whole() -> None:
    def cell(tex: str) -> str:
        return f'<td class="ltx_td"><math class="ltx_Math" alttext="\\displaystyle {tex}" display="inline"><mi>x</mi></math></td>'

    number = '<td><span class="ltx_tag ltx_tag_equation">(2)</span></td>'
    rows = f"<tr>{cell('a')}{cell('=b+c,')}{number}</tr><tr>{cell('d')}{cell('=e.')}</tr>"
    html = f'<body><p>Some words come first here.</p><table class="ltx_equationgroup">{rows}</table></body>'
    assert extract_html(html, "").endswith("$$a =b+c,$$ (2)\n\n$$d =e.$$")


def test_raw_tex_keeps_its_markdown_signs() -> None:
    tex = r"$a_1 * b_2 * c_{3}$ and \[ x_*^2 \] and $$\begin{pmatrix} 1 \\ 2 \end{pmatrix}$$"
    assert tex in extract_html(f"<p>We look at {tex} here.</p>", "")


def test_wiris_images_hold_mathml_in_disguise() -> None:
    disguised = "«math xmlns=¨http://www.w3.org/1998/Math/MathML¨»«msqrt»«mn»2«/mn»«/msqrt»«/math»"
    assert r"$\sqrt{2}$" in extract_html(
        f'<p>Root <img class="Wirisformula" data-mathml="{disguised}" alt="square root"> is.</p>', ""
    )


def test_an_ordinary_picture_is_no_formula() -> None:
    assert extract_html('<p>A boat <img src="boat.png" alt="a boat at sea"> sails on.</p>', "") == "A boat sails on."
