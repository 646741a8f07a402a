"""Tables for the terminal, and a self-contained HTML page. No torch here."""

from convscale.report import tables
from convscale.report.frames import (
    correlation_frame,
    decision_frame,
    growth_frame,
    latency_frame,
    law_frame,
)
from convscale.report.html import check_report_path, write_report
from convscale.report.sentences import prediction_sentence, recommendation_sentence

__all__ = [
    "check_report_path",
    "correlation_frame",
    "decision_frame",
    "growth_frame",
    "latency_frame",
    "law_frame",
    "prediction_sentence",
    "recommendation_sentence",
    "tables",
    "write_report",
]
