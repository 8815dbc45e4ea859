"""A page on which captions emerge: a slider over the steps, how sure each token was, and where it looked.

Everything is in the page: text, images and script. `page.html#step=3` opens it after three steps.
"""

import dataclasses
import html
import json
import math
from collections.abc import Sequence

import numpy as np

from mdc_jax.report.html import Page, picture

_STYLE = """
.emerging { display: grid; grid-template-columns: 14rem 1fr; gap: 1.2rem; margin: 1.6rem 0; align-items: start; }
.emerging .picture { position: relative; width: 14rem; height: 14rem; }
.emerging .picture > * { position: absolute; inset: 0; width: 100%; height: 100%; image-rendering: pixelated; }
.emerging canvas { pointer-events: none; }
.emerging input { width: 16rem; vertical-align: middle; }
.emerging p { line-height: 2.1; }
.emerging .token { border-radius: 3px; padding: .15rem .3rem; margin-right: .15rem; cursor: pointer; white-space: pre;
  background: color-mix(in srgb, #bfe3c8 calc(100% * var(--sure)), #f4c7b8); }
.emerging .token.masked { background: #333; color: transparent; }
.emerging small { color: #666; }
"""

_SCRIPT = """
for (const figure of document.querySelectorAll('.emerging')) {
  const slider = figure.querySelector('input'), said = figure.querySelector('output');
  const canvas = figure.querySelector('canvas'), tokens = [...figure.querySelectorAll('.token')];
  const show = () => {
    for (const token of tokens) {
      const masked = Number(token.dataset.step) >= Number(slider.value);
      token.classList.toggle('masked', masked);
      token.textContent = masked ? '\\u2591'.repeat(token.dataset.text.length) : token.dataset.text;
    }
    said.textContent = `after ${slider.value} of ${slider.max} steps`;
  };
  const look = token => {
    const side = canvas.width = canvas.height = Number(canvas.dataset.side), pen = canvas.getContext('2d');
    if (!token) return;
    const weights = JSON.parse(token.dataset.attention), most = Math.max(...weights);
    weights.forEach((weight, at) => {
      pen.fillStyle = `rgba(255, 60, 0, ${(0.75 * weight / most).toFixed(3)})`;
      pen.fillRect(at % side, Math.floor(at / side), 1, 1);
    });
  };
  for (const token of tokens) {
    token.addEventListener('mouseenter', () => look(token));
    token.addEventListener('mouseleave', () => look(null));
    token.addEventListener('click', () => look(token));
  }
  const asked = location.hash.match(/^#step=(\\d+)$/);
  if (asked) slider.value = asked[1];
  slider.addEventListener('input', show);
  show();
}
"""


REMASKED = "A word that was masked again (remask) appears at the step that set it last."


@dataclasses.dataclass(frozen=True)
class Token:
    """A token of a caption: its text, the step that set it last (-1: given), log p of it then, and where it looks.

    `attention` f32[N] has a weight for each patch of a square image, row by row; empty where it is not known.
    """

    text: str
    step: int
    log_prob: float
    attention: np.ndarray


@dataclasses.dataclass(frozen=True)
class Emerging:
    """An image u8[H, W, 3] with the tokens of its caption, and what stands below them."""

    title: str
    image: np.ndarray
    tokens: Sequence[Token]
    notes: Sequence[str] = ()


def after(tokens: Sequence[Token], step: int, mask: str = "░") -> str:
    """The caption after `step` steps as a line of text, with `mask` repeated in the place of what is not set yet."""
    return "".join(t.text if t.step < step else _spaced(t.text, mask) for t in tokens).strip()


def _spaced(text: str, mask: str) -> str:
    return " " * text.startswith(" ") + mask * max(len(text.strip()), 1)


def steps(tokens: Sequence[Token]) -> int:
    """Number of steps that the caption took."""
    return 1 + max((token.step for token in tokens), default=-1)


def page(title: str, captions: Sequence[Emerging]) -> Page:
    page = Page(title, style=_STYLE, script=_SCRIPT)
    page.paragraph(
        "Move a slider to watch a caption emerge: black is masked. The greener a word, the surer the model was when it "
        f"set it. Point at a word to see where in the image its prediction looked when it was set. {REMASKED}"
    )
    for caption in captions:
        page.markup(_figure(caption))
    return page


def _figure(caption: Emerging) -> str:
    side = math.isqrt(len(caption.tokens[0].attention)) if caption.tokens else 0
    last = steps(caption.tokens)
    notes = "".join(f"<div><small>{html.escape(note)}</small></div>" for note in caption.notes)
    return (
        f'<div class="emerging"><div class="picture"><img src="{picture(caption.image)}" alt="">'
        f'<canvas data-side="{side}"></canvas></div>'
        f"<div><strong>{html.escape(caption.title)}</strong>"
        f"<p>{'<wbr>'.join(map(_token, caption.tokens))}</p>"
        f'<label><input type="range" min="0" max="{last}" value="{last}"> <output></output></label>{notes}</div></div>'
    )


def _token(token: Token) -> str:
    text = html.escape(token.text)
    weights = json.dumps([round(float(weight), 5) for weight in token.attention])
    sure = math.exp(token.log_prob)
    return (
        f'<span class="token" style="--sure: {sure:.3f}" title="p = {sure:.3f}, step {token.step + 1}" '
        f'data-step="{token.step}" data-text="{text}" data-attention="{weights}">{text}</span>'
    )
