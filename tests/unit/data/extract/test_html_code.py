# ruff: noqa: E501 - markup and patterns read best unbroken
"""Every way a page lays code out gives the code exactly as it would be copied, and its language."""

import pytest

from megatron_mimo.data.extract import extract_html
from megatron_mimo.data.extract.atoms import mark_atoms
from megatron_mimo.data.extract.dom import parse
from megatron_mimo.data.extract.markdown import to_markdown

LINES = ["def f(x):", "    if x:", "", "        return x  # two  spaces", "\treturn 0"]
CODE = "\n".join(LINES)
SPANS = '<span class="k">def</span> <span class="nf">f</span>(x):\n    <span class="k">if</span> x:\n\n        <span class="k">return</span> x  # two  spaces\n\t<span class="k">return</span> 0\n'
NUMBERS = "1\n2\n3\n4\n5\n"


def each(template: str, lines: list[str] = LINES) -> str:
    """The template for every line; N is its number, CODE its text."""
    return "".join(template.replace("CODE", line).replace("N", str(at)) for at, line in enumerate(lines, start=1))


def hard(line: str) -> str:
    return line.replace("  ", "&nbsp; ").replace("\t", "&#9;")


WITH_LANGUAGE = {
    "pre": f'<pre lang="python">{SPANS}</pre>',
    "pre code": f'<pre><code class="language-python">{SPANS}</code></pre>',
    "Sphinx": f'<div class="highlight-python notranslate"><div class="highlight"><pre><span></span>{SPANS}</pre></div></div>',
    "Sphinx, line numbers": '<div class="highlight-python notranslate"><table class="highlighttable"><tr><td class="linenos"><div class="linenodiv"><pre>'
    f'{NUMBERS}</pre></div></td><td class="code"><div class="highlight"><pre><span></span>{SPANS}</pre></div></td></tr></table></div>',
    "Pygments, numbers inside": '<div class="highlight-python"><div class="highlight"><pre>'
    + each('<span class="linenos"> N</span>CODE\n') + "</pre></div></div>",
    "MkDocs Material": '<div class="language-python highlight"><table class="highlighttable"><tbody><tr><td class="linenos"><div class="linenodiv"><pre><span></span>'
    '<span class="normal">1</span>\n<span class="normal">2</span>\n<span class="normal">3</span>\n<span class="normal">4</span>\n<span class="normal">5</span></pre></div></td>'
    f'<td class="code"><div><pre id="__code_0"><span></span><button class="md-clipboard">Copy</button><code>{SPANS}</code></pre></div></td></tr></tbody></table></div>',
    "Jekyll": f'<div class="language-python highlighter-rouge"><div class="highlight"><pre class="highlight"><code>{SPANS}</code></pre></div></div>',
    "Jekyll, line numbers": '<figure class="highlight"><pre><code class="language-python" data-lang="python"><table class="rouge-table"><tbody><tr><td class="gutter gl">'
    f'<pre class="lineno">{NUMBERS}</pre></td><td class="code"><pre>{SPANS}</pre></td></tr></tbody></table></code></pre></figure>',
    "Hexo": '<figure class="highlight python"><table><tr><td class="gutter"><pre>' + each('<span class="line">N</span><br>')
    + '</pre></td><td class="code"><pre>' + each('<span class="line">CODE</span><br>') + "</pre></td></tr></table></figure>",
    "Hugo": f'<div class="highlight"><pre tabindex="0" class="chroma"><code class="language-python" data-lang="python">{each("<span class=line><span class=cl>CODE" + chr(10) + "</span></span>")}</code></pre></div>',
    "Hugo, table": '<div class="highlight"><div class="chroma"><table class="lntable"><tr><td class="lntd"><pre class="chroma"><code>'
    + each('<span class="lnt">N\n</span>') + f'</code></pre></td><td class="lntd"><pre class="chroma"><code class="language-python" data-lang="python">{SPANS}</code></pre></td></tr></table></div></div>',
    "Hugo, numbers inside": '<div class="highlight"><pre class="chroma"><code class="language-python" data-lang="python">'
    + each('<span class="line"><span class="ln">N</span><span class="cl">CODE\n</span></span>') + "</code></pre></div>",
    "Prism": f'<div class="code-toolbar"><pre class="line-numbers language-python"><code class="language-python">{SPANS}'
    '<span aria-hidden="true" class="line-numbers-rows"><span></span><span></span></span></code></pre><div class="toolbar"><div class="toolbar-item"><button>Copy</button></div></div></div>',
    "highlight.js, line numbers": '<pre><code class="hljs language-python"><table class="hljs-ln"><tbody>'
    + each('<tr><td class="hljs-ln-line hljs-ln-numbers" data-line-number="N"><div class="hljs-ln-n" data-line-number="N"></div></td><td class="hljs-ln-line hljs-ln-code" data-line-number="N">CODE</td></tr>')
    + "</tbody></table></code></pre>",
    "Docusaurus": '<div class="language-python codeBlockContainer_x theme-code-block"><div class="codeBlockContent_x"><pre class="prism-code language-python"><code class="codeBlockLines_x">'
    + each('<span class="token-line" style="color:#393A34"><span class="token plain">CODE</span><br></span>') + '</code></pre><div class="buttonGroup_x"><button>Copy</button></div></div></div>',
    "React highlighter": '<pre><code class="language-python">' + each('<span class="linenumber react-syntax-highlighter-line-number" style="user-select: none">N</span>CODE\n') + "</code></pre>",
    "Shiki": '<div class="language-python"><button class="copy"></button><span class="lang">python</span><pre class="shiki"><code>' + "\n".join(f'<span class="line">{line}</span>' for line in LINES)
    + '</code></pre><div class="line-numbers-wrapper" aria-hidden="true"><span class="line-number">1</span><br></div></div>',
    "rehype-pretty-code": '<figure><pre data-language="python"><code data-language="python" style="display:grid">' + each('<span data-line="">CODE</span>') + "</code></pre></figure>",
    "SyntaxHighlighter": '<div class="syntaxhighlighter python"><div class="toolbar"><span>?</span></div><table><tbody><tr><td class="gutter">' + each('<div class="line numberN">N</div>')
    + '</td><td class="code"><div class="container">' + each('<div class="line numberN index0 alt2"><code class="python plain">CODE</code></div>') + "</div></td></tr></tbody></table></div>",
    "WP-Syntax": f'<div class="wp_syntax"><table><tr><td class="line_numbers"><pre>{NUMBERS}</pre></td><td class="code"><pre class="python">{SPANS}</pre></td></tr></table></div>',
    "GitHub README": f'<div class="highlight highlight-source-python"><pre>{SPANS}</pre><div class="zeroclipboard-container"><clipboard-copy value="x">Copy</clipboard-copy></div></div>',
    "Stack Overflow": f'<pre class="lang-python s-code-block"><code class="hljs language-python">{SPANS}</code></pre>',
    "MediaWiki": f'<div class="mw-highlight mw-highlight-lang-python mw-content-ltr"><pre><span></span>{SPANS}</pre></div>',
    "Org mode": f'<div class="org-src-container"><pre class="src src-python">{SPANS}</pre></div>',
    "Pandoc": f'<div class="sourceCode"><pre class="sourceCode python"><code class="sourceCode python">{"".join(f"<span id=c{at}><a href=#c{at} aria-hidden=true tabindex=-1></a>{line}</span>" + chr(10) for at, line in enumerate(LINES))}</code></pre></div>',
    "ReadMe brush": f'<pre class="brush: python; gutter: true">{CODE}</pre>',
    "title bar inside": '<pre><div class="bar"><span class="lang">python</span><div>Copy code</div></div>'
    f'<code class="hljs language-python" lang="python">{SPANS}</code></pre>',
    "CSDN": f'<pre data-index="0" class="prettyprint"><code class="prism language-python has-numbering" onclick="x">{SPANS}<div class="hljs-button signin" data-title="登录后复制"></div></code>'
    '<ul class="pre-numbering"><li>1</li><li>2</li></ul></pre>',
}  # fmt: skip

