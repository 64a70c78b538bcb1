"""Evaluation of networks under attack: plans, the engine, records on disk, numbers and pictures made of them."""

from segrobust.evaluation.adversarials import AdversarialStore
from segrobust.evaluation.api import evaluate
from segrobust.evaluation.checks import Check, check_attacks, check_network, check_records
from segrobust.evaluation.estimate import Estimate
from segrobust.evaluation.faults import Fault, read_faults
from segrobust.evaluation.judge import judge_run
from segrobust.evaluation.judgement import Judgement
from segrobust.evaluation.manifest import Manifest
from segrobust.evaluation.numbers.summarize import summarize
from segrobust.evaluation.numbers.summary import Summary
from segrobust.evaluation.plan import STANDARD_EPS, Job, Plan, plan_attacks, preset
from segrobust.evaluation.processes import Processes
from segrobust.evaluation.records import Record, RecordWriter, merge_records, read_records
from segrobust.evaluation.reporting.compare import compare_runs
from segrobust.evaluation.reporting.panels import draw_panel, panel_title, plain_label_space
from segrobust.evaluation.reporting.pictures import norm_curves, save_figure, score_curves
from segrobust.evaluation.reporting.report import Report, summarize_run, write_report
from segrobust.evaluation.reporting.tables import summary_tables
from segrobust.evaluation.run_directory import RunDirectory
from segrobust.evaluation.runner import run
from segrobust.evaluation.transfer import TransferMatrix, transfer_matrix
from segrobust.evaluation.work import SharedWork, StridedWork, WorkSource, choose_samples

__all__ = [
    "evaluate",
    "summarize_run",
    "write_report",
    "Report",
    "Summary",
    "Estimate",
    "Job",
    "Plan",
    "STANDARD_EPS",
    "plan_attacks",
    "preset",
    "run",
    "WorkSource",
    "StridedWork",
    "SharedWork",
    "Processes",
    "choose_samples",
    "Record",
    "RecordWriter",
    "read_records",
    "merge_records",
    "Fault",
    "read_faults",
    "Check",
    "check_network",
    "check_attacks",
    "check_records",
    "compare_runs",
    "judge_run",
    "Judgement",
    "transfer_matrix",
    "TransferMatrix",
    "AdversarialStore",
    "Manifest",
    "RunDirectory",
    "summarize",
    "summary_tables",
    "draw_panel",
    "panel_title",
    "plain_label_space",
    "norm_curves",
    "score_curves",
    "save_figure",
]
