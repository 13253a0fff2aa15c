"""All pages of restore_service."""

from __future__ import annotations

from flask import Flask

from restore_service.context import RestoreContext
from restore_service.web.checking import add_checking_pages
from restore_service.web.choosing import add_choosing_page
from restore_service.web.uploading import add_uploading_page
from restore_service.web.watching import add_watching_pages
from serving.access import Access
from serving.audit import RefusalAudit
from serving.audit.pages import add_audit_pages
from serving.web.frame import Frame

PREFIX = "/admin/restore"


def add_pages(app: Flask, context: RestoreContext, access: Access, refusals: RefusalAudit) -> None:
    """Add the pages below /admin/restore to ``app``."""
    settings = context.settings
    frame = Frame(PREFIX, settings.place, settings.web, refusals.refused)
    frame.attach(app, access)
    pages = frame.pages("pages", __name__)
    add_choosing_page(pages, context)
    add_uploading_page(pages, context, frame)
    add_checking_pages(pages, context, frame)
    add_watching_pages(pages, context, frame)
    add_audit_pages(pages, context.audit_reader, frame)
    app.register_blueprint(pages)