WITHOUT_LANGUAGE = {
    "br and nbsp": f"<pre>{'<br>'.join(hard(line) for line in LINES)}</pre>",
    "code with br": f"<p>So:</p><code>{'<br />'.join(hard(line) for line in LINES)}</code>",
    "phpBB": f'<div class="codebox"><p>Code: <a href="#">Select all</a></p><pre><code>{CODE}\n</code></pre></div>',
    "vBulletin": f'<div class="bbcode_container"><div class="bbcode_description">Code:</div><pre class="bbcode_code">{CODE}</pre></div>',
    "prettify": f'<pre class="prettyprint linenums"><ol class="linenums">{each("<li class=L0><span class=pln>CODE</span></li>")}</ol></pre>',
    "GeSHi": f'<div style="font-family:monospace;"><ol class="geshi">{each("<li class=li1><div class=de1>CODE</div></li>")}</ol></div>',
    "Crayon": '<div class="crayon-syntax"><textarea class="crayon-plain" style="display:none">x</textarea><table class="crayon-table"><tr><td class="crayon-nums"><div class="crayon-num">1</div></td>'
    f'<td class="crayon-code"><div class="crayon-pre">{each("<div class=crayon-line>CODE</div>")}</div></td></tr></table></div>',
    "CodeMirror": f'<div class="CodeMirror-code">{each("<div><div class=CodeMirror-gutter-wrapper><div class=CodeMirror-linenumber>N</div></div><pre class=CodeMirror-line><span>CODE</span></pre></div>")}</div>',
    "Monaco": f'<div class="view-lines">{each("<div class=view-line><span>CODE</span></div>")}</div>',
    "GitHub blob": '<table class="highlight tab-size js-file-line-container">'
    + each('<tr><td id="LN" class="blob-num js-line-number" data-line-number="N"></td><td id="LCN" class="blob-code blob-code-inner js-file-line">CODE</td></tr>') + "</table>",
    "GitHub blob, new": f'<textarea id="read-only-cursor-text-area" data-testid="read-only-cursor-text-area" aria-label="file content">{CODE}</textarea>'
    + '<div class="react-code-lines">' + each('<div class="react-code-text"><div id="LCN" class="react-file-line">CODE</div></div>') + "</div>",
    "GitLab blob": '<div class="file-content code js-syntax-highlight"><div class="line-numbers">' + each('<a class="diff-line-num" href="#LN">N</a>')
    + '</div><div class="blob-content"><pre class="code highlight"><code>' + "\n".join(f'<span class="line">{line}</span>' for line in LINES) + "</code></pre></div></div>",
    "Gitea": '<table><tbody>' + each('<tr><td class="lines-num"><span data-line-number="N"></span></td><td class="lines-code chroma"><code class="code-inner">CODE</code></td></tr>') + "</tbody></table>",
    "cgit": f'<table class="blob"><tr><td class="linenumbers"><pre>{each("<a>N</a>" + chr(10))}</pre></td><td class="lines"><pre><code>{CODE}</code></pre></td></tr></table>',
    "numbers in a box": f'<div class="wrap"><div class="gutter"><pre>{NUMBERS}</pre></div><pre>{CODE}</pre></div>',
    "style alone": f'<div style="font-family: Consolas, monospace; white-space: pre;">{CODE}</div>',
    "Doxygen": '<div class="fragment">' + each('<div class="line"><a id="lN"></a><span class="lineno">    N</span>CODE</div>') + "</div>",
    "Doxygen, linked numbers": '<div class="fragment">' + each('<div class="line"><a id="lN"></a><span class="lineno"><a class="line" href="x.html">    N</a></span>CODE</div>') + "</div>",
    "WeChat": '<section class="code-snippet__fix"><ul class="code-snippet__line-index"><li></li><li></li></ul><pre class="code-snippet__js">'
    + each('<code><span class="code-snippet_outer">CODE</span></code>') + "</pre></section>",
    "phpBB 2": f'<table><tr><td><span class="genmed"><b>Code:</b></span></td></tr><tr><td class="code">{"<br />".join(hard(line) for line in LINES)}</td></tr></table>',
    "W3Schools": f'<div class="w3-code notranslate">{"<br>".join(hard(line) for line in LINES)}</div>',
    "CRLF": f"<pre>\r\n{CODE.replace(chr(10), chr(13) + chr(10))}\r\n</pre>",
    "xmp": f"<xmp>{CODE}</xmp>",
}  # fmt: skip


