"""A Python script as HTML: coloured in the page's own colours, to be read, scrolled by keyboard and copied."""

import builtins
import io
import keyword
import tokenize

from tabs import theme
from tabs.events import COPYING
from tabs.text import escaped

# Beside a button that copies stands what it copies: code, or a link.
COPY = COPYING + """element.addEventListener('click', async (event) => {
  if (!event.target.closest('.copy')) return;
  const copied = element.querySelector('code, a');
  await copy(copied.href || copied.textContent);
  element.querySelector('.copied').textContent = 'Copied.';
});"""


def script(code: str) -> str:
    """The code with a button that copies it."""
    return (f'<div class="script"><button type="button" class="copy">{theme.COPY}</button>'
            f'<span class="copied" role="status"></span>'
            f'<pre tabindex="0" role="region" aria-label="{theme.SCRIPT}"><code>{coloured(code)}</code></pre></div>')


def coloured(code: str) -> str:
    """Strings, numbers, comments and keywords in spans; the text itself is unchanged."""
    lines = code.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    parts, end = [], 0
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        kind = _kind(token)
        if kind:
            first = starts[token.start[0] - 1] + token.start[1]
            last = starts[token.end[0] - 1] + token.end[1]
            parts += [escaped(code[end:first]), f'<span class="{kind}">{escaped(code[first:last])}</span>']
            end = last
    return "".join([*parts, escaped(code[end:])])


def _kind(token: tokenize.TokenInfo) -> str:
    if token.type == tokenize.STRING:
        return "string"
    if token.type == tokenize.COMMENT:
        return "comment"
    if token.type == tokenize.NUMBER or (token.type == tokenize.NAME and token.string in ("True", "False", "None")):
        return "number"
    if token.type == tokenize.NAME and (keyword.iskeyword(token.string) or token.string in vars(builtins)):
        return "keyword"
    return ""
