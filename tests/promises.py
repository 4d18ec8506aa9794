"""What README and documents promise, each with the tests that would fail if it were broken.

A promise stands in a document as `[its-id]`. `tests/docs/test_promises.py` checks both ways: no id without a promise
here, none here that no document makes, and no test that is not there.
"""

from types import MappingProxyType

PROMISES = MappingProxyType(
    {
        "sets-itself-up": (
            "tests/first_minutes/test_make.py::test_a_fresh_clone_runs_the_demo_and_the_tests_and_installs_once",
            "tests/first_minutes/test_make.py::test_a_python_without_ensurepip_is_enough",
            "tests/first_minutes/test_make.py::test_without_a_fit_python_there_is_one_line_with_the_remedy",
        ),
        "denied-never-sent": (
            "tests/proxy/test_one_server.py::test_a_denied_call_never_reaches_the_server",
            "tests/governor/test_governor.py::test_what_is_not_allowed_is_one_entry_and_never_forwarded",
            "tests/proxy/test_routes.py::test_under_deny_all_a_server_sees_opening_and_list_messages_only",
        ),
        "one-reading": (
            "tests/wire/test_strict.py::test_what_reads_two_ways_is_refused_under_its_id",
            "tests/proxy/test_wire.py::test_a_call_that_reads_two_ways_never_reaches_the_server",
        ),
        "changed-definition-held": (
            "tests/policy/test_decide.py::test_the_state_of_a_definition_acts_as_a_rule",
            "tests/proxy/test_calls.py::test_a_call_before_any_list_is_listed_and_compared_first",
            "tests/proxy/test_life.py::test_a_restart_compares_the_definitions_before_any_call",
        ),
        "unknown-never-resent": (
            "tests/proxy/test_several.py::test_one_servers_trouble_touches_no_other_and_repeats_no_call",
            "tests/governor/test_governor.py::test_an_answer_that_does_not_come_ends_as_unknown_when_time_is_up",
            "tests/crash/test_proxy_killed.py::test_proxies_killed_at_random_under_load_leave_no_call_without_its_record",
            "tests/evidence/test_settling.py::test_what_is_settled_is_what_became_of_the_call_and_nothing_is_settled_too_early",
            "tests/run/test_sent_once.py::test_the_same_key_is_sent_once_over_arguments_runs_processes_and_kills",
        ),
        "undone-or-untouched": (
            "tests/rollback/test_rollback_live.py::test_the_story_of_the_failed_run",
            "tests/rollback/test_rollback_live.py::test_a_killed_rollback_is_finished_by_the_next",
            "tests/rollback/test_killed_while_capturing.py::test_what_a_proxy_killed_anywhere_left_is_finished_by_a_second_rollback",
            "tests/undo/test_undo_plan.py::test_a_foreign_write_is_a_conflict_or_changes_nothing_that_the_plan_touches",
        ),
        "intent-first": (
            "tests/governor/test_governor.py::test_however_the_ports_fail_a_forward_never_comes_before_a_durable_intent",
            "tests/store/test_sqlite.py::test_the_intent_is_on_disk_before_the_receipt_is_given",
            "tests/crash/test_killed.py::test_a_process_killed_at_random_leaves_every_sent_call_on_record",
            "tests/crash/test_proxy_killed.py::test_proxies_killed_at_random_under_load_leave_no_call_without_its_record",
            "tests/crash/test_proxy_order.py::test_a_call_is_forwarded_after_its_intent_is_synced_and_answered_after_its_outcome_is",
        ),
        "outcome-first": (
            "tests/governor/test_governor.py::test_without_a_durable_outcome_the_agent_reads_that_the_tool_may_have_acted",
            "tests/store/test_failing_store.py::test_an_outcome_that_is_not_recorded_is_told_and_its_run_stops",
            "tests/crash/test_proxy_failing_store.py::test_an_outcome_that_cannot_be_recorded_is_told_and_is_unknown_after_a_restart",
        ),
        "fault-never-allows": (
            "tests/policy/test_decide.py::test_a_fault_of_ours_denies",
            "tests/proxy/test_calls.py::test_a_fault_of_ours_before_the_intent_denies_and_is_on_record",
            "tests/governor/test_governor.py::test_a_single_failure_at_any_point_never_ends_as_a_success",
        ),
        "bytes-unchanged": (
            "tests/proxy/test_one_server.py::test_an_allowed_call_goes_through_byte_for_byte",
            "tests/proxy/test_calls.py::test_what_a_tool_answers_comes_back_byte_for_byte",
            "tests/proxy/test_calls.py::test_observing_changes_no_byte",
        ),
        "env-named-only": (
            "tests/adapters/test_processes.py::test_a_server_sees_the_base_list_and_what_its_entry_names",
        ),
        "policy-loads-whole": (
            "tests/policy_files/test_load.py::test_what_is_wrong_does_not_load_and_says_where",
            "tests/policy_files/test_positions.py::test_what_versions_of_yaml_read_differently_does_not_load",
            "tests/policy_files/test_kept.py::test_a_changed_file_takes_force_and_a_bad_one_leaves_the_old_policy",
        ),
        "changed-byte-found": ("tests/docs/test_changed_byte.py::test_one_changed_byte_is_found_in_every_entry",),
        "lean-start": (
            "tests/architecture/test_lean_start.py::test_a_stdio_proxy_never_loads_what_only_people_and_http_need",
        ),
    }
)
"""Id -> tests."""