@pytest.mark.parametrize("name", WITH_LANGUAGE)
def test_code_is_exact_and_its_language_known(name: str) -> None:
    assert block(WITH_LANGUAGE[name]) == f"```python\n{CODE}\n```"


@pytest.mark.parametrize("name", WITHOUT_LANGUAGE)
def test_code_is_exact(name: str) -> None:
    assert block(WITHOUT_LANGUAGE[name]).removesuffix("So:\n\n") == f"```\n{CODE}\n```"


def block(part: str) -> str:
    """What is written between two paragraphs for a part of a page."""
    html = (
        f"<body><main><h1>Title</h1><p>Some words stand before.</p>{part}<p>Some words stand after.</p></main></body>"
    )
    text = extract_html(html, "").replace("So:\n\n", "")
    before, after = "# Title\n\nSome words stand before.\n\n", "\n\nSome words stand after."
    assert text.startswith(before) and text.endswith(after), text
    return text[len(before) : -len(after)]


def test_code_of_a_viewer_that_ships_json() -> None:
    script = '<script type="application/json" data-target="react-app.embeddedData">{"payload":{"blob":{"rawLines":["a = 1","  b"]}}}</script>'
    assert extract_html(f"<body><h1>f.py</h1>{script}</body>", "") == "# f.py\n\n```\na = 1\n  b\n```"


def test_code_in_a_list_starts_in_the_first_column() -> None:
    text = extract_html(f"<ul><li>First do this:<pre>{CODE}</pre></li><li>Then rest.</li></ul>", "")
    assert text == f"- First do this:\n\n```\n{CODE}\n```\n\n- Then rest."


