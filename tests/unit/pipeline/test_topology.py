"""The one description of the flow hangs together."""

from __future__ import annotations

from abeyance.deployment.settings import DeploymentSettings
from abeyance.pipeline import events, topology

OURS = {event.detail_type for event in events.EVENTS}


def test_every_event_is_emitted_by_a_stage_and_reaches_the_ledger() -> None:
    emitted = {event for stage in topology.STAGES for event in stage.emits}
    assert emitted == set(events.EVENTS)
    assert topology.LEDGER.consumes == (topology.Subscription(topology.SOURCE),)


def test_stages_consume_only_what_others_emit() -> None:
    for stage in topology.STAGES:
        for subscription in stage.consumes:
            if subscription.source == topology.SOURCE:
                assert set(subscription.detail_types) <= OURS


def test_events_flow_downstream_only() -> None:
    """So that reading queue depths in this order cannot miss a message on its way."""
    order = [stage.name for stage in topology.STAGES]
    for stage in topology.STAGES:
        types = {event.detail_type for event in stage.emits}
        for other in topology.STAGES:
            taken = {kind for s in other.consumes if s.source == topology.SOURCE for kind in s.detail_types}
            if types & taken:
                assert order.index(other.name) >= order.index(stage.name)


def test_a_source_queue_waits_six_times_the_function_and_batches_fit_sqs() -> None:
    for stage in topology.STAGES:
        assert stage.visibility_timeout >= 6 * stage.timeout
        assert 1 <= stage.batch_size <= (10_000 if stage.batch_window else 10)
        assert stage.waiting_days < 14


def test_names_of_resources_are_settings() -> None:
    settings = DeploymentSettings()
    for thing in (*topology.TABLES, *topology.BUCKETS):
        assert getattr(settings, thing.setting)


def test_settings_survive_the_environment() -> None:
    settings = DeploymentSettings.of(flags_max_age=12.5, embedder="http:http://127.0.0.1:1", retention_days=3)
    assert DeploymentSettings.from_environment(settings.to_environment()).values() == settings.values()
