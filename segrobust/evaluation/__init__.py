"""Evaluation of networks under attack: plans, the engine, and records on disk."""

from segrobust.evaluation.adversarials import AdversarialStore
from segrobust.evaluation.plan import STANDARD_EPS, Job, Plan, plan_attacks, preset
from segrobust.evaluation.records import Record, RecordWriter, merge_records, read_records
from segrobust.evaluation.runner import run
from segrobust.evaluation.work import StridedWork, WorkSource, choose_samples

__all__ = [
    "AdversarialStore",
    "Job",
    "Plan",
    "Record",
    "RecordWriter",
    "STANDARD_EPS",
    "StridedWork",
    "WorkSource",
    "choose_samples",
    "merge_records",
    "plan_attacks",
    "preset",
    "read_records",
    "run",
]
