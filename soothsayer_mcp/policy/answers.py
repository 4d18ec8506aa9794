"""How the three answers of a matcher combine. Nothing here is ever read by truthiness."""

from collections.abc import Iterable

from soothsayer_mcp.model.answer import Answer, Unsure


def every(answers: Iterable[Answer]) -> Answer:
    """Conjunction: one no is no; else one doubt is a doubt; else yes. Yes for nothing at all."""
    doubt: Unsure | None = None
    for answer in answers:
        if answer is False:
            return False
        if answer is not True and doubt is None:
            doubt = answer
    return True if doubt is None else doubt


def some(answers: Iterable[Answer]) -> Answer:
    """Disjunction: one yes is yes; else one doubt is a doubt; else no. No for nothing at all."""
    doubt: Unsure | None = None
    for answer in answers:
        if answer is True:
            return True
        if answer is not False and doubt is None:
            doubt = answer
    return False if doubt is None else doubt


def opposite(answer: Answer) -> Answer:
    """Negation; a doubt stays a doubt."""
    if answer is True:
        return False
    if answer is False:
        return True
    return answer
