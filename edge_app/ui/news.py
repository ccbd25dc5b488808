"""What is said at the foot of the screen, and what the button beside it does."""

from __future__ import annotations

from edge_app.ui.i18n import Translator
from edge_app.ui.presenters import words
from edge_app.ui.presenters.shell import News


def said(news: News, tr: Translator) -> tuple[str, str]:
    """Message and text of the button; the latter is empty where there is nothing to do."""
    if news.error is not None:
        problem = words.error(news.error, tr)
        return f"{problem.message} {problem.action}", ""
    result = words.film_line(news.film, tr)[0] if news.film is not None else ""
    return {
        "result": (tr("Result ready: {result}", result=result), tr("Open")),
        "waiting": (tr("An image came in. Whose is it?"), tr("Choose run")),
        "answer": (tr("The emergency room has answered."), tr("Open")),
        "deleted": (tr("Deleted."), tr("Undo")),
        "undone": (tr("Brought back."), ""),
    }[news.kind]
