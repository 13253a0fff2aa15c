"""The first time: a place without users is opened with its bootstrap credential."""

from __future__ import annotations

from flask import Blueprint, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from backup_service.context import BackupContext
from backup_service.handlers.create_administrator import CreateAdministrator, create_administrator
from serving.access import Access, check_same_origin, present_visit, set_session, sign_out
from serving.access.parsing import parsed
from serving.access.sign_in import open_place
from serving.caller import open_to_all, requires
from serving.requester import http_requester
from serving.web.frame import Frame
from shared.errors import SecrynError


def add_first_pages(pages: Blueprint, context: BackupContext, access: Access, frame: Frame) -> None:
    """Add the pages: the credential, and then what it may do."""

    def again(template: str, error: SecrynError, **shown: str) -> BaseResponse:
        frame.on_refusal(error)
        return make_response(render_template(template, error=error, **shown), error.http_status)

    @pages.get("/first")
    @open_to_all
    def first_time() -> str:
        return render_template("first/credential.html", error=None)

    @pages.post("/first")
    @open_to_all
    def enter_place() -> BaseResponse:
        check_same_origin()
        try:
            signed_in = open_place(access, request.form.get("token", ""), present_visit())
        except SecrynError as error:
            return again("first/credential.html", error)
        response = make_response(redirect(f"{frame.prefix}/first/administrator", 303))
        set_session(response, access, signed_in)
        return response

    @pages.get("/first/administrator")
    @requires("create_administrator")
    def first_administrator() -> str:
        return render_template("first/administrator.html", error=None, username="")

    @pages.post("/first/administrator")
    @requires("create_administrator")
    def make_administrator() -> BaseResponse:
        username = request.form.get("username", "")
        asked = {"username": username, "password": request.form.get("password", "")}
        try:
            command = parsed(CreateAdministrator, asked)
            create_administrator(context, access.gate, command, http_requester())
        except SecrynError as error:
            return again("first/administrator.html", error, username=username)
        response = make_response(redirect(f"{frame.prefix}/sign-in", 303))
        # The credential is spent, and with it this session.
        sign_out(response, access)
        return response
