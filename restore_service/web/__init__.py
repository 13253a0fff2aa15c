"""The pages of restore_service: each shows a model or hands a form to the API's own handlers."""
