"""All pages of backup_service."""

from __future__ import annotations

from flask import Flask

from backup_service.context import BackupContext
from backup_service.web.backups import add_backup_pages
from backup_service.web.first import add_first_pages
from backup_service.web.key import add_key_pages
from backup_service.web.operations import add_operation_pages
from backup_service.web.schedule import add_schedule_pages
from serving.access import Access
from serving.audit import RefusalAudit
from serving.audit.pages import add_audit_pages
from serving.web.frame import Frame

PREFIX = "/admin"


def add_pages(app: Flask, context: BackupContext, access: Access, refusals: RefusalAudit) -> None:
    """Add the pages below /admin to ``app``."""
    settings = context.settings
    frame = Frame(PREFIX, settings.place, settings.web, refusals.refused)
    frame.attach(app, access)
    pages = frame.pages("pages", __name__)
    add_backup_pages(pages, context, frame)
    add_key_pages(pages, context, frame)
    add_schedule_pages(pages, context, frame)
    add_operation_pages(pages, context)
    add_first_pages(pages, context, access, frame)
    add_audit_pages(pages, context.audit_reader, frame)
    app.register_blueprint(pages)
