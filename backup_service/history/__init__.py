"""Every backup there ever was: a fold of the events, to filter, sort and page through."""

from backup_service.history.model import History, all_pages
from backup_service.history.query import HistoryQuery, parse_query

__all__ = ["History", "HistoryQuery", "all_pages", "parse_query"]
