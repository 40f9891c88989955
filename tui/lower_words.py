"""What the layers below the screens say, in the chosen language."""

import gettext


def translated(sentence: str, catalogue: gettext.NullTranslations) -> str:
    """The sentence as the catalogue has it; itself where it has none."""
    return catalogue.gettext(sentence)
