"""Evaluation of networks under attack: plans, the engine, records on disk, numbers and pictures made of them."""

from segrobust.evaluation.api import evaluate
from segrobust.evaluation.checks import Check, check_attacks, check_network, check_records
from segrobust.evaluation.engine.runner import run
from segrobust.evaluation.engine.runtime_estimate import Estimate
from segrobust.evaluation.engine.work import SharedWork, StridedWork, WorkSource, choose_samples
from segrobust.evaluation.jobs.distributed import Distributed
from segrobust.evaluation.numbers.summarize import summarize
from segrobust.evaluation.numbers.summary import Summary
from segrobust.evaluation.plan import STANDARD_EPS, Job, Plan, plan_attacks
from segrobust.evaluation.presets import PresetName, preset, preset_attacks
from segrobust.evaluation.reporting.comparison.compare import compare_runs
from segrobust.evaluation.reporting.figures.curves import norm_curves, save_figure, score_curves
from segrobust.evaluation.reporting.figures.panels import panel_title, plain_label_space
from segrobust.evaluation.reporting.model_card import save_evaluated_network
from segrobust.evaluation.reporting.report import Report, summarize_run, write_report
from segrobust.evaluation.reporting.terminal import summary_tables
from segrobust.evaluation.run.adversarial_images import AdversarialStore
from segrobust.evaluation.run.failures import Fault, read_faults
from segrobust.evaluation.run.manifest import Manifest
from segrobust.evaluation.run.records import Record, RecordWriter, merge_records, read_records
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.evaluation.transfer.evaluate_stored import evaluate_stored
from segrobust.evaluation.transfer.matrix import TransferMatrix, transfer_matrix
from segrobust.evaluation.transfer.transfer_result import TransferResult

__all__ = [
    "evaluate",
    "summarize_run",
    "write_report",
    "save_evaluated_network",
    "Report",
    "Summary",
    "Estimate",
    "Job",
    "Plan",
    "STANDARD_EPS",
    "plan_attacks",
    "preset",
    "preset_attacks",
    "PresetName",
    "run",
    "WorkSource",
    "StridedWork",
    "SharedWork",
    "Distributed",
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
    "evaluate_stored",
    "TransferResult",
    "transfer_matrix",
    "TransferMatrix",
    "AdversarialStore",
    "Manifest",
    "RunDirectory",
    "summarize",
    "summary_tables",
    "panel_title",
    "plain_label_space",
    "norm_curves",
    "score_curves",
    "save_figure",
]
