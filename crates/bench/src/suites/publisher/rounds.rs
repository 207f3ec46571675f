//! The rounds of the publisher's bench as goals and a table.

use std::fmt;

use super::http_target::HttpCosts;
use crate::measure::cost::Cost;
use crate::peers::python::Producer;
use crate::report::figure::{Figure, Goal};
use crate::report::table::{Table, cost_cells};

/// The costs of one round.
pub(super) struct Round {
    pub(super) baseline: Cost,
    pub(super) publisher: HttpCosts,
    /// With TLS and a token.
    pub(super) secured: HttpCosts,
    pub(super) benthos: Option<HttpCosts>,
    /// In the order of [`Producer::ALL`].
    pub(super) python: Option<Vec<Cost>>,
}

/// All rounds. A peer that is missing in one round is reported in none.
#[derive(Default)]
pub(super) struct Rounds(pub(super) Vec<Round>);

impl Rounds {
    pub(super) fn figures(&self) -> Vec<Figure> {
        let ratio = |name: &str, ratios: Vec<f64>, goal: f64| {
            Figure::measured(name, ratios, "ratio", Goal::AtLeast(goal))
        };
        let speed = Cost::rows_per_second;
        vec![
            ratio(
                "records/s in requests of 100, publisher / baseline",
                self.each(|round| Some(speed(&round.publisher.batched) / speed(&round.baseline))),
                1.2,
            ),
            ratio(
                "records/s in requests of 100, publisher / Benthos",
                self.each(|round| Some(speed(&round.publisher.batched) / speed(&round.benthos?.batched))),
                6.0,
            ),
            ratio(
                "one-record requests/s, 256 callers, publisher / Benthos",
                self.each(|round| Some(speed(&round.publisher.single) / speed(&round.benthos?.single))),
                2.1,
            ),
            ratio(
                "records/s in requests of 100, with TLS and a token / plain",
                self.each(|round| Some(speed(&round.secured.batched) / speed(&round.publisher.batched))),
                0.8,
            ),
            Figure::measured(
                "CPU time of a one-record request",
                self.each(|round| Some(round.publisher.single.cpu_per_million())),
                "µs",
                Goal::AtMost(16.0),
            ),
        ]
    }

    /// Throughput, CPU time and memory of each sender.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(
            "sent to Kafka by",
            &["records/s", "CPU s per million", "peak MiB"],
        );
        let mut add = |name: &str, costs: Vec<Cost>| {
            if !costs.is_empty() {
                table.push(name, cost_cells(&costs));
            }
        };
        add("producer baseline", self.each(|round| Some(round.baseline)));
        add(
            "publisher, requests of 100",
            self.each(|round| Some(round.publisher.batched)),
        );
        add(
            "publisher, requests of one",
            self.each(|round| Some(round.publisher.single)),
        );
        add(
            "publisher with TLS and a token, requests of 100",
            self.each(|round| Some(round.secured.batched)),
        );
        add(
            "publisher with TLS and a token, requests of one",
            self.each(|round| Some(round.secured.single)),
        );
        add(
            "Benthos, requests of 100",
            self.each(|round| Some(round.benthos?.batched)),
        );
        add(
            "Benthos, requests of one",
            self.each(|round| Some(round.benthos?.single)),
        );
        for (place, producer) in Producer::ALL.into_iter().enumerate() {
            let costs = self.each(|round| round.python.as_ref()?.get(place).copied());
            add(&producer.name(), costs);
        }
        table
    }

    /// A value of each round; empty if a round has none.
    fn each<T>(&self, value: impl Fn(&Round) -> Option<T>) -> Vec<T> {
        let all: Option<Vec<T>> = self.0.iter().map(value).collect();
        all.unwrap_or_default()
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let baseline = self.baseline.rows_per_second();
        write!(
            f,
            "baseline {baseline:.0} records/s, publisher {}, with TLS and a token {}",
            self.publisher, self.secured
        )?;
        if let Some(benthos) = &self.benthos {
            write!(f, ", Benthos {benthos}")?;
        }
        for (producer, cost) in Producer::ALL.into_iter().zip(self.python.iter().flatten()) {
            write!(f, ", {} {:.0}", producer.name(), cost.rows_per_second())?;
        }
        Ok(())
    }
}
