"""An archive from a browser that runs no script: a plain form, streamed to where uploads are kept."""

from __future__ import annotations

from uuid import uuid4

from flask import Blueprint, make_response, redirect, request
from werkzeug.wrappers import Response as BaseResponse

from restore_service.context import RestoreContext
from restore_service.uploads import receive_form
from restore_service.web.choosing import choosing_page
from serving.access.cookies import CSRF_FIELD, check_token
from serving.access.entry import current_session
from serving.caller import requires, streams_form
from serving.formfile import FormFile
from serving.web.frame import Frame
from shared.errors import AccessError, SecrynError


def add_uploading_page(pages: Blueprint, context: RestoreContext, frame: Frame) -> None:
    """Add the target of the form to ``pages``."""

    @pages.post("/upload")
    @streams_form
    @requires("restore")
    def upload() -> BaseResponse:
        upload_id, most = str(uuid4()), context.settings.restore.upload_max_bytes
        try:
            file, session = FormFile.sent(), current_session()
            if session is not None:
                check_token(session, file.fields.get(CSRF_FIELD), in_form=True)
            receive_form(context.uploads, upload_id, file, request.content_length or 0, most)
        except AccessError:
            raise
        except SecrynError as error:
            page = choosing_page(context, {"backup_id": "upload"}, error)
            return make_response(page, error.http_status)
        return redirect(f"{frame.prefix}/?upload={upload_id}", 303)
