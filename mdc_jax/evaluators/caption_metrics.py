"""Generated captions against references by COCO's metrics, as pycocoevalcap computes them.

BLEU-1 to 4, METEOR, ROUGE-L and CIDEr-D (arXiv 1411.5726) after the Penn Treebank tokenizer, which like METEOR is a
Java program.
"""

import importlib.util
import shutil
from collections.abc import Sequence

NO_SPICE = "its package downloads models when it first runs"
METRICS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor", "rouge_l", "cider")


def missing() -> str:
    """Why the metrics cannot be computed here; "" where they can."""
    if importlib.util.find_spec("pycocoevalcap") is None:
        return "pycocoevalcap is not installed: pip install -r requirements-captions.txt"
    if shutil.which("java") is None:
        return "there is no java on the path, which the tokenizer and METEOR need"
    return ""


def compute(generated: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """METRICS of one generated caption per image against all references of it, over the whole corpus.

    CIDEr-D weighs words by how many of the images have them, so that it depends on which images there are, and is 0
    whatever the caption where there is one.
    Raises ValueError where an image has no reference, and OSError or ValueError where Java cannot run.
    """
    if len(generated) != len(references) or not all(map(len, references)):
        raise ValueError(f"{len(generated)} captions need as many lists of references, none of them empty")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    def tokenized(texts: Sequence[Sequence[str]]) -> dict[int, list[str]]:
        # An empty text would be lost there, and one of two lines be two, so that all that follow shift.
        return PTBTokenizer().tokenize(
            {i: [{"caption": " ".join(t.split()) or "."} for t in each] for i, each in enumerate(texts)}
        )

    ours, theirs = tokenized([[text] for text in generated]), tokenized(references)
    meteor = Meteor()
    try:
        bleu, _ = Bleu(4).compute_score(theirs, ours, verbose=0)
        values = [*bleu, meteor.compute_score(theirs, ours)[0]]
        values += [metric.compute_score(theirs, ours)[0] for metric in (Rouge(), Cider())]
    finally:
        if meteor.lock.locked():  # where Java failed; the package would wait for itself when it lets go of this
            meteor.lock.release()
        meteor.meteor_p.kill()
    return dict(zip(METRICS, map(float, values), strict=True))
