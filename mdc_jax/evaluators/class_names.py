"""What the classes of a label family are called in text: a JSON file of templates and names.

    {"templates": ["a photo of a {}.", "a drawing of a {}."], "classes": ["cat", "dog"]}

The classes stand in the order of the family, one name each.
"""

import json

from etils import epath

from mdc_jax.config import ConfigError
from mdc_jax.data.sources.base import Family

_TEMPLATE = "a photo of a {}."


def texts(path: str, family: Family) -> list[list[str]]:
    """The texts of each class, one for each template.

    Args:
      path: of the file; "" takes the family's own names, "_" as a space, in "a photo of a NAME.".
      family: of classes.

    Raises ConfigError for a file that is not there or not like this, and another number of classes.
    """
    templates, classes = _read(path) if path else ([_TEMPLATE], [name.replace("_", " ") for name in family.names])
    if len(classes) != len(family.names):
        raise ConfigError(
            f"zero_shot: {path} names {len(classes)} classes; the label family has {len(family.names)}: "
            f"{', '.join(family.names)[:300]}"
        )
    return [[template.replace("{}", name) for template in templates] for name in classes]


def _read(path: str) -> tuple[list[str], list[str]]:
    try:
        content = json.loads(epath.Path(path).read_text())
        templates, classes = content["templates"], content["classes"]
        for texts_ in (templates, classes):
            if not (isinstance(texts_, list) and texts_ and all(isinstance(text, str) and text for text in texts_)):
                raise ValueError(f"{str(texts_)[:80]} is no list of texts")
        for template in templates:
            if template.count("{}") != 1:
                raise ValueError(f'the template "{template}" needs one {{}}, where the name goes')
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(
            f'zero_shot: {path} should be {{"templates": ["a photo of a {{}}."], "classes": ["cat", ...]}}: {error!r}'
        ) from error
    return templates, classes
