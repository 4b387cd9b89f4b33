//! What the rest of the coordinator counts, read when Prometheus asks.
//!
//! Nothing is kept here, so nothing can drift from the truth or cost the owner loop a cycle.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::state::run::{Counters, Handle};
use crate::store::sqlite::Store;
use crate::view::Stats;

/// Reads the newest view, the owner loop's counters and the store's.
pub(super) struct Fleet {
    handle: Handle,
    store: Store,
}

impl Fleet {
    pub(super) fn new(handle: Handle, store: Store) -> Self {
        Self { handle, store }
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fleet")
    }
}

impl Collector for Fleet {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut out = Out(encoder);
        let stats = self.handle.views.load().stats(self.handle.clock.now());
        out.nodes(&stats)?;
        out.gauge("nodes_degraded", "Nodes whose watching is impaired", stats.degraded.into())?;
        out.gauge("images", "Names of images", stats.names.into())?;
        out.gauge("digests", "Distinct images", stats.digests.into())?;
        out.gauge("replicas", "Replicas on all nodes, current or last known", stats.replicas)?;
        out.gauge("partitions", "Partitions", stats.partitions.into())?;
        out.gauge(
            "partitions_stale",
            "Partitions whose source does not answer",
            stats.stale_partitions.into(),
        )?;
        out.gauge("generation", "Number of the newest view", stats.generation)?;
        pushes(&mut out, &self.handle)?;
        removals(&mut out, &self.handle)?;
        self.counters(&mut out, &self.handle.counters)?;
        let store = self.store.stats();
        out.counter("store_commits", "Transactions written", store.commits)?;
        out.counter("store_steps", "Steps written", store.ops)?;
        out.counter("store_failures", "Transactions that could not be written", store.failures)?;
        out.gauge("store_queue_depth", "Submissions that wait to be written", wide(store.waiting))
    }
}

impl Fleet {
    fn counters(&self, out: &mut Out<'_>, counters: &Counters) -> fmt::Result {
        out.gauge("sessions", "Agents that are connected", read(&counters.sessions_open))?;
        out.gauge("queue_depth", "Events that wait for the owner loop", wide(self.handle.queued()))?;
        for (name, help, count) in [
            ("state_events", "Events the owner loop took in", &counters.events),
            ("sessions_accepted", "Sessions of agents accepted", &counters.sessions),
            ("deltas", "Steps of inventories received", &counters.deltas),
            ("snapshot_parts", "Parts of whole inventories received", &counters.snapshot_parts),
            ("resyncs", "Inventories that had to be asked for again", &counters.resyncs),
            ("views", "Views published", &counters.views),
            ("events_told", "Events told to followers", &counters.announced),
            ("store_refusals", "Batches that the store did not take", &counters.store_failures),
        ] {
            out.counter(name, help, read(count))?;
        }
        Ok(())
    }
}

fn pushes(out: &mut Out<'_>, handle: &Handle) -> fmt::Result {
    let view = handle.views.load();
    let help = "Pushes that are kept, by how they stand";
    out.gauges(("pushes", help), "state", &view.push_states())?;
    let moved = view.push_bytes();
    let by_origin = [("network", moved.fetched), ("local", moved.reused), ("resumed", moved.resumed)];
    let help = "Bytes of images that pushes brought, by where they came from";
    out.counters(("push_bytes", help), "from", &by_origin)
}

fn removals(out: &mut Out<'_>, handle: &Handle) -> fmt::Result {
    let view = handle.views.load();
    let help = "Removals that are kept, by how they stand";
    out.gauges(("removals", help), "state", &view.removal_states())?;
    let gone = view.removed_since_start();
    out.counter("removed_files", "Files of images that removals took from nodes", gone.files)?;
    out.counter("removed_bytes", "Bytes of files that removals took from nodes", gone.bytes)
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn nodes(&mut self, stats: &Stats) -> fmt::Result {
        let states = [
            ("online", stats.online.into()),
            ("syncing", stats.syncing.into()),
            ("offline", stats.offline.into()),
            ("never_seen", stats.never_seen.into()),
        ];
        self.gauges(("nodes", "Nodes by how current they are"), "state", &states)
    }

    fn gauges(&mut self, (name, help): (&str, &str), label: &str, values: &[(&str, u64)]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (value, count) in values {
            let count = ConstGauge::new(i64::try_from(*count).unwrap_or(i64::MAX));
            count.encode(family.encode_family(&[(label, *value)])?)?;
        }
        Ok(())
    }

    fn counters(&mut self, (name, help): (&str, &str), label: &str, values: &[(&str, u64)]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value, count) in values {
            ConstCounter::new(*count).encode(family.encode_family(&[(label, *value)])?)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        value.encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        ConstCounter::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }
}