def test_the_same_code_twice_stays_where_words_stand_between() -> None:
    twice = f"<pre>{CODE}</pre><h3>Other</h3><pre>{CODE}</pre>"
    assert extract_html(f"<p>Words.</p><h3>One</h3>{twice}", "").count(CODE) == 2
    assert extract_html(f"<p>Words.</p><div><pre>{CODE}</pre></div><div><pre>{CODE}</pre></div>", "").count(CODE) == 1


def test_blank_lines_in_code_stay() -> None:
    assert "a\n\n\n\nb" in extract_html("<p>Words.</p><pre>\n\na\n\n\n\nb\n\n</pre>", "")


def test_code_that_holds_a_fence_gets_a_longer_one() -> None:
    assert extract_html("<p>Words.</p><pre>```\nx\n```</pre>", "").endswith("````\n```\nx\n```\n````")


def test_inline_code_stays_in_its_sentence() -> None:
    assert (
        extract_html("<p>Call <code>f(a,\n b)</code> or <tt>a`b</tt> now.</p>", "")
        == "Call `f(a, b)` or `` a`b `` now."
    )


def test_a_listing_of_numbers_is_no_gutter() -> None:
    text = extract_html("<p>The output is:</p><pre>1\n2\n3</pre><p>That is all.</p>", "")
    assert "```\n1\n2\n3\n```" in text


def test_numbered_basic_lines_stay() -> None:
    text = extract_html("<p>Type:</p><pre>10 PRINT 1<br>20 GOTO 10</pre>", "")
    assert "10 PRINT 1\n20 GOTO 10" in text


def test_notebook_cells_and_outputs() -> None:
    html = """<body class="jp-Notebook"><div class="jp-Cell jp-MarkdownCell"><div class="jp-InputPrompt jp-InputArea-prompt"></div>
    <div class="jp-RenderedHTMLCommon"><h1 id="a">Fit<a class="anchor-link" href="#a">¶</a></h1><p>We fit a line.</p></div></div>
    <div class="jp-Cell jp-CodeCell"><div class="jp-Cell-inputWrapper"><div class="jp-InputArea"><div class="jp-InputPrompt jp-InputArea-prompt">In&nbsp;[1]:</div>
    <div class="jp-CodeMirrorEditor"><div class="CodeMirror cm-s-jupyter"><div class="highlight hl-ipython3"><pre><span></span>print(1)
</pre></div></div></div></div></div><div class="jp-Cell-outputWrapper"><div class="jp-OutputArea"><div class="jp-OutputArea-child"><div class="jp-OutputPrompt jp-OutputArea-prompt">Out[1]:</div>
    <div class="jp-RenderedText jp-OutputArea-output"><pre>1
</pre></div></div></div></div></div></body>"""
    assert extract_html(html, "") == "# Fit\n\nWe fit a line.\n\n```python\nprint(1)\n```\n\n```text\n1\n```"


BARE_FORMS = {
    "Discuz": '<div class="blockcode"><div id="code_x1"><ol><li>for x in y:<br /></li><li>&nbsp; &nbsp; print(x)<br /></li></ol></div><em onclick="copycode()">复制代码</em></div>',
    "a code element a word": '<div class="lines"><div><code>for</code> <code>x</code> <code>in</code> <code>y:</code></div><div><code>&nbsp;&nbsp;&nbsp;&nbsp;</code><code>print(x)</code></div></div>',
    "the same with line breaks": "<p><code>for</code> <code>x</code> <code>in</code> <code>y:</code><br><code>&nbsp;&nbsp;&nbsp;&nbsp;</code><code>print(x)</code></p>",
    "code without pre": "<p><code>for x in y:\n    print(x)</code></p>",
    "code without pre between blocks": "<code>for x in y:\n    print(x)</code>",
    "typewriter text with line breaks": "<div><tt>for x in y:<br>&nbsp;&nbsp;&nbsp; print(x)</tt></div>",
}  # fmt: skip


@pytest.mark.parametrize("name", BARE_FORMS)
def test_code_in_forms_without_pre(name: str) -> None:
    root = parse(f"<html><body><p>A loop follows.</p>{BARE_FORMS[name]}<p>It prints.</p></body></html>")
    assert root is not None
    mark_atoms(root)
    assert to_markdown(root) == "A loop follows.\n\n```\nfor x in y:\n    print(x)\n```\n\nIt prints."


def test_inline_code_that_the_source_breaks_stays_inline() -> None:
    root = parse(
        "<html><body><p>Call <code>open(name,\n mode)</code> first. <code>a</code> or <code>b</code></p></body></html>"
    )
    assert root is not None
    mark_atoms(root)
    assert to_markdown(root) == "Call `open(name, mode)` first. `a` or `b`"
