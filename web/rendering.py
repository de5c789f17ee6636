"""Pages from templates/. Everything is escaped; a page has its request and who is signed in."""

from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.responses import Response
from starlette.templating import Jinja2Templates

TEMPLATES = Path(__file__).parent.parent / "templates"
templates = Jinja2Templates(directory=TEMPLATES)


def page(request: Request, name: str, status: int = 200, **context: Any) -> Response:
    """The template ``name``, rendered. The same URL gives a page or its fragment: hence Vary."""
    return templates.TemplateResponse(
        request, name, context, status_code=status, headers={"Vary": "HX-Request"}
    )
